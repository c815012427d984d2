"""Which person of a picture is animated, and a picture without colour, through the embedded model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cyberhost_cli import main as cli
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_model.config import GenerationConfig
from cyberhost_model.errors import InputError
from cyberhost_model.media.audio import Sound
from cyberhost_model.perception.detector import analyse
from cyberhost_model.perception.registry import embedded_detector


@pytest.fixture(scope="module")
def group(picture: np.ndarray) -> np.ndarray:
    """Two people: a smaller one on the left and a larger one on the right."""
    small = np.asarray(Image.fromarray(picture).resize((384, 384), Image.Resampling.LANCZOS))
    padded = np.pad(small, ((128, 0), (0, 0), (0, 0)), mode="edge")
    return np.concatenate([padded, picture[:, ::-1]], axis=1)


def middle(keypoints) -> float:
    return float(keypoints.face[:, 0].mean())


def test_a_face_is_chosen_by_its_place(group: np.ndarray) -> None:
    detector = embedded_detector()
    found = analyse(group, detector, "us.jpg")
    assert len(found.people) == 2 and middle(found.keypoints) > 0.5
    assert "2 faces in us.jpg: the largest is animated" in found.warnings[0] and "--face" in found.warnings[0]
    for face, left in {"left": True, 1: True, "right": False, 2: False}.items():
        chosen = analyse(group, detector, "us.jpg", face)
        assert (middle(chosen.keypoints) < 0.5) == left and chosen.warnings == []
        assert chosen.keypoints.body_score.max() > 0.3  # the chosen one's body is looked for too
    with pytest.raises(InputError, match="only 2 faces are found in us.jpg, so there is no face 3; give --face 1 to 2"):
        analyse(group, detector, "us.jpg", 3)


@pytest.mark.parametrize("face", [0, -1, "middle", True, 1.5])
def test_what_names_no_face_is_refused(face: object) -> None:
    with pytest.raises(InputError, match="left, right, largest or a number from 1"):
        GenerationConfig(face=face)  # type: ignore[arg-type]


def test_the_option(portrait_file: Path, speech_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["animate", str(portrait_file), str(speech_file), "-o", str(tmp_path / "out.mp4"), "--face"]
    assert cli.main([*start, "0"]) == ExitStatus.USAGE
    assert cli.main([*start, "2"]) == ExitStatus.INPUT
    assert "only one face is found" in capsys.readouterr().err


def test_a_grey_picture_gives_a_grey_video(host, picture: np.ndarray) -> None:
    grey = np.repeat(np.asarray(Image.fromarray(picture).convert("L"))[..., None], 3, axis=2)
    rng = np.random.default_rng(0)
    speech = Sound.from_samples(0.1 * rng.standard_normal(3200).astype(np.float32), 16_000)
    frames = np.stack(list(host.animate(grey, speech, size=256, steps=1).frames))
    assert np.ptp(frames, axis=-1).max() == 0 and frames.std() > 10

"""Encoders, detectors and adapters of published models from outside the package, registered by kind."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cyberhost_model.errors import ModelError, NetworkError
from cyberhost_model.hub import registry as adapters
from cyberhost_model.hub.registry import register_adapter
from cyberhost_model.perception import registry as detectors
from cyberhost_model.perception.detector import WholeBodyDetector, analyse
from cyberhost_model.perception.keypoint_detector import KeypointDetector
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.runtime.loading import find_model, missing_model
from cyberhost_model.speech import registry as encoders
from cyberhost_model.speech.encoder import STEP, FeatureStream
from cyberhost_model.speech.level import SpeechLevel


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    """Take back what a test registered."""
    before = [(table, dict(table)) for table in (encoders.ENCODERS, detectors.DETECTORS, adapters.ADAPTERS)]
    yield
    for table, entries in before:
        table.clear()
        table.update(entries)  # type: ignore[arg-type]


def folder_of(path: Path, **config: object) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return path


class Loudness(FeatureStream, nn.Module):
    """A speech encoder of one layer and one number: the loudness of each step."""

    layers, dim = 1, 1

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def stream(self, blocks: Iterable[np.ndarray], level: SpeechLevel) -> Iterator[Tensor]:
        for block in blocks:
            steps = np.pad(block, (0, -len(block) % STEP)).reshape(-1, STEP)
            yield torch.from_numpy(self.gain * steps.std(1)).float().reshape(-1, 1, 1)

    @staticmethod
    def from_pretrained(folder: Path) -> Loudness:
        return Loudness(json.loads((folder / "config.json").read_text())["gain"])


def test_a_speech_encoder_of_ones_own(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "speech", kind="loudness", gain=2.0)
    with pytest.raises(ModelError, match="no speech encoder of the kind 'loudness' is known"):
        encoders.load_speech(folder)
    encoders.register("loudness", Loudness.from_pretrained)
    encoder = encoders.load_speech(folder)
    sound = np.tile(np.array([-1, 1], np.float32), 1600)
    assert torch.equal(encoder.features(sound), torch.full((10, 1, 1), 2.0))
    assert [w.shape for w in encoder.stream_windows([sound], SpeechLevel(0.0, 1.0), 5, 25.0, 4)] == [(4, 1, 1)] * 5


class Middle(WholeBodyDetector):
    """A detector that finds one face in the middle of every picture."""

    def people(self, picture_u8: np.ndarray) -> list[Keypoints]:
        found = Keypoints.empty()
        found.face[:] = np.random.default_rng(0).uniform(0.4, 0.6, (68, 2))
        found.face_score[:] = 0.9
        return [found]


def test_a_detector_of_ones_own(tmp_path: Path) -> None:
    Middle.save_pretrained(tmp_path / "detector")
    with pytest.raises(ModelError, match="no detector of the kind 'Middle' is known"):
        detectors.load_detector(tmp_path / "detector")
    detectors.register("Middle", lambda folder: Middle())
    detector, warnings = detectors.load_detector(tmp_path / "detector")
    picture = np.zeros((64, 64, 3), np.uint8)
    assert isinstance(detector, Middle) and not warnings and not detector.reads_lips
    assert analyse(picture, detector).people[0].face_confidence == pytest.approx(0.9)
    assert detector.follow(picture, Keypoints.empty()) is None and len(detector.search(picture)) == 1


def test_a_detector_that_cannot_be_had(tmp_path: Path) -> None:
    def none(folder: Path) -> Middle:
        raise NetworkError("no network")

    detectors.register("far", none, weights=("dwpose",))
    folder = folder_of(tmp_path / "detector", kind="far")
    detector, warnings = detectors.load_detector(folder)
    assert isinstance(detector, KeypointDetector)
    assert warnings == ["key points come from the embedded detector in place of the model's far: no network"]
    assert detectors.named_weights(folder) == ("dwpose",)


def test_an_adapter_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = folder_of(tmp_path / "made", name="made")
    module = types.ModuleType("adapter_from_outside")
    module.ADAPTER = types.SimpleNamespace(folder=lambda: made, missing=lambda: [], named=lambda: [])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(ModelError, match="there is no model 'made-up'"):
        find_model("made-up")
    register_adapter("made-up", "adapter_from_outside")
    assert find_model("made-up") == made
    with pytest.raises(ModelError):  # the folder is no model, and says so
        missing_model("made-up")

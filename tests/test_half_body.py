"""Pictures cropped to the half body as EchoMimicV2's notebook crops them, and its poses laid into that square."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cyberhost_model import CyberHost
from cyberhost_model.config import GenerationConfig, Preset
from cyberhost_model.errors import InputError
from cyberhost_model.hub.capabilities import MODELS, check_request
from cyberhost_model.perception.crops import half_body_box
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.runtime import pipeline
from cyberhost_model.runtime.prepare import half_body_crop

SIZE = (1000, 800)


def person(middle: float = 0.5, low: float = 0.7) -> Keypoints:
    """A face from 0.2 down, and arms that end at `low`, in 0..1 of the picture."""
    found = Keypoints.empty()
    found.face[:] = np.stack([np.full(68, middle), np.linspace(0.2, 0.4, 68)], 1)
    found.body[:8] = [(middle, y) for y in (0.3, 0.45, 0.45, 0.6, low, 0.45, 0.6, low - 0.05)]
    found.face_score[:], found.body_score[:8] = 1, 1
    return found


def test_the_square_is_the_notebooks():
    """From 0.1625 of the height above the face to 0.0125 of it below the wrist, about the neck (demo.ipynb)."""
    x0, y0, x1, y1 = half_body_box(person(), SIZE)
    assert (y0, y1) == pytest.approx(((0.2 - 0.1625 * 0.5) * 800, (0.7 + 0.0125 * 0.5) * 800))
    assert x1 - x0 == pytest.approx(y1 - y0) and (x0 + x1) / 2 == pytest.approx(500)
    assert half_body_box(person(low=1.4), SIZE)[3] == 800  # the picture ends before the wrists


def test_what_is_not_seen_does_not_count():
    hidden = person()
    hidden.body_score[[4, 7]] = 0  # the elbows are lowest
    assert half_body_box(hidden, SIZE)[3] == pytest.approx((0.6 + 0.0125 * 0.4) * 800)
    hidden.body_score[[3, 6]] = 0  # no arms: down to the picture's end
    assert half_body_box(hidden, SIZE)[3] == 800
    hidden.body_score[1] = 0
    assert half_body_box(hidden, SIZE) is None and half_body_crop(np.zeros((800, 1000, 3), np.uint8), hidden) is None


@pytest.mark.parametrize("middle", [0.5, 0.1, 0.95])
def test_the_crop_lies_in_its_square(middle):
    """Points stay on what they show, and the neck is in the middle of the square, also where that is cut off."""
    picture = np.random.default_rng(0).integers(0, 255, (800, 1000, 3), np.uint8)
    half = half_body_crop(picture, person(middle))
    h, w = half.picture.shape[:2]
    (x, y), (u, v) = half.keypoints.face[0] * [w, h], person(middle).face[0] * [1000, 800]
    assert np.array_equal(half.picture[round(float(y)) - 1, round(float(x)) - 1], picture[round(v) - 1, round(u) - 1])
    left, width = half.square
    assert half.keypoints.body[1, 0] == pytest.approx(left + 0.5 * width, abs=0.005)
    assert width * w == pytest.approx(h, abs=1) and (w == h) == (middle == 0.5)


@pytest.fixture
def wide(picture: np.ndarray) -> np.ndarray:
    """A person with much beside."""
    return np.pad(picture, ((0, 0), (picture.shape[1], picture.shape[1]), (0, 0)), mode="edge")


def test_it_is_cropped_where_it_is_asked_for(host: CyberHost, picture, wide):
    plain, _ = host.open_picture(wide, GenerationConfig())
    cropped, lines = host.open_picture(wide, GenerationConfig(half_body=True))
    assert plain.canvas.picture_width > 2 * plain.canvas.picture_height
    assert cropped.canvas.picture_width < 1.3 * cropped.canvas.picture_height and plain.square == (0, 1)
    assert not [line for line in lines if "half body" in line]
    with pytest.raises(InputError, match="leave out --head or --half-body"):
        check_request("tiny", MODELS["tiny"], "animate", GenerationConfig(head=True, half_body=True))


def test_models_that_were_trained_so_have_it_cropped(host: CyberHost, picture, wide, monkeypatch):
    monkeypatch.setattr(Preset, "shows_half_bodies", True)
    cropped, lines = host.open_picture(wide, GenerationConfig())
    assert cropped.canvas.picture_width < 1.3 * cropped.canvas.picture_height
    assert [line for line in lines if "cropped to the half body" in line and "--no-half-body" in line]
    whole, lines = host.open_picture(wide, GenerationConfig(half_body=False))
    assert whole.canvas.picture_width > 2 * whole.canvas.picture_height
    shown = host.open_picture(picture, GenerationConfig(half_body=False))[0].picture_keypoints
    again, lines = host.open_picture(half_body_crop(picture, shown).picture, GenerationConfig())
    assert again.square == (0, 1) and not [line for line in lines if "half body" in line]


def test_poses_of_a_folder_lie_in_the_square(host: CyberHost, picture, tone, tmp_path: Path, monkeypatch):
    """Without retargeting, and of their program's folders alone."""
    hands = person()
    hands.hands[:], hands.hands_score[:] = (0.25, 0.5), 1
    frame = {
        "bodies": {"candidate": hands.body, "score": hands.body_score[None]},
        "hands": hands.hands,
        "hands_score": hands.hands_score,
        "faces": hands.face[None],
        "faces_score": hands.face_score[None],
        "draw_pose_params": [768, 768, 0, 768, 0, 768],
    }
    (tmp_path / "poses").mkdir()
    np.save(tmp_path / "poses/0.npy", frame, allow_pickle=True)
    placed = []
    monkeypatch.setattr(pipeline, "keep_hands", lambda *args: placed.append(args[2]) or (args[2], []))
    opened = host.open_picture(picture, GenerationConfig())[0]
    for square, expected in (((0.0, 1.0), 0.25), ((-0.2, 1.4), 0.15)):
        reference = dataclasses.replace(opened, square=square)
        monkeypatch.setattr(host, "open_picture", lambda *args, given=reference: (given, []))
        host.multimodal(picture, tone(seconds=0.2), tmp_path / "poses", retarget=False)
        assert placed[-1].hands[0, 0, 0] == pytest.approx((expected, 0.5))

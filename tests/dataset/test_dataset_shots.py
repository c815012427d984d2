"""Cuts and dissolves are found; gestures, camera moves and repeated frames are not taken for them."""

import cv2
import numpy as np
import pytest

from cyberhost_model.perception.shots import BACK, Break, ShotFinder, shots


def scene(seed: int) -> np.ndarray:
    """A smooth coloured background, larger than the frame."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.uniform(0, 255, (5, 8, 3)).astype(np.float32), (96, 54), interpolation=cv2.INTER_CUBIC).clip(
        0, 255
    )


def frame(background: np.ndarray, i: int, pan: float = 0.0) -> np.ndarray:
    """A thumbnail: something waves before the background, some noise."""
    x = int(pan * i)
    picture = background[9:45, 8 + x : 72 + x].copy()
    cv2.circle(picture, (32 + int(12 * np.sin(i / 4)), 24), 6, (220, 180, 160), -1)
    return picture + np.random.default_rng(i).normal(0, 0.5, picture.shape).astype(np.float32)


def found(frames: list[np.ndarray], fps: float = 25) -> list[Break]:
    finder = ShotFinder()
    for i, thumb in enumerate(frames):
        finder.add(i / fps, thumb)
    return finder.breaks()


@pytest.mark.parametrize("pan", [0.0, 0.2])
def test_motion_is_no_cut(pan):
    soft = scene(0) * 0.3 + 90  # it moves by whole pixels: in jerks
    assert found([frame(soft, i, pan) for i in range(75)]) == []


def test_a_cut_is_found_at_its_frame():
    cut = found([frame(scene(i // 30), i) for i in range(90)])
    assert cut == [Break(30 / 25, 30 / 25), Break(60 / 25, 60 / 25)]


def test_repeated_frames_are_no_cuts():
    slow = [frame(scene(0) * 0.3 + 90, i, 0.2) for i in range(40)]
    assert found([slow[i // 3] for i in range(120)]) == []


def test_a_dissolve_is_found_as_a_stretch():
    a, b = scene(1), scene(2)
    frames = [frame(a, i) * (1 - m) + frame(b, i) * m for i, m in enumerate(np.clip((np.arange(100) - 40) / 16, 0, 1))]
    (one,) = found(frames)
    assert 40 / 25 - BACK / 2 <= one.end < one.start <= 56 / 25 + BACK / 2
    assert one.end < 48 / 25 < one.start


def test_shots_fill_the_time():
    pieces = shots([Break(1.0, 1.0), Break(2.0, 2.5)], 0.0, 4.0)
    assert pieces == [(0.0, 1.0, False), (1.0, 2.0, False), (2.0, 2.5, True), (2.5, 4.0, False)]
    assert shots([], 0.0, 4.0) == [(0.0, 4.0, False)]

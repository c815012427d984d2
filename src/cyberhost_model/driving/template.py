"""Templates: gestures of the package, key point files and videos; fitted to any length without a jump."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cyberhost_model.conditions.pose_maps import skeleton_map
from cyberhost_model.driving.sequence import SUFFIXES, PoseSequence, is_sequence_file, read_sequence
from cyberhost_model.driving.video import read_driving
from cyberhost_model.errors import InputError
from cyberhost_model.perception.detector import Detector
from cyberhost_model.perception.keypoints import VISIBLE
from cyberhost_model.reading import exists

FOLDER = Path(__file__).parents[1] / "templates"
_TURN = 0.2  # seconds in which a template that is played forwards and backwards stops and turns


def preview(sequence: PoseSequence, side: int = 512) -> Iterator[np.ndarray]:
    """Draw the skeleton maps as frames: uint8 (H, W, 3) RGB with even sides.

    They have the sequence's aspect and the area of `side` x `side`.
    """
    root = sequence.aspect**0.5
    size = max(2, 2 * round(side * root / 2)), max(2, 2 * round(side / root / 2))
    for keypoints in sequence:
        yield np.ascontiguousarray((skeleton_map(keypoints, size) * 255).round().astype(np.uint8).transpose(1, 2, 0))


def template_names() -> list[str]:
    """List the gestures that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def load_template(
    template: str | os.PathLike[str],
    detector: Detector | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> PoseSequence:
    """Load a template by its name (`template_names`), from a key point file, a pose folder or a video.

    `detector` reads a video (default: the embedded one). Any length from one frame on is taken: `fit_length` brings it
    to the wanted one. Raises InputError for what is none of these.
    """
    name = os.fspath(template)
    path = Path(name)
    if name in template_names():
        return read_sequence(FOLDER / f"{name}.npz")
    if not is_sequence_file(path) and not exists(path):
        raise InputError(
            f"{name}: no such template; give one of {', '.join(template_names())}, a key point file "
            f"({' or '.join(SUFFIXES)}), a pose folder or a video"
        )
    return read_driving(path, detector, progress)


def fit_length(sequence: PoseSequence, n_frames: int, fps: float) -> PoseSequence:
    """Resample the sequence to `fps`, cut or repeated to `n_frames` (at least 1).

    Where its end fits its beginning (the step between them is not larger than its largest step) it loops; else it is
    played forwards and backwards, slowing down at either end. A single frame is repeated. No step at a seam is larger
    than the largest inside the template.
    """
    if n_frames < 1:
        raise ValueError(f"a template is fitted to at least one frame, not {n_frames}")
    at = np.arange(n_frames) * (sequence.fps / fps)
    last = len(sequence) - 1
    if last == 0 or at[-1] <= last:
        return sequence.sampled(at, fps)
    if loops_smoothly(sequence):
        turn = sequence.with_points(*(np.concatenate([a, a[:1]]) for a in (sequence.points(), sequence.scores())))
        return turn.sampled(at % (last + 1), fps)
    return sequence.sampled(_forth_and_back(at, last, min(_TURN * sequence.fps, last / 2)), fps)


def loops_smoothly(sequence: PoseSequence) -> bool:
    """Check whether the step from the last frame to the first is not larger than the largest inside."""
    inside, seam = step_sizes(sequence)
    return bool(len(inside) and seam <= inside.max())


def step_sizes(sequence: PoseSequence) -> tuple[np.ndarray, float]:
    """Measure how far the point that moves most goes from each frame to the next, in picture heights.

    Returns (T - 1,), and the step from the last frame to the first. A point that is visible in one of the two frames
    alone has moved without bound.
    """
    points, visible = sequence.points() * [sequence.aspect, 1], sequence.scores() > VISIBLE
    far = np.linalg.norm(np.roll(points, -1, 0) - points, axis=-1)
    both, one = np.roll(visible, -1, 0) & visible, np.roll(visible, -1, 0) ^ visible
    largest = np.where(one, np.inf, np.where(both, far, 0)).max(1)
    return largest[:-1], float(largest[-1])


def _forth_and_back(at: np.ndarray, last: int, turn: float) -> np.ndarray:
    """Places in 0..last for times `at`, walked forwards and backwards.

    The speed of one falls to nothing over `turn` frames before each end.
    """
    # A turn is a parabola: 2 * turn frames of time for `turn` frames of way, so one way takes last + 2 * turn - ... of
    # time.
    inner = last - 2 * turn
    way = inner + 4 * turn  # time from one end to the other
    t = at % (2 * way)
    t = np.where(t > way, 2 * way - t, t)
    start = t * t / (4 * turn)
    end = last - (way - t) ** 2 / (4 * turn)
    return np.where(t < 2 * turn, start, np.where(t > way - 2 * turn, end, turn + (t - 2 * turn)))

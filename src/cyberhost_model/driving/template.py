"""Templates: gestures that come with the package, key point files and videos; brought to any length without a jump."""

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

# A sequence as moving pictures of its skeleton.


def preview(sequence: PoseSequence, side: int = 512) -> Iterator[np.ndarray]:
    """The skeleton maps as frames, uint8 (H, W, 3) RGB with even sides, of the sequence's aspect and the area of
    `side` x `side`.
    """
    root = sequence.aspect**0.5
    size = max(2, 2 * round(side * root / 2)), max(2, 2 * round(side / root / 2))
    for keypoints in sequence:
        yield np.ascontiguousarray((skeleton_map(keypoints, size) * 255).round().astype(np.uint8).transpose(1, 2, 0))


FOLDER = Path(__file__).parents[1] / "templates"
_TURN = 0.2  # seconds in which a template that is played to and fro comes to rest and starts back


def template_names() -> list[str]:
    """The gestures that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def load_template(
    template: str | os.PathLike[str],
    detector: Detector | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> PoseSequence:
    """A template by its name (`template_names`), from a key point file (.npz, .json) or from a video.

    `detector` reads a video (default: the embedded one). Any length from one frame on is taken: `fit_length` brings it
    to the wanted one. Raises InputError for what is none of these.
    """
    name = os.fspath(template)
    path = Path(name)
    if name in template_names():
        return read_sequence(FOLDER / f"{name}.npz")
    if not is_sequence_file(path) and not path.exists():
        raise InputError(
            f"{name}: no such template; give one of {', '.join(template_names())}, a key point file "
            f"({' or '.join(SUFFIXES)}) or a video"
        )
    return read_driving(path, detector, progress)


def fit_length(sequence: PoseSequence, n_frames: int, fps: float) -> PoseSequence:
    """The sequence at `fps`, cut or repeated to `n_frames` (at least 1).

    Where its end fits its beginning (the step between them is not larger than its largest step) it goes round; else it
    is played to and fro, coming to rest at either end. A single frame is held. No step at a seam is larger than the
    largest inside the template.
    """
    if n_frames < 1:
        raise ValueError(f"a template is fitted to at least one frame, not {n_frames}")
    at = np.arange(n_frames) * (sequence.fps / fps)
    last = len(sequence) - 1
    if last == 0 or at[-1] <= last:
        return sequence.sampled(at, fps)
    if goes_round(sequence):
        turn = sequence.with_points(*(np.concatenate([a, a[:1]]) for a in (sequence.points(), sequence.scores())))
        return turn.sampled(at % (last + 1), fps)
    return sequence.sampled(_to_and_fro(at, last, min(_TURN * sequence.fps, last / 2)), fps)


def goes_round(sequence: PoseSequence) -> bool:
    """Whether the step from the last frame to the first is not larger than the largest inside."""
    inside, seam = steps(sequence)
    return bool(len(inside) and seam <= inside.max())


def steps(sequence: PoseSequence) -> tuple[np.ndarray, float]:
    """(T - 1,) how far the point that moves most goes from each frame to the next, in picture heights, and from the
    last frame to the first.

    A point that is seen in one of the two alone has moved without bound.
    """
    points, seen = sequence.points() * [sequence.aspect, 1], sequence.scores() > VISIBLE
    far = np.linalg.norm(np.roll(points, -1, 0) - points, axis=-1)
    both, one = np.roll(seen, -1, 0) & seen, np.roll(seen, -1, 0) ^ seen
    largest = np.where(one, np.inf, np.where(both, far, 0)).max(1)
    return largest[:-1], float(largest[-1])


def _to_and_fro(at: np.ndarray, last: int, turn: float) -> np.ndarray:
    """Places in 0..last for times `at`, walked to and fro at a speed of one that falls to nothing over `turn` frames
    before each end.
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

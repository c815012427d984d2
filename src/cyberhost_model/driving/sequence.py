"""A person's key points over time: what a driving video is reduced to, and what a template holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cyberhost_model.perception.keypoints import Keypoints

PARTS: dict[str, tuple[int, ...]] = {"body": (18,), "hands": (2, 21), "face": (68,)}
ARRAYS = tuple(name for part in PARTS for name in (part, f"{part}_score"))
N_POINTS = 18 + 42 + 68
SEEN = 0.3  # a point scored above it is drawn, and measured with


@dataclass
class PoseSequence:
    """T frames of one person, frame i at i / fps seconds.

    fps: frames a second. size: (W, H) of the picture the points lie in; only its aspect matters.
    body (T, 18, 2), hands (T, 2, 21, 2) left then right, face (T, 68, 2): float32, x and y in 0..1 of the picture's width and height;
    *_score of the same leading shape, 0 (absent) .. 1. warnings: lines for the user about what was read.
    """

    fps: float
    size: tuple[int, int]
    body: np.ndarray
    body_score: np.ndarray
    hands: np.ndarray
    hands_score: np.ndarray
    face: np.ndarray
    face_score: np.ndarray
    warnings: list[str] = field(default_factory=list)

    @staticmethod
    def of(frames: Sequence[Keypoints], fps: float, size: tuple[int, int]) -> PoseSequence:
        """The key points of single frames in a row. Raises ValueError for none."""
        if not frames:
            raise ValueError("a pose sequence needs at least one frame")
        return PoseSequence(fps, size, **{name: np.stack([getattr(k, name) for k in frames]).astype(np.float32) for name in ARRAYS})  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.body)

    def __iter__(self) -> Iterator[Keypoints]:
        return (self.frame(i) for i in range(len(self)))

    @property
    def aspect(self) -> float:
        """W / H of the picture."""
        return self.size[0] / self.size[1]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self) / self.fps

    def frame(self, i: int) -> Keypoints:
        """The key points of frame i, as copies."""
        return Keypoints(*(getattr(self, name)[i].copy() for name in ARRAYS))

    def points(self) -> np.ndarray:
        """All points (T, 128, 2): body, left hand, right hand, face."""
        return np.concatenate([self.body, self.hands.reshape(-1, 42, 2), self.face], 1)

    def scores(self) -> np.ndarray:
        """All scores (T, 128), in the order of `points`."""
        return np.concatenate([self.body_score, self.hands_score.reshape(-1, 42), self.face_score], 1)

    def with_points(self, points: np.ndarray, scores: np.ndarray, **changes: object) -> PoseSequence:
        """The same sequence of other points (T, 128, 2) and scores (T, 128), in any number of frames."""
        parts = zip(PARTS.values(), np.split(points, (18, 60), 1), np.split(scores, (18, 60), 1), strict=True)
        arrays = [array for shape, p, s in parts for array in (p.reshape(-1, *shape, 2), s.reshape(-1, *shape))]
        named = {name: array.astype(np.float32) for name, array in zip(ARRAYS, arrays, strict=True)}
        return replace(self, **{**named, "warnings": list(self.warnings), **changes})  # type: ignore[arg-type]

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> PoseSequence:
        """The same sequence with `function(points (T, 128, 2))` for its points."""
        return self.with_points(function(self.points()), self.scores())

    def cut(self, start: int, stop: int) -> PoseSequence:
        """Frames start..stop - 1."""
        return self.with_points(self.points()[start:stop], self.scores()[start:stop])

    def only(self, *parts: str) -> PoseSequence:
        """The same sequence in which nothing but `parts` ("body", "hands", "face") is seen."""
        hidden = {f"{part}_score": np.zeros_like(getattr(self, f"{part}_score")) for part in PARTS if part not in parts}
        return replace(self, **hidden, warnings=list(self.warnings))  # type: ignore[arg-type]

    def sampled(self, at: np.ndarray, fps: float) -> PoseSequence:
        """The sequence at the places `at` (n,), in frames and between them, clipped to its ends; its rate becomes `fps`.

        A point seen on both sides moves in a straight line between them; one seen on one side alone is that side's, where it is the nearer.
        """
        at = np.clip(np.asarray(at, np.float64), 0, len(self) - 1)
        low = np.minimum(at.astype(int), max(len(self) - 2, 0))
        high = np.minimum(low + 1, len(self) - 1)
        share = (at - low)[:, None]
        points, scores = self.points(), self.scores()
        both = (scores[low] > 0) & (scores[high] > 0)
        weight = np.where(both, share, share >= 0.5)
        # Not a + w (b - a): where the weight is 0 or 1 the point is copied exactly, and a point that is not seen may be NaN.
        a, b = points[low], points[high]
        mixed = np.where(weight[..., None] == 0, a, np.where(weight[..., None] == 1, b, (1 - weight[..., None]) * a + weight[..., None] * b))
        return self.with_points(mixed, (1 - weight) * scores[low] + weight * scores[high], fps=float(fps))

    def resampled(self, fps: float, n_frames: int | None = None) -> PoseSequence:
        """The sequence at another frame rate, frame i again at i / fps seconds; `n_frames` (default: as long as it lasts) holds the last pose."""
        n = max(1, round(self.seconds * fps)) if n_frames is None else n_frames
        return self.sampled(np.arange(n) * (self.fps / fps), fps)

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write it as .npz or .json by the name's end (docs/driving.md), whole or not at all. Raises OutputError."""
        from cyberhost_model.driving.formats import write_sequence

        return write_sequence(self, path, overwrite)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> PoseSequence:
        """Read a file that `save` wrote, or one like it. Raises InputError."""
        from cyberhost_model.driving.formats import read_sequence

        return read_sequence(path)


def held(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Points (T, P, 2) with those not `seen` (T, P) put on the straight line between the frames that show them, and held at the ends.

    One that is never seen stays as it is.
    """
    out, at = points.copy(), np.arange(len(points))
    for p in np.flatnonzero(seen.any(0) & ~seen.all(0)):
        here = np.flatnonzero(seen[:, p])
        for axis in range(2):
            out[:, p, axis] = np.interp(at, here, points[here, p, axis])
    return out

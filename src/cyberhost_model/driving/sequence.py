"""PoseSequence: a person's key points over time, and the files that hold them (docs/reference/file-formats.md).

`.npz` and `.json` files have the same names. They are read strictly; nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.media.files import check_target, written_whole
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.reading import (
    TooLarge,
    Unreadable,
    exists,
    is_folder,
    is_number,
    one_line,
    read_arrays,
    read_json,
    short,
)

PARTS: dict[str, tuple[int, ...]] = {"body": (18,), "hands": (2, 21), "face": (68,)}
ARRAYS = tuple(name for part in PARTS for name in (part, f"{part}_score"))
HANDS, FACE = (slice(18, 39), slice(39, 60)), slice(60, 128)  # left and right hand, face among all points; body first
SUFFIXES = (".npz", ".json")
# Bytes, unpacked: about three hours at 60 frames a second, and half an hour as text.
LARGEST = {".npz": 1 << 30, ".json": 1 << 28}
FPS_RANGE = (1.0, 240.0)
_FAR = 10.0  # picture sides: points lie outside the picture, but not that far
_DIGITS = 5  # of a coordinate in JSON: a hundredth of a pixel at 1000 pixels


@dataclass
class PoseSequence:
    """T frames of one person, frame i at i / fps seconds.

    fps: frames a second. size: (W, H) of the picture the points lie in; only its aspect matters. body (T, 18, 2), hands
    (T, 2, 21, 2) left then right, face (T, 68, 2): float32, x and y in 0..1 of the picture's width and height;
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
        """Stack the key points of single frames. Raises ValueError for none."""
        if not frames:
            raise ValueError("a pose sequence needs at least one frame")
        arrays: dict[str, Any] = {name: np.stack([getattr(k, name) for k in frames]) for name in ARRAYS}
        return PoseSequence(fps, size, **{name: array.astype(np.float32) for name, array in arrays.items()})

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
        """Copy the key points of frame i."""
        return Keypoints(*(getattr(self, name)[i].copy() for name in ARRAYS))

    def points(self) -> np.ndarray:
        """Concatenate all points (T, 128, 2): body, left hand, right hand, face."""
        return np.concatenate([self.body, self.hands.reshape(-1, 42, 2), self.face], 1)

    def scores(self) -> np.ndarray:
        """Concatenate all scores (T, 128), in the order of `points`."""
        return np.concatenate([self.body_score, self.hands_score.reshape(-1, 42), self.face_score], 1)

    def with_points(self, points: np.ndarray, scores: np.ndarray, **changes: object) -> PoseSequence:
        """Replace points (T, 128, 2) and scores (T, 128), in any number of frames."""
        parts = zip(PARTS.values(), np.split(points, (18, 60), 1), np.split(scores, (18, 60), 1), strict=True)
        arrays = [array for shape, p, s in parts for array in (p.reshape(-1, *shape, 2), s.reshape(-1, *shape))]
        named = {name: array.astype(np.float32) for name, array in zip(ARRAYS, arrays, strict=True)}
        return replace(self, **{**named, "warnings": list(self.warnings), **changes})  # type: ignore[arg-type]

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> PoseSequence:
        """Apply `function` to the points (T, 128, 2)."""
        return self.with_points(function(self.points()), self.scores())

    def cut(self, start: int, stop: int) -> PoseSequence:
        """Cut out frames start..stop - 1."""
        return self.with_points(self.points()[start:stop], self.scores()[start:stop])

    def only(self, *parts: str) -> PoseSequence:
        """Hide everything but `parts` ("body", "hands", "face")."""
        hidden = {f"{part}_score": np.zeros_like(getattr(self, f"{part}_score")) for part in PARTS if part not in parts}
        return replace(self, **hidden, warnings=list(self.warnings))  # type: ignore[arg-type]

    def sampled(self, at: np.ndarray, fps: float) -> PoseSequence:
        """Sample the sequence at the places `at` (n,), in frames and between them, clipped to its ends.

        Its rate becomes `fps`. A point visible on both sides moves in a straight line between them; one visible on one
        side alone is that side's, where it is the nearer.
        """
        at = np.clip(np.asarray(at, np.float64), 0, len(self) - 1)
        low = np.minimum(at.astype(int), max(len(self) - 2, 0))
        high = np.minimum(low + 1, len(self) - 1)
        share = (at - low)[:, None]
        points, scores = self.points(), self.scores()
        both = (scores[low] > 0) & (scores[high] > 0)
        weight = np.where(both, share, share >= 0.5)
        # Not a + w (b - a): where the weight is 0 or 1 the point is copied exactly, and a point that is hidden may be
        # NaN.
        a, b = points[low], points[high]
        mixed = np.where(
            weight[..., None] == 0,
            a,
            np.where(weight[..., None] == 1, b, (1 - weight[..., None]) * a + weight[..., None] * b),
        )
        return self.with_points(mixed, (1 - weight) * scores[low] + weight * scores[high], fps=float(fps))

    def resampled(self, fps: float, n_frames: int | None = None) -> PoseSequence:
        """Resample to another frame rate, frame i again at i / fps seconds.

        `n_frames` (default: as long as it lasts): beyond the end the last pose is repeated.
        """
        n = max(1, round(self.seconds * fps)) if n_frames is None else n_frames
        return self.sampled(np.arange(n) * (self.fps / fps), fps)

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write it as .npz or .json by the name's end (docs/reference/file-formats.md), whole or not at all.

        Raises OutputError.
        """
        return write_sequence(self, path, overwrite)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> PoseSequence:
        """Read a file that `save` wrote, or one like it. Raises InputError."""
        return read_sequence(path)


def fill_gaps(points: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Interpolate points (T, P, 2) that are not `visible` (T, P) between the frames that show them.

    At the ends the nearest place is repeated. A point that is never visible stays as it is.
    """
    out, at = points.copy(), np.arange(len(points))
    for p in np.flatnonzero(visible.any(0) & ~visible.all(0)):
        here = np.flatnonzero(visible[:, p])
        for axis in range(2):
            out[:, p, axis] = np.interp(at, here, points[here, p, axis])
    return out


def is_sequence_file(path: str | os.PathLike[str]) -> bool:
    """Check whether a name is that of a key point file; a driving of any other name is a video."""
    return Path(path).suffix.lower() in SUFFIXES


def check_sequence_target(path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Check, before any work, that a key point file can be written. Raises OutputError."""
    return check_target(path, SUFFIXES, overwrite)


def write_sequence(sequence: PoseSequence, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Write a sequence, whole or not at all. Points with a score of 0 are written as 0. Raises OutputError."""
    path = check_sequence_target(path, overwrite)
    arrays = {name: getattr(sequence, name) for name in ARRAYS}
    for part in PARTS:
        visible = arrays[f"{part}_score"][..., None] > 0
        arrays[part] = np.where(visible, arrays[part], 0).astype(np.float32)
    with written_whole(path, overwrite) as target:
        if path.suffix.lower() == ".npz":
            np.savez_compressed(target, fps=np.float64(sequence.fps), size=np.array(sequence.size, np.int64), **arrays)
        else:
            plain = {name: np.round(array.astype(np.float64), _DIGITS).tolist() for name, array in arrays.items()}
            target.write_text(
                json.dumps({"fps": sequence.fps, "size": list(sequence.size), **plain}, separators=(",", ":")) + "\n"
            )
    return path


def read_sequence(path: str | os.PathLike[str]) -> PoseSequence:
    """Read and check a key point file.

    fps, size and at least one of body, hands and face with its scores must be there; other parts are not visible.
    Raises InputError, in one line, for a file that is missing, damaged, of another format, of wrong shapes, or with
    values that are no numbers.
    """
    path = Path(path)
    if not exists(path):
        raise InputError(f"{path}: no such key point file; check the path")
    if is_folder(path):
        raise InputError(f"{path}: is a folder; give one key point file ({' or '.join(SUFFIXES)})")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: not a key point file; its name must end in {' or '.join(SUFFIXES)}")
    kind = path.suffix.lower()
    try:
        values = (read_arrays if kind == ".npz" else read_json)(path, LARGEST[kind])
    except PermissionError:
        raise InputError(f"{path}: may not be read; check the file's permissions") from None
    except TooLarge as error:
        raise InputError(f"{path}: {error}; cut it into shorter files") from None
    except (OSError, Unreadable) as error:
        what = "no .npz file of plain arrays" if kind == ".npz" else "no JSON that can be read"
        raise InputError(
            f"{path}: {what} ({one_line(error)}); make it again (docs/reference/file-formats.md)"
        ) from None
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: must hold one JSON object with fps, size and key points (docs/reference/file-formats.md)"
        )
    return _checked(path, values)


def _checked(path: Path, values: dict[str, Any]) -> PoseSequence:
    if unknown := sorted(set(values) - {"fps", "size", *ARRAYS}):
        raise InputError(
            f"{path}: unknown name {', '.join(map(repr, unknown))}; known are fps, size, {', '.join(ARRAYS)}"
        )
    if missing := [name for name in ("fps", "size") if name not in values]:
        raise InputError(f"{path}: lacks {' and '.join(missing)}; add it (docs/reference/file-formats.md)")
    fps, size = _fps(path, values["fps"]), _size(path, values["size"])
    given = [part for part in PARTS if part in values or f"{part}_score" in values]
    if not given:
        raise InputError(f"{path}: holds no key points; give body, hands or face with its scores")
    arrays: dict[str, np.ndarray] = {}
    for part in given:
        for name, last in ((part, (2,)), (f"{part}_score", ())):
            if name not in values:
                raise InputError(f"{path}: lacks {name!r}; points and scores come together")
            arrays[name] = _array(path, name, values[name], (*PARTS[part], *last))
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(
            f"{path}: its arrays differ in length ({', '.join(f'{n} {c}' for n, c in lengths.items())} frames)"
        )
    frames = lengths[given[0]]
    if frames == 0:
        raise InputError(f"{path}: holds no frame; extract it again")
    for part in given:
        _check_points(path, part, arrays[part], arrays[f"{part}_score"])
    if not any((arrays[f"{part}_score"] > 0).any() for part in given):
        raise InputError(
            f"{path}: no point is seen in any frame (all scores are 0); extract it from a video that shows the person"
        )
    for part, shape in PARTS.items():
        if part not in given:
            arrays[part] = np.zeros((frames, *shape, 2), np.float32)
            arrays[f"{part}_score"] = np.zeros((frames, *shape), np.float32)
    return PoseSequence(fps, size, **arrays)  # type: ignore[arg-type]


def _fps(path: Path, value: Any) -> float:
    fps = value.tolist() if isinstance(value, np.ndarray) else value
    if not is_number(fps) or not FPS_RANGE[0] <= fps <= FPS_RANGE[1]:
        raise InputError(
            f"{path}: fps must be a number between {FPS_RANGE[0]:g} and {FPS_RANGE[1]:g}, not {_short(value)}"
        )
    return float(fps)


def _size(path: Path, value: Any) -> tuple[int, int]:
    given = value.tolist() if isinstance(value, np.ndarray) else value
    sides = given if isinstance(given, list) else []
    if len(sides) != 2 or not all(is_number(side) and 1 <= side <= 100_000 for side in sides):
        raise InputError(f"{path}: size must be the picture's width and height in pixels, not {_short(value)}")
    return round(sides[0]), round(sides[1])


def _short(value: Any) -> str:
    """Write a value for a message; arrays and lists of a few numbers are written out."""
    given = value.tolist() if isinstance(value, np.ndarray) and value.size <= 4 else value
    few = isinstance(given, list) and len(given) <= 4 and not any(isinstance(entry, list | dict) for entry in given)
    if isinstance(value, np.ndarray) and given is value:
        return f"an array of the shape {value.shape}"
    return f"[{', '.join(map(short, given))}]" if few else short(given)


def _array(path: Path, name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """(T, *shape) float32; null in JSON is NaN."""
    wanted = f"(frames, {', '.join(map(str, shape))})"
    try:
        array = np.asarray(value)
        if array.dtype == object and not any(isinstance(x, str) for x in array.flat):
            array = array.astype(np.float64)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{path}: {name} must be lists of numbers of the shape {wanted}") from None
    if array.dtype.kind not in "iuf":
        raise InputError(f"{path}: {name} must hold numbers, not {array.dtype}")
    if array.ndim == 0 or (len(array) and array.shape[1:] != shape):
        raise InputError(f"{path}: {name} is {tuple(array.shape)}, must be {wanted}")
    return array.reshape(-1, *shape).astype(np.float32)


def _check_points(path: Path, part: str, points: np.ndarray, score: np.ndarray) -> None:
    if not np.isfinite(score).all() or score.min() < 0 or score.max() > 1:
        where = np.argwhere(~((score >= 0) & (score <= 1)))[0]
        raise InputError(
            f"{path}: {_name(f'{part}_score', where)} is {score[tuple(where)]:g}; scores lie in 0..1: clip or divide "
            "them"
        )
    wrong = ~np.isfinite(points).all(-1) & (score > 0)
    if wrong.any():
        where = np.argwhere(wrong)[0]
        raise InputError(
            f"{path}: {_name(part, where)} is not a number though its score is {score[tuple(where)]:g}; give it a "
            "score of 0"
        )
    far = (np.abs(np.where(score[..., None] > 0, points, 0)) > _FAR).any(-1)
    if far.any():
        where = np.argwhere(far)[0]
        x, y = points[tuple(where)]
        raise InputError(
            f"{path}: {_name(part, where)} lies at ({x:g}, {y:g}); coordinates are in 0..1 of width and height, not "
            "in pixels"
        )
    points[score == 0] = 0


def _name(part: str, where: np.ndarray) -> str:
    """A place in an array in words, such as "hands of frame 3, left hand's point 20"."""
    frame, *rest = where.tolist()
    hand = f"{('left', 'right')[rest[0]]} hand's " if part.startswith("hands") else ""
    return f"{part} of frame {frame}, {hand}point {rest[-1]}"

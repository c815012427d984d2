"""Key point files: `.npz` and `.json` with the same names (docs/driving.md). Read strictly; nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from cyberhost_model.driving.sequence import ARRAYS, PARTS, PoseSequence
from cyberhost_model.errors import InputError
from cyberhost_model.media import files as targets
from cyberhost_model.media.files import written_whole

SUFFIXES = (".npz", ".json")
LARGEST = {".npz": 1 << 30, ".json": 1 << 28}  # bytes, unpacked: about three hours at 60 frames a second, and half an hour as text
FPS = (1.0, 240.0)
_FAR = 10.0  # picture sides: points lie outside the picture, but not that far
_DIGITS = 5  # of a coordinate in JSON: a hundredth of a pixel at 1000 pixels


def is_sequence_file(path: str | os.PathLike[str]) -> bool:
    """Whether a name is that of a key point file; a driving of any other name is a video."""
    return Path(path).suffix.lower() in SUFFIXES


def check_target(path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Check, before any work, that a key point file can be written. Raises OutputError."""
    return targets.check_target(path, SUFFIXES, overwrite)


def write_sequence(sequence: PoseSequence, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Write a sequence, whole or not at all. Points that are not seen are written as 0. Raises OutputError."""
    path = check_target(path, overwrite)
    arrays = {name: getattr(sequence, name) for name in ARRAYS}
    for part in PARTS:
        seen = arrays[f"{part}_score"][..., None] > 0
        arrays[part] = np.where(seen, arrays[part], 0).astype(np.float32)
    with written_whole(path) as target:
        if path.suffix.lower() == ".npz":
            np.savez_compressed(target, fps=np.float64(sequence.fps), size=np.array(sequence.size, np.int64), **arrays)
        else:
            plain = {name: np.round(array.astype(np.float64), _DIGITS).tolist() for name, array in arrays.items()}
            target.write_text(json.dumps({"fps": sequence.fps, "size": list(sequence.size), **plain}, separators=(",", ":")) + "\n")
    return path


def read_sequence(path: str | os.PathLike[str]) -> PoseSequence:
    """Read and check a key point file.

    fps, size and at least one of body, hands and face with its scores must be there; a part that is not is not seen. Raises InputError, in one
    line, for a file that is missing, damaged, of another format, of wrong shapes, or with values that are none.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such key point file; check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give one key point file ({' or '.join(SUFFIXES)})")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: not a key point file; its name must end in {' or '.join(SUFFIXES)}")
    try:
        values = _read_npz(path) if path.suffix.lower() == ".npz" else _read_json(path)
    except PermissionError:
        raise InputError(f"{path}: may not be read; check the file's permissions") from None
    return _checked(path, values)


def _check_bytes(path: Path, size: int) -> None:
    if size > (most := LARGEST[path.suffix.lower()]):
        raise InputError(f"{path}: holds {size >> 20} MiB of numbers, at most {most >> 20} are read; cut it into shorter files")


def _read_npz(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_bytes(path, sum(entry.file_size for entry in archive.infolist()))
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except PermissionError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise InputError(f"{path}: no .npz file of plain arrays ({reason}); make it again (docs/driving.md)") from None


def _read_json(path: Path) -> dict[str, Any]:
    _check_bytes(path, path.stat().st_size)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON that can be read ({str(error).splitlines()[0][:100]}); make it again (docs/driving.md)") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold one JSON object with fps, size and key points (docs/driving.md)")
    return values


def _checked(path: Path, values: dict[str, Any]) -> PoseSequence:
    if unknown := sorted(set(values) - {"fps", "size", *ARRAYS}):
        raise InputError(f"{path}: unknown name {', '.join(map(repr, unknown))}; known are fps, size, {', '.join(ARRAYS)}")
    if missing := [name for name in ("fps", "size") if name not in values]:
        raise InputError(f"{path}: lacks {' and '.join(missing)}; add it (docs/driving.md)")
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
        raise InputError(f"{path}: its arrays differ in length ({', '.join(f'{n} {c}' for n, c in lengths.items())} frames)")
    frames = lengths[given[0]]
    if frames == 0:
        raise InputError(f"{path}: holds no frame; extract it again")
    for part in given:
        _check_points(path, part, arrays[part], arrays[f"{part}_score"])
    if not any((arrays[f"{part}_score"] > 0).any() for part in given):
        raise InputError(f"{path}: no point is seen in any frame (all scores are 0); extract it from a video that shows the person")
    for part, shape in PARTS.items():
        if part not in given:
            arrays[part] = np.zeros((frames, *shape, 2), np.float32)
            arrays[f"{part}_score"] = np.zeros((frames, *shape), np.float32)
    return PoseSequence(fps, size, **arrays)  # type: ignore[arg-type]


def _number(value: Any) -> float | None:
    """A real, finite number as a float, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        return None
    return float(value)


def _fps(path: Path, value: Any) -> float:
    fps = _number(value.tolist() if isinstance(value, np.ndarray) else value)
    if fps is None or not FPS[0] <= fps <= FPS[1]:
        raise InputError(f"{path}: fps must be a number between {FPS[0]:g} and {FPS[1]:g}, not {_short(value)}")
    return fps


def _size(path: Path, value: Any) -> tuple[int, int]:
    given = value.tolist() if isinstance(value, np.ndarray) else value
    sides = [_number(side) for side in given] if isinstance(given, list) else []
    if len(sides) != 2 or any(side is None or not 1 <= side <= 100_000 for side in sides):
        raise InputError(f"{path}: size must be the picture's width and height in pixels, not {_short(value)}")
    return round(sides[0] or 0), round(sides[1] or 0)


def _short(value: Any) -> str:
    text = " ".join(repr(value.tolist() if isinstance(value, np.ndarray) else value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _array(path: Path, name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """(T, *shape) float32; null in JSON is NaN."""
    wanted = f"(frames, {', '.join(map(str, shape))})"
    try:
        array = np.asarray(value)
        if array.dtype == object and not any(isinstance(x, str) for x in array.flat):
            array = array.astype(np.float64)
    except (ValueError, TypeError):
        raise InputError(f"{path}: {name} must be lists of numbers of the shape {wanted}") from None
    if array.dtype.kind not in "iuf":
        raise InputError(f"{path}: {name} must hold numbers, not {array.dtype}")
    if array.ndim == 0 or (len(array) and array.shape[1:] != shape):
        raise InputError(f"{path}: {name} is {tuple(array.shape)}, must be {wanted}")
    return array.reshape(-1, *shape).astype(np.float32)


def _check_points(path: Path, part: str, points: np.ndarray, score: np.ndarray) -> None:
    if not np.isfinite(score).all() or score.min() < 0 or score.max() > 1:
        where = np.argwhere(~((score >= 0) & (score <= 1)))[0]
        raise InputError(f"{path}: {_name(f'{part}_score', where)} is {score[tuple(where)]:g}; scores lie in 0..1: clip or divide them")
    wrong = ~np.isfinite(points).all(-1) & (score > 0)
    if wrong.any():
        where = np.argwhere(wrong)[0]
        raise InputError(f"{path}: {_name(part, where)} is not a number though its score is {score[tuple(where)]:g}; give it a score of 0")
    far = (np.abs(np.where(score[..., None] > 0, points, 0)) > _FAR).any(-1)
    if far.any():
        where = np.argwhere(far)[0]
        x, y = points[tuple(where)]
        raise InputError(f"{path}: {_name(part, where)} lies at ({x:g}, {y:g}); coordinates are in 0..1 of width and height, not in pixels")
    points[score == 0] = 0


def _name(part: str, where: np.ndarray) -> str:
    """"hands of frame 3, left hand's point 20": a place in an array in words."""
    frame, *rest = where.tolist()
    hand = f"{('left', 'right')[rest[0]]} hand's " if part.startswith("hands") else ""
    return f"{part} of frame {frame}, {hand}point {rest[-1]}"

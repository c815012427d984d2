"""Pose folders of EchoMimicV2: a file N.npy for each frame, with DWPose's points and where its program draws them.

Each file is a pickle inside an array. It is read by an unpickler that knows arrays and numbers alone, so that nothing
in it can run.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cyberhost_model.driving.sequence import PARTS, PoseSequence
from cyberhost_model.errors import InputError
from cyberhost_model.reading import exists, is_folder, one_line, open_file

SUFFIX = ".npy"
FPS = 24.0
"""Frames a second of these poses, as of its program's videos."""
_LARGEST = 1 << 20  # bytes of a frame's file, which has 7 kB
_MOST = 100_000  # frames, over an hour
_ARRAYS = {
    (module, name)
    for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("ndarray", "dtype", "_reconstruct", "scalar")
}
"""What a pickle of arrays and numbers names."""


def is_pose_folder(path: str | os.PathLike[str]) -> bool:
    """Check whether a path is a folder, or a file of one frame."""
    return is_folder(path) or Path(path).suffix.lower() == SUFFIX


def read_pose_folder(path: str | os.PathLike[str]) -> PoseSequence:
    """Read a folder of frames 0.npy, 1.npy, ..., or one such file, at 24 frames a second.

    The points are placed in the picture as EchoMimicV2's program draws them (`draw_pose_params`). Raises InputError in
    one line for a folder without frames or with a gap, and for a file of another content.
    """
    path = Path(path)
    if not exists(path):
        raise InputError(f"{path}: no such pose folder; check the path")
    frames = [_read_frame(file) for file in (_numbered(path) if is_folder(path) else [path])]
    sizes = {size for _, size in frames}
    if len(sizes) > 1:
        raise InputError(f"{path}: its frames are of pictures of different sizes; make them again")
    arrays: dict[str, Any] = {name: np.stack([values[name] for values, _ in frames]) for name in frames[0][0]}
    if not arrays["hands_score"].any() and not arrays["body_score"].any():
        raise InputError(f"{path}: no point is seen in any frame (all scores are 0)")
    return PoseSequence(FPS, (sizes.pop(),) * 2, **arrays)


def _numbered(folder: Path) -> list[Path]:
    """The files 0.npy, 1.npy, ... of a folder, in order. Raises InputError."""
    numbers = sorted(int(file.stem) for file in folder.glob(f"*{SUFFIX}") if file.stem.isdecimal())
    if not numbers:
        raise InputError(f"{folder}: holds no poses (0{SUFFIX}, 1{SUFFIX}, ...); give a pose folder, a file or a video")
    if len(numbers) > _MOST:
        raise InputError(f"{folder}: holds {len(numbers)} frames, at most {_MOST} are read")
    if gap := next((i for i, number in enumerate(numbers, numbers[0]) if i != number), None):
        raise InputError(f"{folder}: lacks {gap}{SUFFIX} between its frames; copy the folder again")
    return [folder / f"{number}{SUFFIX}" for number in numbers]


class _ArraysOnly(pickle.Unpickler):
    """Unpickles arrays, numbers, texts, lists and dictionaries."""

    def find_class(self, module: str, name: str) -> Any:
        """Find what arrays are made of; refuse everything else."""
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def _read_frame(path: Path) -> tuple[dict[str, np.ndarray], int]:
    """Read one frame -> arrays as in `PoseSequence` without the frame axis, and its picture's side in pixels."""
    try:
        with open_file(path) as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ValueError("it is too large")
        stream = io.BytesIO(data)
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
        if shape != () or dtype != np.dtype(object):
            raise ValueError("it is a plain array")
        values = _ArraysOnly(stream).load()
        values = values.item() if isinstance(values, np.ndarray) else values
        return _placed(values)
    except Exception as error:  # an unpickler and numpy raise a dozen kinds for damage
        raise InputError(f"{path}: no pose of EchoMimicV2 ({one_line(error)}); give a folder of its poses") from None


def _placed(values: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], int]:
    """Bring one person's points to 0..1 of the square picture that they are drawn in."""
    height, width, top, bottom, left, right = (int(value) for value in values["draw_pose_params"])
    side = max(bottom, right)
    if not (0 <= top < bottom and 0 <= left < right and side <= 1 << 14):
        raise ValueError("its place in the picture is impossible")
    bodies = values["bodies"]
    given = {
        "body": (bodies["candidate"][:18], bodies["score"][0]),
        "hands": (values["hands"][:2], values["hands_score"][:2]),
        "face": (values["faces"][0], values["faces_score"][0]),
    }
    arrays: dict[str, np.ndarray] = {}
    for part, (points, score) in given.items():
        points, score = np.asarray(points, np.float64), np.asarray(score, np.float64)
        if points.shape != (*PARTS[part], 2) or score.shape != PARTS[part]:
            raise ValueError(f"its {part} has another shape")
        seen = np.isfinite(points).all(-1) & np.isfinite(score)
        score = np.where(seen, np.clip(np.where(seen, score, 0), 0, 1), 0)
        placed = (np.where(seen[..., None], points, 0) * [width, height] + [left, top]) / side
        arrays[part] = np.where(score[..., None] > 0, placed, 0).astype(np.float32)
        arrays[f"{part}_score"] = score.astype(np.float32)
    return arrays, side

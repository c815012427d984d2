"""Where the picture's face and lips are, for models that speech alone drives (`pose_maps` "face"; Hallo, EchoMimic).

Their programs draw these maps of MediaPipe's or MTCNN's points; here the 68 face points are taken, and a forehead is
added to them. Numbers (factors, kernels, the grid) are those of Hallo; scripts/pipeline_parity.py compares.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from cyberhost_model.perception.keypoints import LIPS, VISIBLE, Keypoints

FOREHEAD = 0.16  # its height over that from brows to chin
FACE_GROWTH, LIP_GROWTH = 1.2, 2.0  # factors of the boxes' sides
_GRID = 64  # side of the square in which masks are blurred, whatever the picture's size
_FACE_KERNEL, _LIP_KERNEL = 51, 31  # of the Gaussian blur, in cells of that grid

PixelBox = tuple[int, int, int, int]
"""x0, y0, x1, y1: the last two are not in the box."""


def face_box(keypoints: Keypoints, size: tuple[int, int]) -> PixelBox:
    """Find the box of the face, with its forehead, grown by FACE_GROWTH; the whole picture without a face.

    keypoints: in 0..1 of the picture; size: (W, H) in pixels.
    """
    points, visible = keypoints.face * np.array(size, np.float64), keypoints.face_score > VISIBLE
    if not visible[:27].any():
        return 0, 0, *size
    outline = points[:27][visible[:27]]  # jaw and brows
    low, high = outline.min(0), outline.max(0)
    low[1] -= FOREHEAD * (high[1] - low[1])
    return _grown(low, high, FACE_GROWTH, size)


def lip_box(keypoints: Keypoints, size: tuple[int, int]) -> PixelBox:
    """Find the box of the lips, grown by LIP_GROWTH; an empty one without lips."""
    points, visible = keypoints.face[LIPS] * np.array(size, np.float64), keypoints.face_score[LIPS] > VISIBLE
    if not visible.any():
        return 0, 0, 0, 0
    return _grown(points[visible].min(0), points[visible].max(0), LIP_GROWTH, size)


def face_map(keypoints: Keypoints, size: tuple[int, int]) -> np.ndarray:
    """Draw the box of the face as float32 (3, H, W): 1 inside, 0 outside. size: (W, H)."""
    return np.repeat((_filled(face_box(keypoints, size), size) / 255)[None], 3, 0).astype(np.float32)


def audio_masks(keypoints: Keypoints, size: tuple[int, int], levels: Sequence[tuple[int, int]]) -> np.ndarray:
    """Draw where the three audio attentions count (`model.conditions.AUDIO_REGIONS`), with soft borders.

    size: (W, H) of the picture; levels: (h, w) of each level of the U-Net. Returns float32 (3, N) in 0..1, the cells
    of all levels one after the other.
    """
    face = _blurred(_filled(face_box(keypoints, size), size), _FACE_KERNEL)
    lips = _blurred(_filled(lip_box(keypoints, size), size), _LIP_KERNEL)
    around = ((1.0 - face / 255.0) * 255).astype(np.uint8)
    cells = []
    for h, w in levels:
        resized = (
            Image.fromarray(m).resize((w, h), Image.Resampling.BILINEAR)
            for m in (around, cv2.subtract(face, lips), lips)
        )
        cells.append(np.stack([np.asarray(mask, np.float32).ravel() / 255 for mask in resized]))
    return np.concatenate(cells, 1)


def _grown(low: np.ndarray, high: np.ndarray, factor: float, size: tuple[int, int]) -> PixelBox:
    """Grow a box about its middle in whole pixels; one that leaves the picture on one side is moved back."""
    ends = []
    for start, end, limit in zip(np.round(low), np.round(high), size, strict=True):
        middle, half = (start + end) // 2, (end - start) * factor // 2
        start, end = middle - half, middle + half
        if start < 0:
            start, end = 0, end - start
        if end > limit:
            start, end = start - (end - limit), limit
        ends.append((max(round(start), 0), round(end)))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def _filled(box: PixelBox, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W): 255 in the box."""
    mask = np.zeros(size[::-1], np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 255
    return mask


def _blurred(mask: np.ndarray, kernel: int) -> np.ndarray:
    """Blur a mask in a grid of 64x64 cells and stretch it to 0..255: uint8 (64, 64)."""
    small = cv2.GaussianBlur(cv2.resize(mask, (_GRID, _GRID)), (kernel, kernel), 0)
    return cv2.normalize(small, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload, no-any-return]

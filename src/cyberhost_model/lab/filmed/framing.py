"""One fixed box for a clip: what it must show, at a size whose sides are multiples of 64."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cyberhost_model.perception.geometry import Box
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints
from cyberhost_model.perception.people import has_face

STEP = 64
# In heights of the face points (brows to chin): the hair above, room at the sides and below.
_HAIR, _SIDES, _BELOW = 0.75, 0.7, 0.6
_HEAD_HAIR, _HEAD_SIDES, _HEAD_BELOW = 0.8, 0.55, 0.7
_HAND = 0.35  # room about wrists and hands
_TORSO = 2.6  # how far below the chin a half body reaches at least
_TRIM = 2.0  # percent of the looks that may be left out on either side: a detector errs now and then
_TOLERANCE, _COARSE, _CHOICE = (
    0.15,
    0.35,
    6,
)  # of the area; small areas have few sizes so near, and may be further off to have this many


def sizes_near(area: int) -> list[tuple[int, int]]:
    """(W, H) with sides that are multiples of 64, at most 2 : 1, and an area within 15% of `area`; within 35% where
    that leaves little choice.
    """
    most = max(2, int(np.sqrt(2 * area * (1 + _COARSE)) // STEP) + 1)
    every = [(a * STEP, b * STEP) for a in range(1, most + 1) for b in range(1, most + 1) if max(a, b) <= 2 * min(a, b)]
    off = [abs(w * h / area - 1) for w, h in every]
    limit = max(_TOLERANCE, min(off), min(_COARSE, sorted(off)[min(_CHOICE, len(off)) - 1]))
    return [size for size, d in zip(every, off, strict=True) if d <= limit + 1e-9]


def content_box(people: Sequence[Keypoints], size: tuple[int, int], crop: str) -> Box:
    """What a clip must show, in pixels of frames of `size` (W, H): for "body" from above the hair to hands and hips,
    for "head" the head.

    Raises ValueError when no face is among the looks.
    """
    scale = np.asarray(size, np.float64)
    boxes = [_one(k, scale, crop) for k in people if has_face(k)]
    if not boxes:
        raise ValueError("no face to frame")
    array = np.array(boxes)
    low, high = np.percentile(array[:, :2], _TRIM, axis=0), np.percentile(array[:, 2:], 100 - _TRIM, axis=0)
    low, high = np.maximum(low, 0), np.minimum(high, scale)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _one(k: Keypoints, scale: np.ndarray, crop: str) -> list[float]:
    face = k.face * scale
    (x0, y0), (x1, y1) = face.min(0), face.max(0)
    unit = y1 - y0
    if crop == "head":
        return [x0 - _HEAD_SIDES * unit, y0 - _HEAD_HAIR * unit, x1 + _HEAD_SIDES * unit, y1 + _HEAD_BELOW * unit]
    box = [x0 - _SIDES * unit, y0 - _HAIR * unit, x1 + _SIDES * unit, y1 + _TORSO * unit]
    # Shoulders, elbows and wrists; hips only as far as they are in the picture.
    body, score = k.body * scale, k.body_score
    near = [(body[j], _BELOW if j in (2, 5) else _HAND) for j in (2, 3, 4, 5, 6, 7) if score[j] > VISIBLE]
    near += [(body[j], 0.1) for j in (8, 11) if score[j] > VISIBLE]
    for points, seen in zip(k.hands, k.hands_score, strict=True):
        if seen.max() > VISIBLE:
            near += [(p, _HAND) for p in points[seen > VISIBLE] * scale]
    for (x, y), room in near:
        box = [
            min(box[0], x - room * unit),
            min(box[1], y - room * unit),
            max(box[2], x + room * unit),
            max(box[3], y + room * unit),
        ]
    return box


def fixed_box(content: Box, size: tuple[int, int], area: tuple[int, int]) -> tuple[Box, tuple[int, int]]:
    """The crop about `content` inside a frame of `size` and the (W, H) it is scaled to, both of the same aspect.

    The size is the one near `area` whose aspect loses and wastes least; where the frame is too small for the whole
    content, its top is kept (the head), and its middle from left to right.
    """
    x0, y0, x1, y1 = content
    w, h = max(x1 - x0, 2.0), max(y1 - y0, 2.0)
    best: tuple[float, Box, tuple[int, int]] | None = None
    for out in sizes_near(area[0] * area[1]):
        aspect = out[0] / out[1]
        bw, bh = max(w, h * aspect), max(h, w / aspect)
        shrink = min(1.0, size[0] / bw, size[1] / bh)
        bw, bh = bw * shrink, bh * shrink
        left = float(np.clip((x0 + x1 - bw) / 2, 0, size[0] - bw))
        top = float(np.clip(y0 if bh < h else (y0 + y1 - bh) / 2, 0, size[1] - bh))
        lost = 1 - min(bw / w, 1) * min(bh / h, 1)
        wasted = 1 - min(w / bw, 1) * min(h / bh, 1)
        cost = 2 * lost + wasted + 0.5 * abs(out[0] * out[1] / (area[0] * area[1]) - 1)
        if best is None or cost < best[0] - 1e-9:
            best = cost, (left, top, left + bw, top + bh), out
    assert best is not None
    # Whole pixels: the area filter wants them, and half of one off is less than a frame's own blur.
    (left, top, right, bottom), out = best[1], best[2]
    return (
        float(round(left)),
        float(round(top)),
        float(min(round(right), size[0])),
        float(min(round(bottom), size[1])),
    ), out


def crop_frame(picture_u8: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """The part of a frame inside `box` (whole pixels), scaled to `size` (W, H): averaged when it shrinks, cubic when
    it grows.
    """
    x0, y0, x1, y1 = map(int, box)
    part = picture_u8[y0:y1, x0:x1]
    interpolation = cv2.INTER_AREA if part.shape[1] > size[0] else cv2.INTER_CUBIC
    return cv2.resize(part, size, interpolation=interpolation)

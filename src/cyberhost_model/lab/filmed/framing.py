"""Choose one fixed crop for a clip: what it must show, at a size whose sides are multiples of 64."""

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
_TRIM = 2.0  # percent of the observations that may be left out on either side: a detector errs now and then
# Share by which a size may differ from the wanted area. Few sizes lie near a small area: up to the larger share is
# allowed there, to have at least so many sizes.
_TOLERANCE, _MAX_TOLERANCE, _MIN_SIZES = 0.15, 0.35, 6


def sizes_near(area: int) -> list[tuple[int, int]]:
    """Return the sizes (W, H) with sides that are multiples of 64, at most 2 : 1, and an area near `area`.

    Near is within 15%, or up to 35% where that leaves few sizes.
    """
    most = max(2, int(np.sqrt(2 * area * (1 + _MAX_TOLERANCE)) // STEP) + 1)
    every = [(a * STEP, b * STEP) for a in range(1, most + 1) for b in range(1, most + 1) if max(a, b) <= 2 * min(a, b)]
    off = [abs(w * h / area - 1) for w, h in every]
    limit = max(_TOLERANCE, min(off), min(_MAX_TOLERANCE, sorted(off)[min(_MIN_SIZES, len(off)) - 1]))
    return [size for size, d in zip(every, off, strict=True) if d <= limit + 1e-9]


def content_box(people: Sequence[Keypoints], size: tuple[int, int], crop: str) -> Box:
    """Return the box that a clip must show, in pixels of frames of `size` (W, H).

    people: of the observations. crop: "body" from above the hair to hands and hips, "head" the head alone. Raises
    ValueError where nobody has a face.
    """
    scale = np.asarray(size, np.float64)
    boxes = [_person_box(k, scale, crop) for k in people if has_face(k)]
    if not boxes:
        raise ValueError("no face to frame")
    array = np.array(boxes)
    low, high = np.percentile(array[:, :2], _TRIM, axis=0), np.percentile(array[:, 2:], 100 - _TRIM, axis=0)
    low, high = np.maximum(low, 0), np.minimum(high, scale)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _person_box(k: Keypoints, scale: np.ndarray, crop: str) -> list[float]:
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
    for points, scores in zip(k.hands, k.hands_score, strict=True):
        if scores.max() > VISIBLE:
            near += [(p, _HAND) for p in points[scores > VISIBLE] * scale]
    for (x, y), room in near:
        box = [
            min(box[0], x - room * unit),
            min(box[1], y - room * unit),
            max(box[2], x + room * unit),
            max(box[3], y + room * unit),
        ]
    return box


def fixed_box(content: Box, size: tuple[int, int], area: tuple[int, int]) -> tuple[Box, tuple[int, int]]:
    """Return the crop around `content` inside a frame of `size`, and the (W, H) it is scaled to, of the same aspect.

    Of the sizes near `area` it is the one whose aspect loses and wastes least. Where the frame is too small for the
    whole content, the top (the head) and the horizontal middle are kept.
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
    """Crop a frame to `box` (whole pixels) and scale it to `size` (W, H), by area to shrink, cubic to grow."""
    x0, y0, x1, y1 = map(int, box)
    part = picture_u8[y0:y1, x0:x1]
    interpolation = cv2.INTER_AREA if part.shape[1] > size[0] else cv2.INTER_CUBIC
    return cv2.resize(part, size, interpolation=interpolation)

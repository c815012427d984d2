"""Poses as the picture that a network was taught with: this project's skeleton maps, or the drawings of DWPose's code
that others' weights know.

The numbers (strokes in pixels, thresholds, the side that is drawn at) are those of Moore-AnimateAnyone and EchoMimicV2;
scripts/peer_parity.py compares.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from colorsys import hsv_to_rgb
from typing import Protocol

import cv2
import numpy as np

from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

# Skeleton maps: key points drawn as a picture for the PoseEncoder (paper, section 3.3).


# OpenPose's 17 body limbs, as pairs of BODY indices; limb i has the hue of 20 degrees times i.
LIMBS = (
    (1, 2),
    (1, 5),
    (2, 3),
    (3, 4),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
)
# Five fingers of four bones; bone i has the hue of 18 degrees times i.
FINGERS = tuple((0 if j == 0 else 4 * f + j, 4 * f + j + 1) for f in range(5) for j in range(4))
# Lines through the 68 face points: (first, last + 1, closed).
CONTOURS = (
    (0, 17, False),
    (17, 22, False),
    (22, 27, False),
    (27, 31, False),
    (31, 36, False),
    (36, 42, True),
    (42, 48, True),
    (48, 60, True),
    (60, 68, True),
)
PARTS = ("body", "hands", "face")
_SHIFT = 4  # OpenCV draws with 1/16 pixel: small maps keep the exact place of a lip


def hue(degrees: float) -> tuple[int, int, int]:
    """The fully saturated RGB colour (0..255) of a hue in degrees."""
    k = (np.array([5.0, 3.0, 1.0]) + degrees / 60) % 6
    r, g, b = np.round(255 * (1 - np.clip(np.minimum(k, 4 - k), 0, 1))).astype(int)
    return int(r), int(g), int(b)


def skeleton_map(
    keypoints: Keypoints, size: tuple[int, int], threshold: float = VISIBLE, parts: Collection[str] = PARTS
) -> np.ndarray:
    """The skeleton as a picture: float32 (3, H, W) in 0..1, black where nothing is.

    `size` is (W, H) in pixels; points scored at most `threshold` are left out, and so is a line with such an end;
    `parts` chooses among "body", "hands" and "face". Body limbs and fingers have OpenPose's colours, the face's
    contours are white; lines are about 1/64 (body), 1/160 (hands) and 1/256 (face) of the shorter side thick, at least
    a pixel.
    """
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"unknown parts {sorted(unknown)}: choose among {PARTS}")
    w, h = size
    canvas = np.zeros((h, w, 3), np.uint8)
    short = min(w, h)

    def line(points: np.ndarray, score: np.ndarray, a: int, b: int, colour: Sequence[int], thickness: int) -> None:
        if min(score[a], score[b]) > threshold:
            ends = np.clip(points[[a, b]], -2, 3) * [w, h] - 0.5  # pixel i's centre is i + 0.5 of the picture's length
            first, second = np.round(ends * (1 << _SHIFT)).astype(int).tolist()
            cv2.line(canvas, first, second, colour, thickness, cv2.LINE_AA, _SHIFT)

    if "body" in parts:
        for i, (a, b) in enumerate(LIMBS):
            line(keypoints.body, keypoints.body_score, a, b, hue(20 * i), max(1, round(short / 64)))
    if "hands" in parts:
        for points, score in zip(keypoints.hands, keypoints.hands_score, strict=True):
            for i, (a, b) in enumerate(FINGERS):
                line(points, score, a, b, hue(18 * i), max(1, round(short / 160)))
    if "face" in parts:
        for first, stop, closed in CONTOURS:
            for a in range(first, stop if closed else stop - 1):
                b = a + 1 if a + 1 < stop else first
                line(keypoints.face, keypoints.face_score, a, b, (255, 255, 255), max(1, round(short / 256)))
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)).astype(np.float32) / 255


class PoseMap(Protocol):
    """A way of drawing poses."""

    def __call__(self, keypoints: Keypoints, size: tuple[int, int], *, parts: Collection[str] = PARTS) -> np.ndarray:
        """`size` (W, H) -> float32 (3, H, W) in 0..1, black where nothing is; `parts` among `skeleton.PARTS`."""


_STICK, _DOT, _FACE_DOT, _LINE = (
    4,
    4,
    3,
    2,
)  # pixels of half a limb's width, the radius of a joint and of a face point, a finger's width
_DIM = 0.6  # limbs are darker than joints
_BODY_SIDE, _HAND_SIDE = (
    512,
    800,
)  # shorter side that AnimateAnyone and EchoMimicV2 draw at; the drawing is then resized
_FAR = (-2, 3)  # points are held within this part of the picture


def dwpose_map(keypoints: Keypoints, size: tuple[int, int], *, parts: Collection[str] = PARTS) -> np.ndarray:
    """As AnimateAnyone was taught: limbs as dim ellipses with bright joints, thin fingers with blue joints, the face
    as white dots.

    Points scored below 0.3 are left out, and so is a line with such an end.
    """
    canvas = _canvas(size, _BODY_SIDE, multiple=64)
    if "body" in parts:
        canvas = _body(canvas, keypoints.body, keypoints.body_score > VISIBLE)
    if "hands" in parts:
        for points, score in zip(keypoints.hands, keypoints.hands_score, strict=True):
            _hand(canvas, points, (score >= VISIBLE).astype(np.float64))
    if "face" in parts:
        for pixel in _pixels(canvas, keypoints.face, keypoints.face_score >= VISIBLE):
            if pixel is not None:
                cv2.circle(canvas, pixel, _FACE_DOT, (255, 255, 255), -1)
    return _resized(canvas, size)


def hand_map(keypoints: Keypoints, size: tuple[int, int], *, parts: Collection[str] = PARTS) -> np.ndarray:
    """As EchoMimicV2 was taught: hands alone, as bright as they are sure, red and blue exchanged."""
    canvas = _canvas(size, _HAND_SIDE)
    if "hands" in parts:
        for points, score in zip(keypoints.hands, keypoints.hands_score, strict=True):
            _hand(canvas, points, np.clip(score, 0, 1).astype(np.float64))
    return np.ascontiguousarray(_resized(canvas, size)[::-1])


POSE_MAPS: dict[str, PoseMap] = {"skeleton": skeleton_map, "dwpose": dwpose_map, "dwpose-hands": hand_map}
"""What a preset's `pose_maps` names."""


def _canvas(size: tuple[int, int], side: int, multiple: int = 1) -> np.ndarray:
    """Black, of the aspect of `size`; its shorter side is `side`, both in multiples of `multiple`."""
    w, h = (max(1, round(length * side / min(size) / multiple)) * multiple for length in size)
    return np.zeros((h, w, 3), np.uint8)


def _pixels(canvas: np.ndarray, points: np.ndarray, seen: np.ndarray) -> list[tuple[int, int] | None]:
    """Points in 0..1 -> whole pixels, cut down; None for one that is not seen, or whose pixel is not right of and
    below the first.
    """
    scaled = np.clip(np.where(seen[:, None], points, 0), *_FAR) * [canvas.shape[1], canvas.shape[0]]
    return [(int(x), int(y)) if int(x) > 0 and int(y) > 0 else None for x, y in scaled]


def _body(canvas: np.ndarray, points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The body drawn on a black canvas; other than hands and face it may begin outside the picture."""
    scaled = np.clip(np.where(seen[:, None], points, 0), *_FAR).astype(np.float64) * [canvas.shape[1], canvas.shape[0]]
    for i, (a, b) in enumerate(LIMBS):
        if seen[a] and seen[b]:
            (x, y), (dx, dy) = (scaled[a] + scaled[b]) / 2, scaled[a] - scaled[b]
            axes, angle = (int(np.hypot(dx, dy) / 2), _STICK), int(np.degrees(np.arctan2(dy, dx)))
            cv2.fillConvexPoly(canvas, cv2.ellipse2Poly((int(x), int(y)), axes, angle, 0, 360, 1), hue(20 * i))
    canvas = (canvas * _DIM).astype(np.uint8)
    for joint in np.flatnonzero(seen).tolist():
        cv2.circle(canvas, (int(scaled[joint, 0]), int(scaled[joint, 1])), _DOT, hue(20 * joint), -1)
    return canvas


def _hand(canvas: np.ndarray, points: np.ndarray, bright: np.ndarray) -> None:
    """21 points, each as bright as `bright` says (0..1), a bone as the product of its ends."""
    pixels = _pixels(canvas, points, bright > 0)
    for i, (a, b) in enumerate(FINGERS):
        first, second = pixels[a], pixels[b]
        if first is not None and second is not None:
            value = int(bright[a] * bright[b] * 255)
            cv2.line(canvas, first, second, hsv_to_rgb(i / len(FINGERS), 1, value), _LINE)
    for pixel, b in zip(pixels, bright, strict=True):
        if pixel is not None:
            cv2.circle(canvas, pixel, _DOT, (0, 0, int(b * 255)), -1)


def _resized(canvas: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3) of any size -> float32 (3, H, W) in 0..1 of `size`."""
    return (
        np.ascontiguousarray(cv2.resize(canvas, size, interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)).astype(
            np.float32
        )
        / 255
    )

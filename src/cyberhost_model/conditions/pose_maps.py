"""Poses as the picture that a network was taught with: this project's skeleton maps, or the drawings of DWPose's code that others' weights know."""

from __future__ import annotations

from collections.abc import Callable, Collection

import cv2
import numpy as np

from .keypoints import Keypoints
from .skeleton import FINGERS, LIMBS, PARTS, hue, skeleton_map

PoseMap = Callable[..., np.ndarray]
"""(keypoints, (W, H), threshold, parts) -> float32 (3, H, W) in 0..1, as `skeleton_map`."""
_STICK, _DOT, _LINE = 4, 4, 2  # pixels of half a limb's width, a joint's radius, a finger's width, at the side they are drawn at
_BODY_SIDE, _HAND_SIDE = 512, 800  # shorter side that AnimateAnyone and EchoMimicV2 draw at, before the drawing is resized


def dwpose_map(keypoints: Keypoints, size: tuple[int, int], threshold: float = 0.3, parts: Collection[str] = PARTS) -> np.ndarray:
    """Body and hands as AnimateAnyone was taught: limbs as dim ellipses, bright joints, thin fingers with blue joints, no face."""
    canvas = _canvas(size, _BODY_SIDE)
    scale = np.array([canvas.shape[1], canvas.shape[0]])
    if "body" in parts:
        points, seen = keypoints.body * scale, keypoints.body_score > threshold
        for i, (a, b) in enumerate(LIMBS):
            if seen[a] and seen[b]:
                (x, y), (dx, dy) = (points[a] + points[b]) / 2, points[a] - points[b]
                axes = (int(np.hypot(dx, dy) / 2), _STICK)
                outline = cv2.ellipse2Poly((int(x), int(y)), axes, int(np.degrees(np.arctan2(dy, dx))), 0, 360, 1)
                cv2.fillConvexPoly(canvas, outline, hue(20 * i))
        canvas = (canvas * 0.6).astype(np.uint8)
        for joint in np.flatnonzero(seen).tolist():
            cv2.circle(canvas, _pixel(points[joint]), _DOT, hue(20 * joint), -1)
    if "hands" in parts:
        for points, score in zip(keypoints.hands, keypoints.hands_score, strict=True):
            _hand(canvas, points * scale, (score >= threshold).astype(float))
    return _resized(canvas, size)


def hand_map(keypoints: Keypoints, size: tuple[int, int], threshold: float = 0.0, parts: Collection[str] = PARTS) -> np.ndarray:
    """Hands alone as EchoMimicV2 was taught: as bright as they are sure, red and blue exchanged."""
    canvas = _canvas(size, _HAND_SIDE)
    if "hands" in parts:
        for points, score in zip(keypoints.hands, keypoints.hands_score, strict=True):
            _hand(canvas, points * [canvas.shape[1], canvas.shape[0]], np.clip(score, 0, 1))
    return _resized(canvas, size)[::-1].copy()


POSE_MAPS: dict[str, PoseMap] = {"skeleton": skeleton_map, "dwpose": dwpose_map, "dwpose-hands": hand_map}
"""What a preset's `pose_maps` names."""


def _canvas(size: tuple[int, int], side: int) -> np.ndarray:
    w, h = size
    scale = side / min(w, h)
    return np.zeros((int(h * scale), int(w * scale), 3), np.uint8)


def _hand(canvas: np.ndarray, points: np.ndarray, score: np.ndarray) -> None:
    """21 points in pixels; nothing is drawn of points whose score is 0 or that lie outside, left or above."""
    pixels = [_pixel(p) for p in points]
    inside = [x > 0 and y > 0 and s > 0 for (x, y), s in zip(pixels, score, strict=True)]
    for i, (a, b) in enumerate(FINGERS):
        if inside[a] and inside[b]:
            bright = int(score[a] * score[b] * 255) / 255
            cv2.line(canvas, pixels[a], pixels[b], tuple(c * bright for c in hue(18 * i)), _LINE)
    for pixel, there, s in zip(pixels, inside, score, strict=True):
        if there:
            cv2.circle(canvas, pixel, _DOT, (0, 0, int(s * 255)), -1)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _resized(canvas: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.ascontiguousarray(cv2.resize(canvas, size, interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)).astype(np.float32) / 255

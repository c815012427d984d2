"""Skeleton maps: key points drawn as a picture for the PoseEncoder (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import cv2
import numpy as np

from .keypoints import Keypoints

# OpenPose's 17 body limbs, as pairs of BODY indices; limb i has the hue of 20 degrees times i.
LIMBS = ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
         (1, 0), (0, 14), (14, 16), (0, 15), (15, 17))  # fmt: skip
# Five fingers of four bones; bone i has the hue of 18 degrees times i.
FINGERS = tuple((0 if j == 0 else 4 * f + j, 4 * f + j + 1) for f in range(5) for j in range(4))
# Lines through the 68 face points: (first, last + 1, closed).
CONTOURS = ((0, 17, False), (17, 22, False), (22, 27, False), (27, 31, False), (31, 36, False), (36, 42, True),
            (42, 48, True), (48, 60, True), (60, 68, True))  # fmt: skip
PARTS = ("body", "hands", "face")
_SHIFT = 4  # OpenCV draws with 1/16 pixel: small maps keep the exact place of a lip


def hue(degrees: float) -> tuple[int, int, int]:
    """The fully saturated RGB colour (0..255) of a hue in degrees."""
    k = (np.array([5.0, 3.0, 1.0]) + degrees / 60) % 6
    r, g, b = np.round(255 * (1 - np.clip(np.minimum(k, 4 - k), 0, 1))).astype(int)
    return int(r), int(g), int(b)


def skeleton_map(
    keypoints: Keypoints, size: tuple[int, int], threshold: float = 0.3, parts: Collection[str] = PARTS
) -> np.ndarray:
    """The skeleton as a picture: float32 (3, H, W) in 0..1, black where nothing is.

    `size` is (W, H) in pixels; points scored at most `threshold` are left out, and so is a line with such an end;
    `parts` chooses among "body", "hands" and "face". Body limbs and fingers have OpenPose's colours, the face's contours
    are white; lines are about 1/64 (body), 1/160 (hands) and 1/256 (face) of the shorter side thick, at least a pixel.
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

"""Frames -> the key points of the largest person: 128 of `conditions.keypoints` in the order body (18), left hand, right hand (21 each), face (68).

"points" float32 (frames, 256): x and y in 0..1 of width and height, NaN where the detector gives no place; "scores" (frames, 128): the detector's
own, 0 where it gives none; "found" (frames, 1): 1 where a person is found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...conditions.keypoints import Keypoints

BODY, HANDS, FACE = slice(0, 18), slice(18, 60), slice(60, 128)
PARTS = {"body": BODY, "hands": HANDS, "face": FACE}
COUNT = 128
WIDTHS = {"points": 2 * COUNT, "scores": COUNT, "found": 1}
HEIGHT = 640.0  # pixels of the frame's height that the protocol measures in
SEEN = 0.3  # score from which a point counts as seen


def rows(people: Sequence[Keypoints | None], found: np.ndarray) -> dict[str, np.ndarray]:
    """One person a frame, None where there is none -> the features of these frames."""
    points = np.full((len(people), COUNT, 2), np.nan, np.float32)
    scores = np.zeros((len(people), COUNT), np.float32)
    for i, k in enumerate(people):
        if k is not None:
            scores[i] = np.concatenate([k.body_score, k.hands_score.ravel(), k.face_score])
            points[i] = np.concatenate([k.body, k.hands.reshape(42, 2), k.face])
    # A place without any confidence is no place: detectors leave zeros there.
    points[scores == 0] = np.nan
    return {"points": points.reshape(len(people), -1), "scores": scores, "found": np.asarray(found, np.float32).reshape(-1, 1)}


def in_pixels(points: np.ndarray, size: np.ndarray | tuple[int, int]) -> np.ndarray:
    """Rows (n, 256) in 0..1 -> (n, 128, 2) in pixels of a frame of `size` (W, H) scaled to a height of 640."""
    width, height = float(size[0]), float(size[1])
    return points.reshape(len(points), -1, 2).astype(np.float64) * [HEIGHT * width / height, HEIGHT]

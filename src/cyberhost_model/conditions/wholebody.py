"""The 133 points of COCO-WholeBody from DWPose's network (`dw-ll_ucoco_384.onnx`), and the mapping to `Keypoints`.

The network tells for every point how likely each column and each row is ("SimCC"); half a pixel of its input apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .keypoints import NECK, Keypoints
from .onnx_network import Network

POINTS = 133
WIDTH, HEIGHT = 288, 384  # pixels of the network's input
_MARGIN = 1.25  # of the box
_SPLIT = 2.0  # columns and rows a pixel
# The means of RGB on BGR: so does DWPose's public code, and so were the numbers of others made.
_MEAN, _STD = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)
# COCO's 17 body points -> `keypoints.BODY`; the neck is computed. 17 to 22, the feet, are left out.
_BODY17 = (0, -1, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
_FACE, _HANDS = slice(23, 91), slice(91, 133)


class WholeBody:
    """Boxes in a picture -> points. `network`: float32 (n, 3, 384, 288) -> columns (n, 133, 576), rows (n, 133, 768)."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A frame, uint8 (H, W, 3) RGB, and a box (x0, y0, x1, y1) in its pixels a person -> points float32 (n, 133, 2) in pixels, scores (n, 133).

        A score is the lower of the two highest values. It is no probability: it may exceed 1.
        """
        middle, size = regions(np.asarray(boxes, np.float32))
        crops = np.stack([_crop(f, m, s) for f, m, s in zip(frames, middle, size, strict=True)])
        columns, rows = self.network(((crops - _MEAN) / _STD).transpose(0, 3, 1, 2))
        places, scores = simcc(columns, rows)
        return (places / [WIDTH, HEIGHT] * size[:, None] + (middle - size / 2)[:, None]).astype(np.float32), scores


def regions(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) -> middles (n, 2) and sizes (n, 2) with a margin, of the input's aspect."""
    size = (boxes[:, 2:] - boxes[:, :2]) * _MARGIN
    width = np.maximum(size[:, 0], size[:, 1] * WIDTH / HEIGHT)
    return (boxes[:, :2] + boxes[:, 2:]) / 2, np.stack([width, width * HEIGHT / WIDTH], 1)


def _crop(frame: np.ndarray, middle: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(384, 288, 3) BGR."""
    scale = WIDTH / size[0]
    matrix = np.array([[scale, 0, WIDTH / 2 - scale * middle[0]], [0, scale, HEIGHT / 2 - scale * middle[1]]])
    return cv2.warpAffine(frame, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)[..., ::-1].astype(np.float32)


def simcc(columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, K, 2 W) and (n, K, 2 H) -> places (n, K, 2) in pixels of the input, -0.5 where nothing is above 0, and scores (n, K)."""
    places = np.stack([columns.argmax(-1), rows.argmax(-1)], -1).astype(np.float32)
    scores = np.minimum(columns.max(-1), rows.max(-1))
    places[scores <= 0] = -1
    return places / _SPLIT, scores


def to_keypoints(points: np.ndarray, scores: np.ndarray, size: tuple[int, int]) -> Keypoints:
    """One person's points (133, 2) in pixels of a picture of `size` (W, H), and scores (133,), as they are -> Keypoints."""
    unit = (points / np.asarray(size, np.float32)).astype(np.float32)
    scores = scores.astype(np.float32)
    order = list(_BODY17)
    body, body_score = unit[order], scores[order]
    body[NECK], body_score[NECK] = (body[2] + body[5]) / 2, min(body_score[2], body_score[5])
    return Keypoints(body, body_score, unit[_HANDS].reshape(2, 21, 2), scores[_HANDS].reshape(2, 21), unit[_FACE], scores[_FACE])

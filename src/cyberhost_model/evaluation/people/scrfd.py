"""SCRFD: faces with five points, as insightface finds them for ArcFace (`det_10g.onnx` of buffalo_l).

The network is run by onnxruntime and read here rather than by the package insightface: that brings a second OpenCV, a compiler's work and a
download of its own, and its size of detection is a setting of the caller, where the protocol fixes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...conditions.boxes import best_boxes
from ...conditions.onnx_network import Network

SIDE = 640  # pixels of the network's square input: the size of detection changes who is found
_STRIDES = (8, 16, 32)
_ANCHORS = 2  # a cell
_LEAST, _OVERLAP = 0.5, 0.4


class FaceDetector:
    """Picture -> faces. `network`: float32 (1, 3, 640, 640) RGB, (x - 127.5) / 128 -> scores, boxes and points of strides 8, 16, 32: nine outputs."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, picture_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """uint8 (H, W, 3) RGB -> boxes (n, 4), scores (n,), points (n, 5, 2): eyes, nose, mouth corners; in pixels, the surest first."""
        square, ratio = _fitted(picture_u8)
        outputs = self.network(((square.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None])
        boxes, scores, points = _decoded(outputs)
        boxes, points = boxes / ratio, points / ratio
        kept = best_boxes(boxes, scores, _OVERLAP, pixel=1)
        return boxes[kept], scores[kept], points[kept]


def _fitted(picture_u8: np.ndarray) -> tuple[np.ndarray, float]:
    """The picture in the top left of a black square, and its scale: that of the heights, as insightface reckons it."""
    height, width = picture_u8.shape[:2]
    size = (int(SIDE * width / height), SIDE) if height > width else (SIDE, int(SIDE * height / width))
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    square[: size[1], : size[0]] = cv2.resize(picture_u8, size)
    return square, size[1] / height


def _decoded(outputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nine outputs -> boxes, scores and points of the faces, in pixels of the input. Distances come in strides from the cell's corner."""
    boxes, scores, points = [], [], []
    for level, stride in enumerate(_STRIDES):
        score, reach, shift = (outputs[level + 3 * kind].reshape(-1, n) for kind, n in enumerate((1, 4, 10)))
        y, x = np.mgrid[: SIDE // stride, : SIDE // stride]
        place = np.repeat(np.stack([x.ravel(), y.ravel()], 1) * stride, _ANCHORS, 0).astype(np.float32)
        seen = score[:, 0] >= _LEAST
        place, reach = place[seen], reach[seen] * stride
        boxes.append(np.concatenate([place - reach[:, :2], place + reach[:, 2:]], 1))
        points.append(place[:, None] + shift[seen].reshape(-1, 5, 2) * stride)
        scores.append(score[seen, 0])
    return np.concatenate(boxes), np.concatenate(scores), np.concatenate(points)

"""YOLOX: the boxes of the people in a picture, as DWPose finds them (`yolox_l.onnx`)."""

from __future__ import annotations

import cv2
import numpy as np

from .boxes import best_boxes
from .onnx_network import Network

SIDE = 640  # pixels of the network's square input
_STRIDES = (8, 16, 32)
_GREY = 114
_PERSON = 0  # class of COCO
_LEAST, _OVERLAP = 0.3, 0.45


class PersonFinder:
    """Picture -> people. `network`: float32 (1, 3, 640, 640) BGR in 0..255 -> one output (1, 8400, 85)."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, picture_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (H, W, 3) RGB -> (boxes float32 (n, 4) in pixels, scores (n,)), the surest first."""
        square, ratio = fitted(picture_u8, SIDE, _GREY)
        (raw,) = self.network(square[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32))
        boxes, scores = _decoded(raw[0])
        kept = best_boxes(boxes, scores, _OVERLAP, pixel=1.0 * ratio)
        return boxes[kept] / ratio, scores[kept]


def fitted(picture_u8: np.ndarray, side: int, fill: int) -> tuple[np.ndarray, float]:
    """The picture scaled to fit into the top left of a square of `side`, the rest `fill`; and the scale."""
    height, width = picture_u8.shape[:2]
    ratio = min(side / height, side / width)
    small = cv2.resize(picture_u8, (int(width * ratio), int(height * ratio)), interpolation=cv2.INTER_LINEAR)
    square = np.full((side, side, 3), fill, np.uint8)
    square[: small.shape[0], : small.shape[1]] = small
    return square, ratio


def _decoded(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(8400, 85): centre and log size in cells, objectness, 80 classes -> people (boxes in pixels of the input, scores)."""
    cells, strides = [], []
    for step in _STRIDES:
        y, x = np.mgrid[: SIDE // step, : SIDE // step]
        cells.append(np.stack([x.ravel(), y.ravel()], 1))
        strides.append(np.full((x.size, 1), step))
    cell, stride = np.concatenate(cells), np.concatenate(strides)
    scores = raw[:, 4] * raw[:, 5 + _PERSON]
    seen = scores > _LEAST
    centre, half = (raw[seen, :2] + cell[seen]) * stride[seen], np.exp(raw[seen, 2:4]) * stride[seen] / 2
    return np.concatenate([centre - half, centre + half], 1).astype(np.float32), scores[seen]

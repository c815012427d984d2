"""DWPose: the whole-body detector of the field (Yang et al., 2023, arXiv 2307.15880).

YOLOX (`yolox_l.onnx`) finds the boxes of the people; RTMPose (`dw-ll_ucoco_384.onnx`) finds the 133 points of
COCO-WholeBody in each box. For every point it says how likely each column and each row is ("SimCC"), half a pixel of
its input apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from cyberhost_model.errors import need
from cyberhost_model.perception.detector import WholeBodyDetector
from cyberhost_model.perception.geometry import order_by_area, suppress_overlaps
from cyberhost_model.perception.keypoints import NECK, Keypoints
from cyberhost_model.perception.onnx_network import EXTRA, Network, OnnxNetwork

FILES = ("yolox_l.onnx", "dw-ll_ucoco_384.onnx")
"""Names in the registry of weights (`hub`)."""
SIDE = 640  # pixels of the network's square input
_STRIDES = (8, 16, 32)
_GREY = 114
_PERSON = 0  # class of COCO
_LEAST, _OVERLAP = 0.3, 0.45
POINTS = 133
WIDTH, HEIGHT = 288, 384  # pixels of the network's input
_MARGIN = 1.25  # of the box
_SPLIT = 2.0  # columns and rows a pixel
# The means of RGB on BGR: so does DWPose's public code, and so were the numbers of others made.
_MEAN, _STD = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)
# COCO's 17 body points -> `keypoints.BODY`; the neck is computed. 17 to 22, the feet, are left out.
_BODY17 = (0, -1, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
_FACE, _HANDS = slice(23, 91), slice(91, 133)


class PersonDetector:
    """Finds people. `network`: float32 (1, 3, 640, 640) BGR in 0..255 -> one output (1, 8400, 85)."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, picture_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the people in uint8 (H, W, 3) RGB: boxes float32 (n, 4) in pixels and scores (n,), the highest first."""
        square, ratio = letterbox(picture_u8, SIDE, _GREY)
        (raw,) = self.network(square[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32))
        boxes, scores = _decode(raw[0])
        kept = suppress_overlaps(boxes, scores, _OVERLAP, pixel=1.0 * ratio)
        return boxes[kept] / ratio, scores[kept]


def letterbox(picture_u8: np.ndarray, side: int, fill: int) -> tuple[np.ndarray, float]:
    """Scale a picture into the top left of a square of `side`, the rest `fill`. Returns it and the scale."""
    height, width = picture_u8.shape[:2]
    ratio = min(side / height, side / width)
    small = cv2.resize(picture_u8, (int(width * ratio), int(height * ratio)), interpolation=cv2.INTER_LINEAR)
    square = np.full((side, side, 3), fill, np.uint8)
    square[: small.shape[0], : small.shape[1]] = small
    return square, ratio


def _decode(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(8400, 85) -> boxes of the people in pixels of the input, and their scores.

    A row holds centre and log size in cells, objectness and 80 classes.
    """
    cells, strides = [], []
    for step in _STRIDES:
        y, x = np.mgrid[: SIDE // step, : SIDE // step]
        cells.append(np.stack([x.ravel(), y.ravel()], 1))
        strides.append(np.full((x.size, 1), step))
    cell, stride = np.concatenate(cells), np.concatenate(strides)
    scores = raw[:, 4] * raw[:, 5 + _PERSON]
    found = scores > _LEAST
    centre, half = (raw[found, :2] + cell[found]) * stride[found], np.exp(raw[found, 2:4]) * stride[found] / 2
    return np.concatenate([centre - half, centre + half], 1).astype(np.float32), scores[found]


class PoseNetwork:
    """Finds the points of people in boxes.

    `network`: float32 (n, 3, 384, 288) -> columns (n, 133, 576), rows (n, 133, 768).
    """

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the points of one person a frame: float32 (n, 133, 2) in pixels, and scores (n, 133).

        frames: uint8 (H, W, 3) RGB. boxes: (n, 4) as (x0, y0, x1, y1) in pixels. A score is the lower of the two
        highest values; it is no probability and may exceed 1.
        """
        middle, size = person_regions(np.asarray(boxes, np.float32))
        crops = np.stack([_crop(f, m, s) for f, m, s in zip(frames, middle, size, strict=True)])
        columns, rows = self.network(((crops - _MEAN) / _STD).transpose(0, 3, 1, 2))
        places, scores = decode_simcc(columns, rows)
        return (places / [WIDTH, HEIGHT] * size[:, None] + (middle - size / 2)[:, None]).astype(np.float32), scores


def person_regions(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Enlarge boxes (n, 4) to the input's aspect with a margin: centres (n, 2) and sizes (n, 2)."""
    size = (boxes[:, 2:] - boxes[:, :2]) * _MARGIN
    width = np.maximum(size[:, 0], size[:, 1] * WIDTH / HEIGHT)
    return (boxes[:, :2] + boxes[:, 2:]) / 2, np.stack([width, width * HEIGHT / WIDTH], 1)


def _crop(frame: np.ndarray, middle: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(384, 288, 3) BGR."""
    scale = WIDTH / size[0]
    matrix = np.array([[scale, 0, WIDTH / 2 - scale * middle[0]], [0, scale, HEIGHT / 2 - scale * middle[1]]])
    return cv2.warpAffine(frame, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)[..., ::-1].astype(np.float32)


def decode_simcc(columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decode (n, K, 2 W) and (n, K, 2 H) to places (n, K, 2) in pixels of the input, and scores (n, K).

    A place is -0.5 where nothing is above 0.
    """
    places = np.stack([columns.argmax(-1), rows.argmax(-1)], -1).astype(np.float32)
    scores = np.minimum(columns.max(-1), rows.max(-1))
    places[scores <= 0] = -1
    return places / _SPLIT, scores


def to_keypoints(points: np.ndarray, scores: np.ndarray, size: tuple[int, int]) -> Keypoints:
    """Convert one person's points (133, 2) in pixels of a picture of `size` (W, H), and scores (133,), to Keypoints."""
    unit = (points / np.asarray(size, np.float32)).astype(np.float32)
    scores = scores.astype(np.float32)
    order = list(_BODY17)
    body, body_score = unit[order], scores[order]
    body[NECK], body_score[NECK] = (body[2] + body[5]) / 2, min(body_score[2], body_score[5])
    return Keypoints(
        body, body_score, unit[_HANDS].reshape(2, 21, 2), scores[_HANDS].reshape(2, 21), unit[_FACE], scores[_FACE]
    )


class DWPose(WholeBodyDetector):
    """Finds people, then their points. Scores are the network's own: not clipped, no probabilities."""

    reads_lips = True
    """AnimateAnyone's code drives lips by its points; their accuracy is not measured here."""

    def __init__(self, finder: PersonDetector, points: PoseNetwork) -> None:
        self.finder, self.points = finder, points

    @staticmethod
    def from_files(yolox: Path, pose: Path, device: str | torch.device = "cpu") -> DWPose:
        """Load from the paths of `FILES`. Raises ModelError, and ResourceError where onnxruntime is not installed."""
        return DWPose(PersonDetector(OnnxNetwork(yolox, device)), PoseNetwork(OnnxNetwork(pose, device)))

    def to(self, device: str | torch.device) -> DWPose:
        """Compute on another device from now on, as far as onnxruntime can."""
        for part in (self.finder, self.points):
            if isinstance(part.network, OnnxNetwork):
                part.network.to(device)
        return self

    def people(self, picture_u8: np.ndarray, most: int | None = None) -> list[Keypoints]:
        """Find the people in uint8 (H, W, 3) RGB, at most `most`, the largest box first."""
        boxes, _ = self.finder(picture_u8)
        boxes = boxes[order_by_area(boxes)[:most]]
        if not len(boxes):
            return []
        points, scores = self.points([picture_u8] * len(boxes), boxes)
        size = picture_u8.shape[1], picture_u8.shape[0]
        return [to_keypoints(p, s, size) for p, s in zip(points, scores, strict=True)]

    def largest(self, frames: Sequence[np.ndarray]) -> tuple[list[Keypoints], np.ndarray]:
        """Find the largest person of each frame, and whether there is one, bool (n,).

        Where nobody is found the whole frame is taken for a person, as DWPose's public code does.
        """
        boxes, found = [], []
        for frame in frames:
            those, _ = self.finder(frame)
            found.append(len(those) > 0)
            boxes.append(those[order_by_area(those)[0]] if found[-1] else [0, 0, frame.shape[1], frame.shape[0]])
        points, scores = self.points(frames, np.asarray(boxes, np.float32))
        people = [to_keypoints(p, s, (f.shape[1], f.shape[0])) for p, s, f in zip(points, scores, frames, strict=True)]
        return people, np.array(found)


def load_dwpose(weights_dir: Path | None = None, download: bool = True, device: str | torch.device = "cpu") -> DWPose:
    """Load DWPose with the weights of the registry; see `hub.locate`.

    Raises ModelError, NetworkError, and ResourceError without onnxruntime.
    """
    from cyberhost_model.hub.locate import locate

    need("onnxruntime", EXTRA)  # before 350 MB are fetched for it
    yolox, pose = (locate(name, weights_dir, download) for name in FILES)
    return DWPose.from_files(yolox, pose, device)

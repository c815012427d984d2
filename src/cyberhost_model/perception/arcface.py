"""ArcFace: who a face is, as 512 numbers whose angle tells people apart (Deng et al., 2019; `w600k_r50.onnx` of
buffalo_l).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from cyberhost_model.perception.geometry import best_boxes, by_area
from cyberhost_model.perception.onnx_network import Network, OnnxNetwork

# SCRFD: faces with five points, as insightface finds them for ArcFace (`det_10g.onnx` of buffalo_l).
#
# The network is run by onnxruntime and read here rather than by the package insightface: that brings a second OpenCV, a
# compiler's work and a download of its own, and its size of detection is a setting of the caller, where the protocol
# fixes it.


SCRFD_SIDE = 640  # pixels of the network's square input: the size of detection changes who is found
_STRIDES = (8, 16, 32)
_ANCHORS = 2  # a cell
_LEAST, _OVERLAP = 0.5, 0.4


class FaceDetector:
    """Picture -> faces.

    `network`: float32 (1, 3, 640, 640) RGB, (x - 127.5) / 128 -> scores, boxes and points of strides 8, 16, 32: nine
    outputs.
    """

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, picture_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """uint8 (H, W, 3) RGB -> boxes (n, 4), scores (n,), points (n, 5, 2): eyes, nose, mouth corners; in pixels,
        the surest first.
        """
        square, ratio = _fitted(picture_u8)
        outputs = self.network(((square.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None])
        boxes, scores, points = _decoded(outputs)
        boxes, points = boxes / ratio, points / ratio
        kept = best_boxes(boxes, scores, _OVERLAP, pixel=1)
        return boxes[kept], scores[kept], points[kept]


def _fitted(picture_u8: np.ndarray) -> tuple[np.ndarray, float]:
    """The picture in the top left of a black square, and its scale: that of the heights, as insightface reckons it."""
    height, width = picture_u8.shape[:2]
    size = (
        (int(SCRFD_SIDE * width / height), SCRFD_SIDE)
        if height > width
        else (SCRFD_SIDE, int(SCRFD_SIDE * height / width))
    )
    square = np.zeros((SCRFD_SIDE, SCRFD_SIDE, 3), np.uint8)
    square[: size[1], : size[0]] = cv2.resize(picture_u8, size)
    return square, size[1] / height


def _decoded(outputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nine outputs -> boxes, scores and points of the faces, in pixels of the input.

    Distances come in strides from the cell's corner.
    """
    boxes, scores, points = [], [], []
    for level, stride in enumerate(_STRIDES):
        score, reach, shift = (outputs[level + 3 * kind].reshape(-1, n) for kind, n in enumerate((1, 4, 10)))
        y, x = np.mgrid[: SCRFD_SIDE // stride, : SCRFD_SIDE // stride]
        place = np.repeat(np.stack([x.ravel(), y.ravel()], 1) * stride, _ANCHORS, 0).astype(np.float32)
        seen = score[:, 0] >= _LEAST
        place, reach = place[seen], reach[seen] * stride
        boxes.append(np.concatenate([place - reach[:, :2], place + reach[:, 2:]], 1))
        points.append(place[:, None] + shift[seen].reshape(-1, 5, 2) * stride)
        scores.append(score[seen, 0])
    return np.concatenate(boxes), np.concatenate(scores), np.concatenate(points)


FILES = ("det_10g.onnx", "w600k_r50.onnx")
"""In the registry of weights (`hub`)."""
LICENCE = "ArcFace's weights (insightface buffalo_l) are for non-commercial research only"
SIDE = 112
DIM = 512
# Where eyes, nose and mouth corners lie in the aligned face.
_PLACES = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])


def aligned(picture_u8: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The face whose five points (5, 2) are given, uint8 (112, 112, 3): turned, scaled and shifted, never sheared;
    black outside the picture.
    """
    # A similarity is a complex line: w = a z + b, here with the least squares.
    z, w = (p.astype(np.float64) @ [1, 1j] for p in (points, _PLACES))
    from_z, from_w = z - z.mean(), w - w.mean()
    a = np.vdot(from_z, from_w) / np.vdot(from_z, from_z)
    b = w.mean() - a * z.mean()
    return cv2.warpAffine(picture_u8, np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]]), (SIDE, SIDE))


class ArcFace:
    """Frames -> the embedding of the largest face in each.

    `network`: float32 (n, 3, 112, 112) RGB, (x - 127.5) / 127.5 -> (n, 512).
    """

    dim = DIM

    def __init__(self, detector: FaceDetector, network: Network) -> None:
        self.detector, self.network = detector, network

    @staticmethod
    def from_files(detector: Path, network: Path, device: str = "cpu") -> ArcFace:
        """From `FILES`. Raises ModelError, and ResourceError where onnxruntime is not installed."""
        return ArcFace(FaceDetector(OnnxNetwork(detector, device)), OnnxNetwork(network, device))

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (n, H, W, 3) RGB -> float32 (n, 512), each of length 1; NaN where no face is found."""
        out = np.full((len(frames), DIM), np.nan, np.float32)
        faces = {}
        for i, frame in enumerate(frames):
            boxes, _, points = self.detector(frame)
            if len(boxes):
                faces[i] = aligned(frame, points[by_area(boxes)[0]])
        if faces:
            batch = (np.stack(list(faces.values())).astype(np.float32) - 127.5) / 127.5
            embeddings = self.network(batch.transpose(0, 3, 1, 2))[0]
            out[list(faces)] = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        return out

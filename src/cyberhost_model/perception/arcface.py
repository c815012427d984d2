"""ArcFace: a face as 512 numbers whose angles tell people apart (Deng et al., 2019).

The networks are `det_10g.onnx` (SCRFD, which finds faces with five points) and `w600k_r50.onnx` of insightface's
buffalo_l. They are run by onnxruntime and read here rather than by the package insightface: that brings a second
OpenCV, a compiler's work and a download of its own, and its size of detection is a setting of the caller, where the
evaluation protocol fixes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from cyberhost_model.perception.geometry import order_by_area, suppress_overlaps
from cyberhost_model.perception.onnx_network import Network, OnnxNetwork

FILES = ("det_10g.onnx", "w600k_r50.onnx")
"""Names in the registry of weights (`hub`)."""
ANTELOPE_FILES = ("scrfd_10g_bnkps.onnx", "glintr100.onnx")
"""The same of insightface's antelopev2, with which Hallo was trained: another recogniser, of the same inputs."""
LICENCE = "ArcFace's weights (insightface buffalo_l) are for non-commercial research only"
SIDE = 112  # pixels of an aligned face
DIM = 512
# Where eyes, nose and mouth corners lie in the aligned face.
_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
SCRFD_SIDE = 640  # pixels of the network's square input: the size of detection changes who is found
_STRIDES = (8, 16, 32)
_ANCHORS = 2  # a cell
_LEAST, _OVERLAP = 0.5, 0.4


class FaceDetector:
    """SCRFD: finds faces with five points.

    `network`: float32 (1, 3, 640, 640) RGB, (x - 127.5) / 128 -> nine outputs: scores, boxes and points of strides 8,
    16 and 32.
    """

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, picture_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the faces in uint8 (H, W, 3) RGB, the highest score first.

        Returns boxes (n, 4), scores (n,) and points (n, 5, 2): eyes, nose, mouth corners; in pixels.
        """
        square, ratio = _letterbox(picture_u8)
        outputs = self.network(((square.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None])
        boxes, scores, points = _decode(outputs)
        boxes, points = boxes / ratio, points / ratio
        kept = suppress_overlaps(boxes, scores, _OVERLAP, pixel=1)
        return boxes[kept], scores[kept], points[kept]


def _letterbox(picture_u8: np.ndarray) -> tuple[np.ndarray, float]:
    """The picture in the top left of a black square, and its scale.

    The scale is that of the heights, as insightface computes it.
    """
    height, width = picture_u8.shape[:2]
    size = (
        (int(SCRFD_SIDE * width / height), SCRFD_SIDE)
        if height > width
        else (SCRFD_SIDE, int(SCRFD_SIDE * height / width))
    )
    square = np.zeros((SCRFD_SIDE, SCRFD_SIDE, 3), np.uint8)
    square[: size[1], : size[0]] = cv2.resize(picture_u8, size)
    return square, size[1] / height


def _decode(outputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nine outputs -> boxes, scores and points of the faces, in pixels of the input.

    The network gives distances in strides from the cell's corner.
    """
    boxes, scores, points = [], [], []
    for level, stride in enumerate(_STRIDES):
        score, reach, shift = (outputs[level + 3 * kind].reshape(-1, n) for kind, n in enumerate((1, 4, 10)))
        y, x = np.mgrid[: SCRFD_SIDE // stride, : SCRFD_SIDE // stride]
        place = np.repeat(np.stack([x.ravel(), y.ravel()], 1) * stride, _ANCHORS, 0).astype(np.float32)
        found = score[:, 0] >= _LEAST
        place, reach = place[found], reach[found] * stride
        boxes.append(np.concatenate([place - reach[:, :2], place + reach[:, 2:]], 1))
        points.append(place[:, None] + shift[found].reshape(-1, 5, 2) * stride)
        scores.append(score[found, 0])
    return np.concatenate(boxes), np.concatenate(scores), np.concatenate(points)


def align_face(picture_u8: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Warp the face with five points (5, 2) in pixels to uint8 (112, 112, 3) by a similarity.

    Outside the picture it is black.
    """
    # A similarity is a complex line: w = a z + b, here with the least squares.
    z, w = (p.astype(np.float64) @ [1, 1j] for p in (points, _TEMPLATE))
    from_z, from_w = z - z.mean(), w - w.mean()
    a = np.vdot(from_z, from_w) / np.vdot(from_z, from_z)
    b = w.mean() - a * z.mean()
    return cv2.warpAffine(picture_u8, np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]]), (SIDE, SIDE))


class ArcFace:
    """Embeds the largest face of each frame.

    `network`: float32 (n, 3, 112, 112) RGB, (x - 127.5) / 127.5 -> (n, 512).
    """

    dim = DIM

    def __init__(self, detector: FaceDetector, network: Network) -> None:
        self.detector, self.network = detector, network

    @staticmethod
    def from_files(detector: Path, network: Path, device: str = "cpu") -> ArcFace:
        """Load from the paths of `FILES`. Raises ModelError, and ResourceError where onnxruntime is not installed."""
        return ArcFace(FaceDetector(OnnxNetwork(detector, device)), OnnxNetwork(network, device))

    def __call__(self, frames: np.ndarray, unit: bool = True) -> np.ndarray:
        """Embed uint8 (n, H, W, 3) RGB to float32 (n, 512); NaN where no face is found.

        unit: each has length 1; otherwise the network's own, which Hallo reads.
        """
        out = np.full((len(frames), DIM), np.nan, np.float32)
        faces = {}
        for i, frame in enumerate(frames):
            boxes, _, points = self.detector(frame)
            if len(boxes):
                faces[i] = align_face(frame, points[order_by_area(boxes)[0]])
        if faces:
            batch = (np.stack(list(faces.values())).astype(np.float32) - 127.5) / 127.5
            embeddings = self.network(batch.transpose(0, 3, 1, 2))[0]
            length = np.linalg.norm(embeddings, axis=1, keepdims=True) if unit else 1.0
            out[list(faces)] = embeddings / length
        return out

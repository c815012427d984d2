"""ArcFace: who a face is, as 512 numbers whose angle tells people apart (Deng et al., 2019; `w600k_r50.onnx` of buffalo_l)."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ...conditions.boxes import by_area
from ...conditions.onnx_network import Network, OnnxNetwork
from .scrfd import FaceDetector

FILES = ("det_10g.onnx", "w600k_r50.onnx")
"""In the registry of weights (`hub`)."""
LICENCE = "ArcFace's weights (insightface buffalo_l) are for non-commercial research only"
SIDE = 112
DIM = 512
# Where eyes, nose and mouth corners lie in the aligned face.
_PLACES = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])


def aligned(picture_u8: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The face whose five points (5, 2) are given, uint8 (112, 112, 3): turned, scaled and shifted, never sheared; black outside the picture."""
    # A similarity is a complex line: w = a z + b, here with the least squares.
    z, w = (p.astype(np.float64) @ [1, 1j] for p in (points, _PLACES))
    from_z, from_w = z - z.mean(), w - w.mean()
    a = np.vdot(from_z, from_w) / np.vdot(from_z, from_z)
    b = w.mean() - a * z.mean()
    return cv2.warpAffine(picture_u8, np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]]), (SIDE, SIDE))


class ArcFace:
    """Frames -> the embedding of the largest face in each. `network`: float32 (n, 3, 112, 112) RGB, (x - 127.5) / 127.5 -> (n, 512)."""

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

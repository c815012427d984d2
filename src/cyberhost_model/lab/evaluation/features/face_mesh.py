"""Extract what THEval measures of a face, by MediaPipe's face mesh as THEval's code calls it (extra `theval`).

It looks three times, with its own settings each, and so do we: lips and their opening on frames stretched to 256 x 256,
brows on frames as they are, the opening for lip-sync on frames whose red and blue are exchanged, because OpenCV's order
was taken for granted there.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cyberhost_model.errors import ResourceError, need
from cyberhost_model.lab.evaluation.features.extractor import RowFile, VideoInfo
from cyberhost_model.lab.evaluation.protocol import file_sha256

EXTRA = "theval"
SIDE = 256
LIPS = (
    *(0, 13, 14, 17, 37, 39, 40, 61, 78, 80, 81, 82, 84, 87, 88, 91, 95, 146, 178, 181),
    *(185, 191, 267, 269, 270, 291, 308, 310, 311, 312, 314, 317, 318, 321, 324, 375, 402, 405, 409, 415),
)
UPPER, LOWER = (191, 80, 81, 82, 13, 312, 311, 310), (95, 88, 178, 87, 14, 317, 402, 318)
"""Inner edges of the lips, points that THEval pairs."""
LEFT_EYE = (249, 263, 362, 373, 374, 380, 381, 382, 384, 385, 386, 387, 388, 390, 398, 466)
RIGHT_EYE = (7, 33, 133, 144, 145, 153, 154, 155, 157, 158, 159, 160, 161, 163, 173, 246)
LEFT_BROW = (276, 282, 283, 285, 293, 295, 296, 300, 334, 336)
RIGHT_BROW = (46, 52, 53, 55, 63, 65, 66, 70, 105, 107)
EYES = ((33, 133), (362, 263))
OUTER_CORNERS = (33, 263)
WIDTHS = {"lips": 2 * len(LIPS), "lift": 2, "opening": 1, "sync_opening": 1}
"""Names and widths of the features, NaN without a face: see `theval`."""
_VERSION = 1
_FILES = ("face_landmark/face_landmark_with_attention.tflite", "face_landmark/face_landmark.tflite")

Mesh = Callable[[np.ndarray], np.ndarray | None]
"""uint8 (H, W, 3) -> points (n, 2) in 0..1 of width and height, None without a face."""


def lips_and_opening(mesh: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the lips (40, 2) in pixels of SIDE and their opening in distances of the eyes' outer corners."""
    points = mesh * SIDE
    eyes = float(np.linalg.norm(points[OUTER_CORNERS[0]] - points[OUTER_CORNERS[1]]))
    gap = np.abs(points[list(UPPER), 1] - points[list(LOWER), 1]).mean()
    return points[list(LIPS)], float(gap) / eyes if eyes >= 1e-3 else float("nan")


def brow_lift(mesh: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return how far the left and the right brow are from their eyes, in distances of the eyes: (2,)."""
    points = mesh * size
    left, right = points[list(LEFT_EYE)].mean(0), points[list(RIGHT_EYE)].mean(0)
    apart = np.linalg.norm(left - right)
    if apart < 1e-3:
        return np.full(2, np.nan)
    pairs = ((LEFT_BROW, left), (RIGHT_BROW, right))
    return np.array([np.linalg.norm(points[list(brow)].mean(0) - eye) for brow, eye in pairs]) / apart


def sync_opening(mesh: np.ndarray) -> float:
    """Return the opening of the lips in shares of the frame's height over the eyes' distance in shares of its width."""
    left, right = (mesh[list(eye), 0].mean() for eye in EYES)
    apart = abs(right - left)
    gap = abs(mesh[list(UPPER), 1].mean() - mesh[list(LOWER), 1].mean())
    return float(gap / apart) if apart > 0 else float("nan")


class FaceMeshFrames:
    """Extract the features of WIDTHS, float32 (frames, width). An `Extractor`.

    start: makes the three meshes anew for a video, because they follow a face from frame to frame: stretched, plain,
    exchanged. digest: of the library and its networks.
    """

    name = "face mesh"
    fps = None
    uses_audio = False

    def __init__(self, start: Callable[[], tuple[Mesh, Mesh, Mesh]], digest: str) -> None:
        self.digest, self._start = f"face mesh/{_VERSION} {digest}", start
        self._rows: dict[str, RowFile] = {}

    def begin(self, info: VideoInfo) -> None:
        """Start a video."""
        self._rows = {name: RowFile(width) for name, width in WIDTHS.items()}
        self._meshes = self._start()

    def push(self, frames: np.ndarray) -> None:
        """Read the next frames, uint8 (n, H, W, 3)."""
        stretched, plain, exchanged = self._meshes
        for frame in frames:
            found = {name: np.full(width, np.nan) for name, width in WIDTHS.items()}
            if (mesh := stretched(cv2.resize(frame, (SIDE, SIDE)))) is not None:
                lips, found["opening"][0] = lips_and_opening(mesh)
                found["lips"] = lips.ravel()
            if (mesh := plain(frame)) is not None:
                found["lift"] = brow_lift(mesh, (frame.shape[1], frame.shape[0]))
            if (mesh := exchanged(np.ascontiguousarray(frame[..., ::-1]))) is not None:
                found["sync_opening"][0] = sync_opening(mesh)
            for name, row in found.items():
                self._rows[name].add(row[None])

    def finish(self) -> dict[str, np.ndarray]:
        """Return the features of all frames."""
        return {name: rows.array() for name, rows in self._rows.items()}


def load_face_mesh() -> tuple[FaceMeshFrames, dict[str, str]]:
    """Load MediaPipe's face mesh: the extractor, and file -> sha256 of its networks, which the library holds.

    Raises ResourceError where the library is not installed, or is one that has the face mesh no more.
    """
    library = need("mediapipe", EXTRA)
    solutions: Any = getattr(library, "solutions", None)
    if solutions is None:
        raise ResourceError(f"mediapipe {version('mediapipe')} has no face mesh: pip install 'mediapipe<0.10.22'")
    folder = Path(library.__file__).parent / "modules"
    weights = {Path(name).name: file_sha256(folder / name) for name in _FILES}

    def start() -> tuple[Mesh, Mesh, Mesh]:
        refined = {"max_num_faces": 1, "refine_landmarks": True}
        settings: tuple[dict[str, Any], ...] = (refined, refined, {"max_num_faces": 1})
        stretched, plain, exchanged = (_mesh(solutions.face_mesh.FaceMesh(**each)) for each in settings)
        return stretched, plain, exchanged

    return FaceMeshFrames(start, f"{version('mediapipe')} {' '.join(weights.values())}"), weights


def _mesh(network: Any) -> Mesh:
    def points(frame: np.ndarray) -> np.ndarray | None:
        faces = network.process(frame).multi_face_landmarks
        return np.array([(p.x, p.y) for p in faces[0].landmark]) if faces else None

    return points

"""What comes with the embedded model in place of DWPose and ArcFace, under a protocol of its own: nothing has to be fetched.

Key points: `conditions.detector`. It starts from faces, so a frame without a face has nobody in it.

The face: low frequencies of lightness and of both colours of the aligned face, 3 x 63 numbers of length 1. On 335 frames of 27 recordings of people who
speak, against the first frames of all of them, it tells which recording it is with an AUC of 0.978 (lightness alone 0.965, the network's face encoder
0.969); on 300 frames of 46 photo puppets whose exposure, white balance, side light, sharpness and noise were changed at random with 0.991 (0.975, 0.954).
That is the same day, light and haircut: it notices a face that becomes another one or loses its shape, and does not know a person from another photograph.
"""

from __future__ import annotations

import cv2
import numpy as np

from ...conditions.detector import KeypointDetector
from ...conditions.keypoints import Keypoints
from ...dataset.identity import aligned_face, low_frequencies
from ...model_folder import EMBEDDED
from ..digests import file_sha256
from .keypoint_rows import WIDTHS, rows
from .per_frame import PerFrame

FOLDER = EMBEDDED / "tiny" / "detector"
WEIGHTS = FOLDER / "model.safetensors"
DIM = 3 * 63
# Below this contrast a colour channel (0..255) is mostly the camera's and the coder's noise.
_COLOUR = 2.0
_VERSION = 1


def describe(frame: np.ndarray, k: Keypoints) -> np.ndarray:
    """uint8 (H, W, 3) RGB and its person -> float32 (189,) of length 1; NaN where the face cannot be aligned."""
    face = aligned_face(frame, k)
    if face is None:
        return np.full(DIM, np.nan, np.float32)
    lab = cv2.cvtColor(face, cv2.COLOR_RGB2LAB)
    low = np.concatenate([low_frequencies(lab[..., c], _COLOUR if c else 1e-3) for c in range(3)])
    return (low / (np.linalg.norm(low) + 1e-9)).astype(np.float32)


def embedded_features(device: str = "cpu") -> PerFrame:
    """The extractor "embedded": what `keypoint_rows` names, and "embeddings" float32 (frames, 189)."""
    detector = KeypointDetector.from_pretrained(FOLDER).to(device)

    def look(frames: np.ndarray) -> dict[str, np.ndarray]:
        found = [detector.detect(frame) for frame in frames]
        people = [f[0].keypoints if f else None for f in found]
        embeddings = np.full((len(frames), DIM), np.nan, np.float32)
        for i, (frame, k) in enumerate(zip(frames, people, strict=True)):
            if k is not None:
                embeddings[i] = describe(frame, k)
        return {**rows(people, np.array([bool(f) for f in found])), "embeddings": embeddings}

    return PerFrame("embedded", f"{_VERSION} {file_sha256(WEIGHTS)}", look, {**WIDTHS, "embeddings": DIM})

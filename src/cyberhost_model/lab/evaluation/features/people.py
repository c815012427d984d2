"""Which networks find the people: the public ones, or those that come with the embedded model, each under its
protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from cyberhost_model.config import EMBEDDED
from cyberhost_model.errors import need
from cyberhost_model.lab.evaluation.features import people as embedded
from cyberhost_model.lab.evaluation.features.extractor import PerFrame
from cyberhost_model.lab.evaluation.metric import Context
from cyberhost_model.lab.evaluation.protocol import PROTOCOL, PROTOCOL_EMBEDDED, file_sha256
from cyberhost_model.perception import arcface, dwpose
from cyberhost_model.perception.face_descriptor import aligned_face, low_frequencies
from cyberhost_model.perception.keypoint_detector import KeypointDetector
from cyberhost_model.perception.keypoints import Keypoints

# Frames -> the key points of the largest person: 128 of `conditions.keypoints` in the order body (18), left hand, right
# hand (21 each), face (68).
#
# "points" float32 (frames, 256): x and y in 0..1 of width and height, NaN where the detector gives no place; "scores"
# (frames, 128): the detector's own, 0 where it gives none; "found" (frames, 1): 1 where a person is found.


BODY, HANDS, FACE = slice(0, 18), slice(18, 60), slice(60, 128)
PARTS = {"body": BODY, "hands": HANDS, "face": FACE}
COUNT = 128
WIDTHS = {"points": 2 * COUNT, "scores": COUNT, "found": 1}
HEIGHT = 640.0  # pixels of the frame's height that the protocol measures in


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
    return {
        "points": points.reshape(len(people), -1),
        "scores": scores,
        "found": np.asarray(found, np.float32).reshape(-1, 1),
    }


def in_pixels(points: np.ndarray, size: np.ndarray | tuple[int, int]) -> np.ndarray:
    """Rows (n, 256) in 0..1 -> (n, 128, 2) in pixels of a frame of `size` (W, H) scaled to a height of 640."""
    width, height = float(size[0]), float(size[1])
    return points.reshape(len(points), -1, 2).astype(np.float64) * [HEIGHT * width / height, HEIGHT]


# What comes with the embedded model in place of DWPose and ArcFace, under a protocol of its own: nothing has to be
# fetched.
#
# Key points: `conditions.detector`. It starts from faces, so a frame without a face has nobody in it.
#
# The face: low frequencies of lightness and of both colours of the aligned face, 3 x 63 numbers of length 1. On 335
# frames of 27 recordings of people who speak, against the first frames of all of them, it tells which recording it is
# with an AUC of 0.978 (lightness alone 0.965, the network's face encoder 0.969); on 300 frames of 46 photo puppets
# whose exposure, white balance, side light, sharpness and noise were changed at random with 0.991 (0.975, 0.954). That
# is the same day, light and haircut: it notices a face that becomes another one or loses its shape, and does not know a
# person from another photograph.


FOLDER = EMBEDDED / "tiny" / "detector"
WEIGHTS = FOLDER / "model.safetensors"
DIM = 3 * 63
# Below this contrast a colour channel (0..255) is mostly the camera's and the coder's noise.
_COLOUR = 2.0
_EMBEDDED_VERSION = 1


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

    return PerFrame("embedded", f"{_EMBEDDED_VERSION} {file_sha256(WEIGHTS)}", look, {**WIDTHS, "embeddings": DIM})


_VERSION = 1


@dataclass(frozen=True)
class Source:
    """An extractor, and what its values must say about it."""

    features: PerFrame
    protocol: str
    weights: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""


def keypoint_source(context: Context) -> Source:
    """What makes the features `keypoint_rows` names.

    Raises ModelError, NetworkError, and ResourceError without onnxruntime.
    """
    return _embedded(context) if context.networks == "embedded" else context.shared("dwpose", lambda: _dwpose(context))


def identity_source(context: Context) -> Source:
    """What makes "embeddings" (frames, D) of length 1, NaN where no face is found. Raises as `keypoint_source`."""
    return (
        _embedded(context) if context.networks == "embedded" else context.shared("arcface", lambda: _arcface(context))
    )


def _embedded(context: Context) -> Source:
    def made() -> Source:
        weights = {f"{embedded.FOLDER.parent.name}/detector/{embedded.WEIGHTS.name}": file_sha256(embedded.WEIGHTS)}
        return Source(embedded.embedded_features(context.device), PROTOCOL_EMBEDDED, weights)

    return context.shared("embedded", made)


def _dwpose(context: Context) -> Source:
    need("onnxruntime", "eval")  # before anything is fetched for it
    yolox, pose = (context.weights(name) for name in dwpose.FILES)
    network = dwpose.DWPose.from_files(yolox.path, pose.path, context.device)
    digest = f"{_VERSION} {yolox.sha256} {pose.sha256}"
    features = PerFrame("dwpose", digest, lambda frames: rows(*network.largest(list(frames))), WIDTHS)
    return Source(features, PROTOCOL, dict(zip(dwpose.FILES, (yolox.sha256, pose.sha256), strict=True)))


def _arcface(context: Context) -> Source:
    need("onnxruntime", "eval")
    detector, network = (context.weights(name) for name in arcface.FILES)
    faces = arcface.ArcFace.from_files(detector.path, network.path, context.device)
    digest = f"{_VERSION} {detector.sha256} {network.sha256}"
    features = PerFrame("arcface", digest, lambda frames: {"embeddings": faces(frames)}, {"embeddings": arcface.DIM})
    return Source(
        features, PROTOCOL, dict(zip(arcface.FILES, (detector.sha256, network.sha256), strict=True)), arcface.LICENCE
    )

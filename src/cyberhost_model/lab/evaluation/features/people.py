"""Extract key points and face embeddings of people.

With the public networks (DWPose, ArcFace) under `PROTOCOL`, or with those of the embedded model under
`PROTOCOL_EMBEDDED`: these need no download.

Key points are the 128 of `perception.keypoints` in the order body (18), left hand, right hand (21 each), face (68), of
the largest person of a frame. The embedded detector starts from faces: it finds nobody in a frame without a face.

The embedded face embedding is the low frequencies of lightness and of both colours of the aligned face, 3 x 63 numbers
of length 1. Measured on 335 frames of 27 recordings of speakers, against the first frames of all recordings, it finds
the recording with an AUC of 0.978 (lightness alone 0.965, the network's face encoder 0.969); on 300 frames of 46 photo
puppets with random exposure, white balance, side light, sharpness and noise with 0.991 (0.975, 0.954). Those are faces
of the same day, light and haircut: the embedding notices a face that turns into another one or loses its shape, and
does not recognise a person in another photograph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from cyberhost_model.config import EMBEDDED
from cyberhost_model.errors import need
from cyberhost_model.lab.evaluation.features.extractor import PerFrame
from cyberhost_model.lab.evaluation.metric import Context
from cyberhost_model.lab.evaluation.protocol import PROTOCOL, PROTOCOL_EMBEDDED, file_sha256
from cyberhost_model.perception import arcface, dwpose
from cyberhost_model.perception.keypoint_detector import KeypointDetector
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.perception.onnx_network import EXTRA
from cyberhost_model.perception.people import align_face, low_frequencies

BODY, HANDS, FACE = slice(0, 18), slice(18, 60), slice(60, 128)
PARTS = {"body": BODY, "hands": HANDS, "face": FACE}
KEYPOINTS = 128
WIDTHS = {"points": 2 * KEYPOINTS, "scores": KEYPOINTS, "found": 1}
PROTOCOL_HEIGHT = 640.0  # pixels of a frame's height in which distances are given
DETECTOR_FOLDER = EMBEDDED / "tiny" / "detector"
DETECTOR_WEIGHTS = DETECTOR_FOLDER / "model.safetensors"
EMBEDDING_WIDTH = 3 * 63
_MIN_COLOUR_CONTRAST = 2.0  # below it (0..255) a colour channel is mostly noise of the camera and the video codec
_REMEMBERED = 128  # frames; several times `media.video_reader.MAX_BATCH`
_VERSION = 1  # of the features below; part of the cache key


@dataclass(frozen=True)
class PersonFeatures:
    """Hold an extractor of people with the protocol, weights and licence that its metrics report."""

    extractor: PerFrame
    protocol: str
    weights: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""


def keypoint_features(context: Context) -> PersonFeatures:
    """Return the extractor of the features that `keypoint_rows` describes.

    Raises ModelError, NetworkError, and ResourceError without onnxruntime or insightface.
    """
    if context.networks == "embedded":
        return embedded_features(context)
    return context.shared("dwpose", lambda: _dwpose(context))


def embedded_features(context: Context) -> PersonFeatures:
    """Return the extractor of the embedded model's key points and embeddings, see `embedded_extractor`."""
    return context.shared("embedded", lambda: _embedded(context))


def identity_features(context: Context) -> PersonFeatures:
    """Return the extractor of "embeddings" (frames, D) of length 1, NaN where no face is found.

    Raises what `keypoint_features` raises.
    """
    if context.networks == "embedded":
        return embedded_features(context)
    return context.shared("arcface", lambda: _arcface(context))


def keypoint_rows(people: Sequence[Keypoints | None], found: np.ndarray) -> dict[str, np.ndarray]:
    """Return the features of frames, from one person a frame (None without) and whether a person is found.

    "points" float32 (frames, 256): x and y in 0..1 of width and height, NaN where the detector gives no place.
    "scores" float32 (frames, 128): the detector's own, 0 where it gives none. "found" float32 (frames, 1): 1 where a
    person is found.
    """
    points = np.full((len(people), KEYPOINTS, 2), np.nan, np.float32)
    scores = np.zeros((len(people), KEYPOINTS), np.float32)
    for i, k in enumerate(people):
        if k is not None:
            scores[i] = np.concatenate([k.body_score, k.hands_score.ravel(), k.face_score])
            points[i] = np.concatenate([k.body, k.hands.reshape(42, 2), k.face])
    # Detectors leave zeros as the place of points without a score.
    points[scores == 0] = np.nan
    return {
        "points": points.reshape(len(people), -1),
        "scores": scores,
        "found": np.asarray(found, np.float32).reshape(-1, 1),
    }


def in_pixels(points: np.ndarray, size: np.ndarray | tuple[int, int]) -> np.ndarray:
    """Scale points (n, 256) in 0..1 to pixels (n, 128, 2) of a frame of `size` (W, H) brought to a height of 640."""
    width, height = float(size[0]), float(size[1])
    return points.reshape(len(points), -1, 2).astype(np.float64) * [PROTOCOL_HEIGHT * width / height, PROTOCOL_HEIGHT]


def face_embedding(frame: np.ndarray, keypoints: Keypoints) -> np.ndarray:
    """Embed the face of a frame, uint8 (H, W, 3) RGB: float32 (189,) of length 1; NaN where it cannot be aligned."""
    face = align_face(frame, keypoints)
    if face is None:
        return np.full(EMBEDDING_WIDTH, np.nan, np.float32)
    lab = cv2.cvtColor(face, cv2.COLOR_RGB2LAB)
    low = np.concatenate([low_frequencies(lab[..., c], _MIN_COLOUR_CONTRAST if c else 1e-3) for c in range(3)])
    return (low / (np.linalg.norm(low) + 1e-9)).astype(np.float32)


class PersonFinder:
    """Find the largest person of a frame with the embedded detector.

    Of the last `_REMEMBERED` frames the answer is kept: several measures look at the same ones.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.digest = f"{_VERSION} {file_sha256(DETECTOR_WEIGHTS)}"
        self._detector = KeypointDetector.from_pretrained(DETECTOR_FOLDER).to(device)
        self._known: dict[bytes, Keypoints | None] = {}

    def __call__(self, frame: np.ndarray) -> Keypoints | None:
        """Return the points of the person in uint8 (H, W, 3), None without one."""
        key = hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).digest() + bytes(
            str(frame.shape), "ascii"
        )
        if key not in self._known:
            found = self._detector.detect(frame)
            while len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = found[0].keypoints if found else None
        return self._known[key]


def person_finder(context: Context) -> PersonFinder:
    """Return the finder that all measures of a run share."""
    return context.shared("person finder", lambda: PersonFinder(context.device))


def embedded_extractor(device: str = "cpu", finder: PersonFinder | None = None) -> PerFrame:
    """Return the extractor "embedded": `keypoint_rows`, and "embeddings" float32 (frames, 189)."""
    find = finder or PersonFinder(device)

    def extract(frames: np.ndarray) -> dict[str, np.ndarray]:
        people = [find(frame) for frame in frames]
        embeddings = np.full((len(frames), EMBEDDING_WIDTH), np.nan, np.float32)
        for i, (frame, k) in enumerate(zip(frames, people, strict=True)):
            if k is not None:
                embeddings[i] = face_embedding(frame, k)
        return {**keypoint_rows(people, np.array([k is not None for k in people])), "embeddings": embeddings}

    return PerFrame("embedded", find.digest, extract, {**WIDTHS, "embeddings": EMBEDDING_WIDTH})


def _embedded(context: Context) -> PersonFeatures:
    name = f"{DETECTOR_FOLDER.parent.name}/detector/{DETECTOR_WEIGHTS.name}"
    weights = {name: file_sha256(DETECTOR_WEIGHTS)}
    extractor = embedded_extractor(context.device, person_finder(context))
    return PersonFeatures(extractor, PROTOCOL_EMBEDDED, weights)


def _dwpose(context: Context) -> PersonFeatures:
    need("onnxruntime", EXTRA)  # before anything is downloaded
    yolox, pose = (context.weights(name) for name in dwpose.FILES)
    network = dwpose.DWPose.from_files(yolox.path, pose.path, context.device)
    digest = f"{_VERSION} {yolox.sha256} {pose.sha256}"
    extractor = PerFrame("dwpose", digest, lambda frames: keypoint_rows(*network.largest(list(frames))), WIDTHS)
    return PersonFeatures(extractor, PROTOCOL, dict(zip(dwpose.FILES, (yolox.sha256, pose.sha256), strict=True)))


def _arcface(context: Context) -> PersonFeatures:
    need("onnxruntime", EXTRA)
    need("insightface", EXTRA)
    detector, network = (context.weights(name) for name in arcface.FILES)
    faces = arcface.ArcFace(detector.path, network.path, context.device)
    digest = f"{_VERSION} insightface {detector.sha256} {network.sha256}"
    extractor = PerFrame("arcface", digest, lambda frames: {"embeddings": faces(frames)}, {"embeddings": arcface.DIM})
    weights = dict(zip(arcface.FILES, (detector.sha256, network.sha256), strict=True))
    return PersonFeatures(extractor, PROTOCOL, weights, arcface.LICENCE)

"""Which networks find the people: the public ones, or those that come with the embedded model, each under its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...conditions import dwpose
from ...optional import need
from ..digests import file_sha256
from ..metric import Context
from ..protocol import PROTOCOL, PROTOCOL_EMBEDDED
from . import arcface, embedded
from .keypoint_rows import WIDTHS, rows
from .per_frame import PerFrame

_VERSION = 1


@dataclass(frozen=True)
class Source:
    """An extractor, and what its values must say about it."""

    features: PerFrame
    protocol: str
    weights: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""


def keypoint_source(context: Context) -> Source:
    """What makes the features `keypoint_rows` names. Raises ModelError, NetworkError, and ResourceError without onnxruntime."""
    return _embedded(context) if context.networks == "embedded" else context.shared("dwpose", lambda: _dwpose(context))


def identity_source(context: Context) -> Source:
    """What makes "embeddings" (frames, D) of length 1, NaN where no face is found. Raises as `keypoint_source`."""
    return _embedded(context) if context.networks == "embedded" else context.shared("arcface", lambda: _arcface(context))


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
    return Source(features, PROTOCOL, dict(zip(arcface.FILES, (detector.sha256, network.sha256), strict=True)), arcface.LICENCE)

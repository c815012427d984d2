"""Key point detectors by kind: a folder's config.json names its kind, and the kind names the function that loads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cyberhost_model.config import EMBEDDED
from cyberhost_model.errors import ModelError, NetworkError, ResourceError
from cyberhost_model.hub.inventory import require_weights
from cyberhost_model.hub.tensors import config_entry
from cyberhost_model.perception.detector import Detector
from cyberhost_model.perception.dwpose import DWPose, load_dwpose
from cyberhost_model.perception.keypoint_detector import KeypointDetector
from cyberhost_model.reading import short

Loader = Callable[[Path], Detector]
"""Folder -> the detector, ready to use on the CPU.

Raises ModelError; also NetworkError and ResourceError where the embedded detector is to take its place.
"""


@dataclass(frozen=True)
class DetectorKind:
    """How detectors of one kind are loaded."""

    load: Loader
    weights: tuple[str, ...] = ()
    """Names in the registry of weights (`hub`) that the folder does not hold, and that are fetched when it is used."""


DETECTORS: dict[str, DetectorKind] = {
    KeypointDetector.__name__: DetectorKind(KeypointDetector.from_pretrained),
    DWPose.__name__: DetectorKind(lambda folder: load_dwpose(), ("dwpose",)),
}
"""Kind -> how it is loaded."""


def register(kind: str, loader: Loader, weights: tuple[str, ...] = ()) -> None:
    """Register a detector: folders whose config.json has "kind": `kind` are loaded by `loader`."""
    DETECTORS[kind] = DetectorKind(loader, weights)


def load_detector(folder: Path, download: bool = True) -> tuple[Detector, list[str]]:
    """Load the key point detector in `folder`, of whichever kind it is, and lines for the user.

    download: whether weights that it names and does not hold may be fetched. Where they cannot be had (no network, no
    onnxruntime) the embedded detector takes its place, and a line says so. Raises ModelError and OutputError.
    """
    kind = _kind(folder)
    try:
        for name in DETECTORS[kind].weights:
            require_weights(name, download)
        return DETECTORS[kind].load(folder), []
    except (NetworkError, ResourceError) as error:
        line = f"key points come from the embedded detector in place of the model's {kind}: {error}"
        return embedded_detector(), [line]


def named_weights(folder: Path) -> tuple[str, ...]:
    """Name the weights in the registry (`hub`) that the detector in `folder` takes. Raises ModelError."""
    return DETECTORS[_kind(folder)].weights


def embedded_detector() -> KeypointDetector:
    """Load the detector of the embedded model."""
    return KeypointDetector.from_pretrained(EMBEDDED / "tiny" / "detector")


def _kind(folder: Path) -> str:
    """The kind that config.json names; "class" is the entry of folders written by this package."""
    kind = config_entry(folder, "kind", "class") or KeypointDetector.__name__
    if not isinstance(kind, str) or kind not in DETECTORS:
        raise ModelError(f"{folder}: no detector of the kind {short(kind)} is known; known are {', '.join(DETECTORS)}")
    return kind

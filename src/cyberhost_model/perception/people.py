"""Who is in a frame: the interface any key point detector fits, and the embedded one behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.perception.detector import KeypointDetector
from cyberhost_model.perception.dwpose import DWPose, load_dwpose
from cyberhost_model.perception.keypoints import Keypoints, clipped

# A second face counts as a person from this part of the first one's height on: smaller ones are pictures on the wall,
# or an audience.
SECOND = 0.4
SEEN = 0.3
_MOST = 4  # people whose points are looked for: it is only asked whether there is more than one


class PeopleDetector(Protocol):
    """Finds people. Any whole-body detector can take this place (DETECTORS is where it is named)."""

    name: str
    finds_faceless: bool
    """Whether it also finds people whose face is not seen: only then can "nobody" and "no face" be told apart."""
    reads_lips: bool
    """Whether its lip points follow an opening mouth closely enough to measure it."""

    def __call__(self, frames: Sequence[np.ndarray]) -> list[list[Keypoints]]:
        """For each frame, uint8 (H, W, 3) RGB, the people in it, the largest first; the first has body and hands,
        where they are seen.
        """


class EmbeddedDetector:
    """The detector that comes with the embedded model. It starts from faces."""

    name = "embedded"
    finds_faceless = False

    def __init__(self, network: KeypointDetector) -> None:
        self.network, self.reads_lips = network, network.reads_lips

    def __call__(self, frames: Sequence[np.ndarray]) -> list[list[Keypoints]]:
        return [[found.keypoints for found in self.network.detect(frame)] for frame in frames]


def _embedded() -> PeopleDetector:
    from cyberhost_model.config import EMBEDDED

    return EmbeddedDetector(KeypointDetector.from_pretrained(EMBEDDED / "tiny" / "detector"))


class DwposeDetector:
    """DWPose, the field's detector: several seconds a frame on a CPU. It starts from bodies."""

    name = "dwpose"
    finds_faceless = True
    reads_lips = False  # not measured here; what nobody measured is not written into labels

    def __init__(self, network: DWPose) -> None:
        self.network = network

    def __call__(self, frames: Sequence[np.ndarray]) -> list[list[Keypoints]]:
        return [[clipped(k) for k in self.network.people(frame, _MOST)] for frame in frames]


def _dwpose() -> PeopleDetector:
    return DwposeDetector(load_dwpose())


DETECTORS: dict[str, Callable[[], PeopleDetector]] = {"embedded": _embedded, "dwpose": _dwpose}


def load_detector(name: str) -> PeopleDetector:
    """A detector by its name.

    Raises InputError for an unknown one, ModelError and NetworkError where its weights cannot be had, and
    ResourceError where its library is not installed.
    """
    if name not in DETECTORS:
        raise InputError(f"no detector {name!r}: choose {', '.join(DETECTORS)}")
    return DETECTORS[name]()


def has_face(k: Keypoints) -> bool:
    """Whether a face is seen."""
    return bool(k.face_score.max() > SEEN)


def has_hand(k: Keypoints) -> bool:
    """Whether a hand is seen."""
    return bool(k.hands_score.max() > SEEN)


def face_height(k: Keypoints, height: int) -> float:
    """Height of the face points in pixels; 0 without a face."""
    return float(np.ptp(k.face[:, 1])) * height if has_face(k) else 0.0


def people_count(found: Sequence[Keypoints]) -> int:
    """How many people of a similar size there are; small ones in the background do not count."""
    if not found:
        return 0
    heights = [face_height(k, 1) for k in found]
    largest = max(heights)
    if largest == 0:
        return len(found)
    return sum(h >= SECOND * largest for h in heights)

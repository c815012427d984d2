"""The detectors that `data prepare` chooses from: who is in a frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from cyberhost_model.errors import InputError
from cyberhost_model.lab.engines import worker_number
from cyberhost_model.perception.dwpose import DWPose, load_dwpose
from cyberhost_model.perception.hands import separate_hands
from cyberhost_model.perception.keypoint_detector import KeypointDetector
from cyberhost_model.perception.keypoints import Keypoints, clip_scores
from cyberhost_model.perception.registry import embedded_detector

_MOST = 4  # people whose points are looked for: it is only asked whether there is more than one


class PeopleDetector(Protocol):
    """Finds people. Any whole-body detector can take this place (DETECTORS is where it is named)."""

    name: str
    finds_faceless: bool
    """Whether it also finds people whose face is not seen: only then can "nobody" and "no face" be told apart."""
    reads_lips: bool
    """Whether its lip points follow an opening mouth closely enough to measure it."""

    def __call__(self, frames: Sequence[np.ndarray]) -> list[list[Keypoints]]:
        """Find the people in each frame, uint8 (H, W, 3) RGB, the largest first.

        The first has body and hands, where they are visible.
        """


class EmbeddedDetector:
    """The detector that comes with the embedded model. It starts from faces."""

    name = "embedded"
    finds_faceless = False

    def __init__(self, network: KeypointDetector) -> None:
        self.network, self.reads_lips = network, network.reads_lips

    def __call__(self, frames: Sequence[np.ndarray]) -> list[list[Keypoints]]:
        """See `PeopleDetector`."""
        return [[found.keypoints for found in self.network.detect(frame)] for frame in frames]


def _embedded() -> PeopleDetector:
    return EmbeddedDetector(embedded_detector())


class DwposeDetector:
    """DWPose, the field's detector, on the GPU where there is one: several seconds a frame on a CPU.

    It starts from bodies.
    """

    name = "dwpose"
    finds_faceless = True
    reads_lips = False  # not measured here; what nobody measured is not written into labels

    def __init__(self, network: DWPose) -> None:
        self.network = network

    def __call__(self, frames: Sequence[np.ndarray]) -> list[list[Keypoints]]:
        """See `PeopleDetector`."""
        return [
            [
                separate_hands(clip_scores(k), (frame.shape[1], frame.shape[0]))
                for k in self.network.people(frame, _MOST)
            ]
            for frame in frames
        ]


def worker_device() -> torch.device:
    """Choose where ONNX networks compute: worker processes take the GPUs in turn, without one it is the CPU."""
    count = torch.cuda.device_count()
    return torch.device("cuda", worker_number() % count) if count else torch.device("cpu")


def _dwpose() -> PeopleDetector:
    return DwposeDetector(load_dwpose(device=worker_device()))


DETECTORS: dict[str, Callable[[], PeopleDetector]] = {"embedded": _embedded, "dwpose": _dwpose}


def load_detector(name: str) -> PeopleDetector:
    """A detector by its name.

    Raises InputError for an unknown one, ModelError and NetworkError where its weights cannot be had, and
    ResourceError where its library is not installed.
    """
    if name not in DETECTORS:
        raise InputError(f"no detector {name!r}: choose {', '.join(DETECTORS)}")
    return DETECTORS[name]()

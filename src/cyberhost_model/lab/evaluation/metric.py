"""What a metric is: features -> values. Pure functions of arrays behind a small interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import Extractor, Features, PairExtractor
from cyberhost_model.lab.evaluation.protocol import file_sha256

Role = Literal["generated", "reference", "image", "pair"]
"""Whose features: the generated video, its ground truth, the reference picture (where none is given the first frame of
the ground truth), or what a `PairExtractor` made of the two videos.
"""

T = TypeVar("T")


@dataclass(frozen=True)
class Measure:
    """A number that is reported (`registry.MODULES` lists them). `decimals`: how many are shown."""

    name: str
    direction: Literal["up", "down"]
    unit: str = ""
    decimals: int = 3


@dataclass(frozen=True)
class VideoValue:
    """One measure of one video.

    value: NaN where it could not be measured, then `reason` is one line. coverage: share of the video's frames it rests
    on, 0..1. extras: further numbers that belong to it ("face_rate"); they become columns `MEASURE.extra` of
    per_video.csv and are averaged over the videos. series: what the report draws, by name ("frame": a value a frame;
    "shift", "distance": the sync curve). Kept in memory alone, so small.
    """

    value: float
    coverage: float = 1.0
    extras: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    series: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class SetValue:
    """One measure of a set of videos that no video has by itself (FID, FVD).

    coverage: share of the videos that are in it.
    """

    value: float
    coverage: float = 1.0
    extras: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Sample:
    """What a metric is given of one video: the features it `needs`, and the video's own frames and rate.

    aligned: frames (i of the generated, j of the ground truth) that belong together, int (n, 2), at the videos' own
    rates; None without a ground truth. heights: pixels of the frames by role ("generated", "reference").
    """

    name: str
    identity: str
    frames: int
    fps: float
    features: Mapping[Role, Features]
    aligned: np.ndarray | None
    heights: Mapping[Role, int]


class Metric(Protocol):
    """What every metric tells about itself."""

    @property
    def protocol(self) -> str:
        """Id of the protocol its values belong to."""

    @property
    def weights(self) -> Mapping[str, str]:
        """File name of the weights -> sha256; empty where it has none."""

    @property
    def licence(self) -> str:
        """One line on the weights' licence where it restricts use, else empty."""

    @property
    def needs(self) -> Mapping[Role, Extractor | PairExtractor]:
        """Whose features it reads, and what makes them. A video that lacks one of these roles has no value."""


class VideoMetric(Metric, Protocol):
    """A value a video; the set's is the mean over the videos that have one."""

    def of_video(self, sample: Sample) -> dict[str, VideoValue]:
        """Name of the measure -> its value."""


class SetMetric(Metric, Protocol):
    """A value for the whole set alone."""

    def of_set(self, samples: Sequence[Sample], seed: int) -> dict[str, SetValue]:
        """Name of the measure -> its value. The features are memory-mapped: read them a video at a time."""


@dataclass(frozen=True)
class Weights:
    """A file of weights and its digest."""

    path: Path
    sha256: str


@dataclass
class Context:
    """What metrics are built from.

    Metrics that share a network share its extractor (`shared`).

    networks: "public", or "embedded" for CSIM, AKD, HKC and HKV under `PROTOCOL_EMBEDDED`. clips: of 16 frames a video,
    for FVD.
    """

    weights_dir: Path | None = None
    download: bool = True
    device: str = "cpu"
    networks: Literal["public", "embedded"] = "public"
    clips: int = 4
    _made: dict[str, Any] = field(default_factory=dict, repr=False)

    def weights(self, name: str) -> Weights:
        """A file of the registry of weights.

        Raises ModelError or NetworkError where it cannot be had: the metric is then skipped.
        """
        from cyberhost_model.hub.locate import locate

        path = locate(name, weights_dir=self.weights_dir, download=self.download)
        return Weights(path, file_sha256(path))

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """The object made by the first call with this key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


Build = Callable[[Context], "VideoMetric | SetMetric"]
"""A module of `registry.MODULES` offers `build(context)`; it raises a CyberHostError whose line says why the metric
cannot be had.
"""

"""Interfaces of metrics: features -> values. A metric is a pure function of arrays with a few facts about itself.

Recipe of a metric: a module in `metrics` with `build(context) -> VideoMetric | SetMetric`, and its line in
`registry.py`; from outside of the package, `registry.register_metric`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeGuard, TypeVar

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import Extractor, Features, PairExtractor, SoundExtractor
from cyberhost_model.lab.evaluation.protocol import file_sha256

Role = Literal["generated", "ground_truth", "image", "pair", "sound"]
"""Whose features: of the generated video, of its ground truth, of the reference picture (where none is given, the
first frame of the ground truth), of matching frames of both videos (`PairExtractor`), or of the sound that belongs to
the generated video (`SoundExtractor`).
"""

T = TypeVar("T")


@dataclass(frozen=True)
class Measure:
    """Describe a number that is reported.

    direction: which direction is better. decimals: how many are shown. headline: whether it is asked for by default and
    by name in messages; another one comes with the metric that makes it. identical_value: the value of a video compared
    with itself, where the definition fixes it. by_closeness: whether it is judged by how near it is to the ground
    truth's own, and not by its direction.
    """

    name: str
    direction: Literal["up", "down"]
    unit: str = ""
    decimals: int = 3
    headline: bool = True
    identical_value: float | None = None
    by_closeness: bool = False


@dataclass(frozen=True)
class VideoValue:
    """Hold one measure of one video.

    value: NaN where it could not be measured, then `reason` is one line. coverage: share of the video's frames it rests
    on, 0..1. extras: further numbers that belong to it ("face_rate"); they become columns `MEASURE.extra` of
    per_video.csv and are averaged over the videos. series: what the report draws, by name ("frame": a value a frame;
    "shift", "distance": the sync curve). Series are kept in memory alone, so they are small.
    """

    value: float
    coverage: float = 1.0
    extras: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    series: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class SetValue:
    """Hold one measure of a set of videos that no single video has (FID, FVD).

    coverage: share of the videos that are in it.
    """

    value: float
    coverage: float = 1.0
    extras: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Sample:
    """Hold what a metric reads of one video: the features it `needs`, and the video's own frames and rate.

    frame_pairs: matching frames (i of the generated video, j of the ground truth), int (n, 2), at the videos' own
    rates; None without a ground truth.
    """

    name: str
    identity: str
    frames: int
    fps: float
    features: Mapping[Role, Features]
    frame_pairs: np.ndarray | None


class Metric(Protocol):
    """Describe a metric: its protocol, its weights and the features it reads."""

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
    def needs(self) -> Mapping[Role, Extractor | PairExtractor | SoundExtractor]:
        """Whose features it reads, and which extractor makes them. A video without one of these roles has no value."""


class VideoMetric(Metric, Protocol):
    """Measure each video; the value of a set is the mean over the videos that have one."""

    def measure_video(self, sample: Sample) -> dict[str, VideoValue]:
        """Return the values of a video by the name of the measure."""


class SetMetric(Metric, Protocol):
    """Measure a whole set; single videos have no value, or one by `measure_video` as well.

    With both, the set's value is what `measure_set` says, not the mean over the videos.
    """

    def measure_set(self, samples: Sequence[Sample], seed: int) -> dict[str, SetValue]:
        """Return the values of the set by the name of the measure.

        The features are memory-mapped: read them a video at a time.
        """


def is_set_metric(metric: VideoMetric | SetMetric) -> TypeGuard[SetMetric]:
    """Return whether a metric measures whole sets."""
    return hasattr(metric, "measure_set")


def is_video_metric(metric: VideoMetric | SetMetric) -> TypeGuard[VideoMetric]:
    """Return whether a metric measures single videos."""
    return hasattr(metric, "measure_video")


@dataclass(frozen=True)
class WeightFile:
    """Name a file of weights and its digest."""

    path: Path
    sha256: str


@dataclass
class Context:
    """Hold what metrics are built from. Metrics that share a network share its extractor (`shared`).

    networks: "public", or "embedded" for CSIM, AKD, HKC and HKV under `PROTOCOL_EMBEDDED`. clips: of 16 frames a video,
    for FVD.
    """

    weights_dir: Path | None = None
    download: bool = True
    device: str = "cpu"
    networks: Literal["public", "embedded"] = "public"
    clips: int = 4
    _shared: dict[str, Any] = field(default_factory=dict, repr=False)

    def weights(self, name: str) -> WeightFile:
        """Find a file of the registry of weights, downloading it where that is allowed.

        Raises ModelError or NetworkError where there is none: the metric is then skipped.
        """
        from cyberhost_model.hub.locate import locate

        path = locate(name, weights_dir=self.weights_dir, download=self.download)
        return WeightFile(path, file_sha256(path))

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """Return the object that the first call with this key made."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]


Build = Callable[[Context], VideoMetric | SetMetric]
"""Make a metric. Raises a CyberHostError whose line says why the metric is not available."""

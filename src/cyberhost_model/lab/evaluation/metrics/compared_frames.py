"""Compare the pictures of two videos frame by frame: a number for each pair of frames, their mean for each video."""

from __future__ import annotations

from collections.abc import Callable
from itertools import starmap

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import VideoInfo
from cyberhost_model.lab.evaluation.metric import Role, Sample, VideoValue
from cyberhost_model.lab.evaluation.protocol import PROTOCOL

Compare = Callable[[np.ndarray, np.ndarray], float]
"""(generated, ground truth), both uint8 (H, W, 3) -> a number."""


class ComparedFrames:
    """Compare matching frames: "values" (n,) float64. A `PairExtractor`.

    version: of `compare`; a new one where its values change.
    """

    def __init__(self, name: str, version: int, compare: Compare) -> None:
        self.name, self.digest, self._compare = name, f"{name}/{version}", compare
        self._values: list[float] = []

    def begin(self, info: VideoInfo) -> None:
        """Start a pair of videos."""
        self._values = []

    def push(self, generated: np.ndarray, ground_truth: np.ndarray) -> None:
        """Compare the next matching frames, both uint8 (n, H, W, 3)."""
        self._values += starmap(self._compare, zip(generated, ground_truth, strict=True))

    def finish(self) -> dict[str, np.ndarray]:
        """Return the values of all pairs."""
        return {"values": np.asarray(self._values, float)}


class FrameMean:
    """Average `ComparedFrames` over a video. A `VideoMetric` without weights."""

    protocol = PROTOCOL
    weights: dict[str, str] = {}
    licence = ""

    def __init__(self, measure: str, frames: ComparedFrames) -> None:
        self.measure = measure
        self.needs: dict[Role, ComparedFrames] = {"pair": frames}

    def measure_video(self, sample: Sample) -> dict[str, VideoValue]:
        """Measure a video against its ground truth."""
        values = sample.features["pair"]["values"]
        if not len(values):
            return {self.measure: VideoValue(float("nan"), 0.0, reason="no frame of it has a counterpart")}
        coverage = min(1.0, len(values) / sample.frames)
        return {self.measure: VideoValue(float(values.mean()), coverage, series={"frame": values})}

"""Metrics that compare the pictures of two videos frame by frame: a number a pair of frames, their mean a video."""

from __future__ import annotations

from collections.abc import Callable
from itertools import starmap

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import VideoInfo
from cyberhost_model.lab.evaluation.metric import Role, Sample, VideoValue
from cyberhost_model.lab.evaluation.protocol import PROTOCOL

Compare = Callable[[np.ndarray, np.ndarray], float]


class ComparedFrames:
    """A `PairExtractor`: frames that belong together -> "values" (n,) float64.

    A change of what `compare` gives is a new `version`.
    """

    def __init__(self, name: str, version: int, compare: Compare) -> None:
        self.name, self.digest, self._compare = name, f"{name}/{version}", compare
        self._values: list[float] = []

    def begin(self, info: VideoInfo) -> None:
        self._values = []

    def push(self, generated: np.ndarray, reference: np.ndarray) -> None:
        self._values += starmap(self._compare, zip(generated, reference, strict=True))

    def finish(self) -> dict[str, np.ndarray]:
        return {"values": np.asarray(self._values, float)}


class FrameMean:
    """A `VideoMetric`: the mean of `ComparedFrames` over a video. Needs no weights."""

    protocol = PROTOCOL
    weights: dict[str, str] = {}
    licence = ""

    def __init__(self, measure: str, frames: ComparedFrames) -> None:
        self.measure = measure
        self.needs: dict[Role, ComparedFrames] = {"pair": frames}

    def of_video(self, sample: Sample) -> dict[str, VideoValue]:
        values = sample.features["pair"]["values"]
        if not len(values):
            return {self.measure: VideoValue(float("nan"), 0.0, reason="no frame of it has a counterpart")}
        return {
            self.measure: VideoValue(
                float(values.mean()), min(1.0, len(values) / sample.frames), series={"frame": values}
            )
        }

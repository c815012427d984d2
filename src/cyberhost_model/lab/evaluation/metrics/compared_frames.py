"""Compare the pictures of two videos frame by frame: a number for each pair of frames, their mean for each video."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import starmap

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import Compare, PairExtractor, VideoInfo
from cyberhost_model.lab.evaluation.metric import Role, Sample, VideoValue
from cyberhost_model.lab.evaluation.protocol import PROTOCOL


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
    """Average values of matching frames over a video. A `VideoMetric`.

    measures: name -> the array of the extractor's features that it is the mean of; NaN is left out.
    """

    licence = ""

    def __init__(
        self,
        measures: str | Mapping[str, str],
        frames: PairExtractor,
        protocol: str = PROTOCOL,
        weights: Mapping[str, str] | None = None,
    ) -> None:
        self.measures = {measures: "values"} if isinstance(measures, str) else dict(measures)
        self.protocol, self.weights = protocol, dict(weights or {})
        self.needs: dict[Role, PairExtractor] = {"pair": frames}

    def measure_video(self, sample: Sample) -> dict[str, VideoValue]:
        """Measure a video against its ground truth."""
        return {
            measure: self._mean(np.asarray(sample.features["pair"][name]), sample.frames, name)
            for measure, name in self.measures.items()
        }

    def _mean(self, values: np.ndarray, frames: int, name: str) -> VideoValue:
        seen = np.isfinite(values)
        if not seen.any():
            reason = f"no {name} of the ground truth can be seen" if len(values) else "no frame of it has a counterpart"
            return VideoValue(float("nan"), 0.0, reason=reason)
        coverage = min(1.0, float(seen.sum()) / frames)
        return VideoValue(float(values[seen].mean()), coverage, series={"frame": values})

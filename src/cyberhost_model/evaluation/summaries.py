"""Values of videos and of sets -> one summary a measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .bootstrap import mean_interval
from .metric import Measure, Metric, SetValue, VideoValue
from .results import MetricSummary


def skipped(measure: Measure, protocol: str, reason: str, metric: Metric | None = None) -> MetricSummary:
    """A measure without a value, and why."""
    weights = dict(metric.weights) if metric else {}
    return MetricSummary(measure.name, "skipped", None, None, 0, 0.0, measure.direction, measure.unit, measure.decimals, protocol, weights,
                         metric.licence if metric else "", " ".join(reason.split()))  # fmt: skip


def over_videos(measure: Measure, metric: Metric, values: Sequence[VideoValue], identities: Sequence[str], seed: int) -> MetricSummary:
    """The mean over the videos that have a value; skipped where none has, with the first reason."""
    numbers = np.array([v.value for v in values], float)
    there = np.isfinite(numbers)
    if not there.any():
        reasons = sorted({v.reason for v in values if v.reason}) or ["no video has a value"]
        return skipped(measure, metric.protocol, reasons[0], metric)
    interval = mean_interval(numbers, identities, seed)
    coverage = float(np.mean([v.coverage if ok else 0.0 for v, ok in zip(values, there, strict=True)]))
    return MetricSummary(measure.name, "ok", float(numbers[there].mean()), interval, int(there.sum()), coverage, measure.direction, measure.unit,
                         measure.decimals, metric.protocol, dict(metric.weights), metric.licence, extras=_mean_extras(values))  # fmt: skip


def over_set(measure: Measure, metric: Metric, value: SetValue, share: float, videos: int) -> MetricSummary:
    """The set's value; `share` of the `videos` could be given to the metric at all."""
    coverage = share * value.coverage
    if not math.isfinite(value.value):
        return skipped(measure, metric.protocol, value.reason, metric)
    return MetricSummary(measure.name, "ok", value.value, None, round(coverage * videos), coverage, measure.direction, measure.unit,
                         measure.decimals, metric.protocol, dict(metric.weights), metric.licence, extras=dict(value.extras))  # fmt: skip


def _mean_extras(values: Sequence[VideoValue]) -> Mapping[str, Any]:
    names = dict.fromkeys(name for v in values for name in v.extras)
    columns = {name: [v.extras[name] for v in values if name in v.extras and math.isfinite(v.extras[name])] for name in names}
    return {name: float(np.mean(column)) for name, column in columns.items() if column}

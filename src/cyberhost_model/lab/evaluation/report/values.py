"""Which videos a reader should look at: the worst of each measure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.results import MetricSummary, Results, VideoRow

# Which values a run has, and which may stand in one column.


# What a metric gives for a video against itself, whatever the video shows.
_ITSELF = {"SSIM": 1.0, "PSNR": 100.0, "AKD": 0.0}


def measured(results: Results) -> list[MetricSummary]:
    """The measures that have a value."""
    return [m for m in results.metrics if m.status == "ok" and m.value is not None]


def by_protocol(metrics: Iterable[MetricSummary]) -> dict[str, list[MetricSummary]]:
    """Protocol id -> its measures: what is shown in one table."""
    groups: dict[str, list[MetricSummary]] = {}
    for metric in metrics:
        groups.setdefault(metric.protocol, []).append(metric)
    return groups


def against_itself(metric: MetricSummary, truth: Results | None = None) -> tuple[float, str] | None:
    """(value, how it was had) of the ground truth measured as if it had been generated; None where that was not done.

    truth: such a run.
    """
    if (floor := metric.extras.get("floor")) and floor.get("value") is not None:
        return floor["value"], f"halves of the ground truth against each other, {floor['n']:,} vectors each"
    own = value_of(truth, metric.name) if truth is not None else None
    if own is not None and own.value is not None and own.protocol == metric.protocol:
        return own.value, f"measured on {own.n:,} videos"
    return (_ITSELF[metric.name], "by definition") if metric.name in _ITSELF else None


def best(metrics: Sequence[MetricSummary]) -> float | None:
    """The best of several values of one measure; None for fewer than two, and where they rest on different numbers of
    videos.
    """
    known = [m.value for m in metrics if m.value is not None]
    if len(known) < 2 or len({m.n for m in metrics}) > 1:
        return None
    return max(known) if metrics[0].direction == "up" else min(known)


def value_of(run: Results, measure: str) -> MetricSummary | None:
    """The summary of a measure that has a value."""
    return next((m for m in measured(run) if m.name == measure), None)


def check_comparable(measure: str, first: Results, other: Results, names: tuple[str, str]) -> None:
    """Raises InputError for a measure that two runs, called `names`, made by two protocols or with other weights."""
    a, b = value_of(first, measure), value_of(other, measure)
    if a is None or b is None:
        return
    if a.protocol != b.protocol:
        raise InputError(
            f"{measure} follows {a.protocol} in {names[0]} and {b.protocol} in {names[1]}; evaluate both with the "
            "same networks"
        )
    wrong = sorted(file for file in {*a.weights, *b.weights} if a.weights.get(file) != b.weights.get(file))
    if wrong:
        raise InputError(
            f"{measure} was measured with other weights ({', '.join(wrong)}) in {names[0]} than in {names[1]}; "
            "evaluate both with the same"
        )


ORDINALS = ("worst", "2nd worst", "3rd worst")


def worst_videos(results: Results) -> dict[str, list[str]]:
    """Measure -> the names of its three worst videos, the worst first. Measures no video has by itself are left out."""
    found = {}
    for metric in measured(results):
        sign = 1 if metric.direction == "up" else -1
        known = [(sign * v.values[metric.name].value, v.video) for v in results.videos if metric.name in v.values]
        if ranked := sorted((value, name) for value, name in known if math.isfinite(value)):
            found[metric.name] = [name for _, name in ranked[: len(ORDINALS)]]
    return found


def to_show(worst: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Video -> why it is shown ("worst SSIM"), the one with most reasons first."""
    reasons: dict[str, list[str]] = {}
    for measure, names in worst.items():
        for place, name in enumerate(names):
            reasons.setdefault(name, []).append(f"{ORDINALS[place]} {measure}")
    return dict(sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])))


def moment(video: VideoRow, seconds: float, results: Results) -> float:
    """Where a stretch of `seconds` of a longer video should begin: about its worst frame, by the first measure that
    has a value a frame.
    """
    spare = video.frames / video.fps - seconds
    if spare <= 0:
        return 0.0
    for metric in measured(results):
        value = video.values.get(metric.name)
        frames = (
            np.asarray(value.series["frame"], float) if value is not None and "frame" in value.series else np.array([])
        )
        if np.isfinite(frames).any():
            at = np.nanargmin(frames) if metric.direction == "up" else np.nanargmax(frames)
            return float(np.clip((at + 0.5) / len(frames) * (spare + seconds) - seconds / 2, 0, spare))
    return 0.0

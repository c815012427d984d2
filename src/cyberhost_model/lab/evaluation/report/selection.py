"""Select what a report shows: the measures with a value, which of them may share a column, and the worst videos."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.bootstrap import interval_caution
from cyberhost_model.lab.evaluation.registry import find_measure
from cyberhost_model.lab.evaluation.results import MetricSummary, Results, VideoRow


def measured(results: Results) -> list[MetricSummary]:
    """Return the measures that have a value."""
    return [m for m in results.metrics if m.status == "ok" and m.value is not None]


def by_protocol(metrics: Iterable[MetricSummary]) -> dict[str, list[MetricSummary]]:
    """Group measures by protocol: those of a protocol share a table."""
    groups: dict[str, list[MetricSummary]] = {}
    for metric in metrics:
        groups.setdefault(metric.protocol, []).append(metric)
    return groups


def ground_truth_value(metric: MetricSummary, truth: Results | None = None) -> tuple[float, str] | None:
    """Return the value of the ground truth, measured as if it had been generated, and how it was measured.

    truth: such a run. None where there is no such value.
    """
    if (floor := metric.extras.get("floor")) and floor.get("value") is not None:
        return floor["value"], f"halves of the ground truth against each other, {floor['n']:,} vectors each"
    own = measured_summary(truth, metric.name) if truth is not None else None
    if own is not None and own.value is not None and own.protocol == metric.protocol:
        return own.value, f"measured on {own.n:,} video{'s' * (own.n != 1)}"
    measure = find_measure(metric.name)
    if measure is None or measure.identical_value is None:
        return None
    return measure.identical_value, "by definition"


def best_value(metrics: Sequence[MetricSummary]) -> float | None:
    """Return the best of several values of one measure.

    None for fewer than two values, and where they rest on different numbers of videos.
    """
    known = [m.value for m in metrics if m.value is not None]
    if len(known) < 2 or len({m.n for m in metrics}) > 1:
        return None
    return max(known) if metrics[0].direction == "up" else min(known)


def caution(results: Results, metric: MetricSummary) -> str:
    """Return what to say beside a value: of an interval over few people, and of a set that is mostly bias; or ""."""
    if metric.ci95 is None:
        return "mostly bias" if metric.extras.get("note") else ""
    values = ((v.identity, v.values.get(metric.name)) for v in results.videos)
    return interval_caution(len({who for who, value in values if value is not None and math.isfinite(value.value)}))


def measured_summary(run: Results, measure: str) -> MetricSummary | None:
    """Return the summary of a measure, None where it has no value."""
    return next((m for m in measured(run) if m.name == measure), None)


def check_comparable(measure: str, first: Results, other: Results, names: tuple[str, str]) -> None:
    """Raise InputError where two runs, called `names`, made a measure by two protocols or with different weights."""
    a, b = measured_summary(first, measure), measured_summary(other, measure)
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
    """Return the names of the three worst videos of each measure that videos have, the worst first."""
    found = {}
    for metric in measured(results):
        sign = 1 if metric.direction == "up" else -1
        known = [(sign * v.values[metric.name].value, v.video) for v in results.videos if metric.name in v.values]
        if ranked := sorted((value, name) for value, name in known if math.isfinite(value)):
            found[metric.name] = [name for _, name in ranked[: len(ORDINALS)]]
    return found


def videos_to_show(worst: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the reasons why a video is shown ("worst SSIM"), by video, the one with most reasons first."""
    reasons: dict[str, list[str]] = {}
    for measure, names in worst.items():
        for place, name in enumerate(names):
            reasons.setdefault(name, []).append(f"{ORDINALS[place]} {measure}")
    return dict(sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])))


def worst_moment(video: VideoRow, seconds: float, results: Results) -> float:
    """Return the second at which a stretch of `seconds` of a longer video should begin.

    The stretch lies about the worst frame, by the first measure that has a value for each frame.
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

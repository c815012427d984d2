"""Compare runs on the same videos: how much better each is than the first, video by video, and how certain that is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.bootstrap import paired_difference
from cyberhost_model.lab.evaluation.report.selection import check_comparable, measured, measured_summary
from cyberhost_model.lab.evaluation.results import MetricSummary, Results, read_results


@dataclass(frozen=True)
class Difference:
    """Compare one measure of a run with that of the first run.

    first, other: means over the `n` videos both have a value for. difference: other - first, with its 95% interval
    (None for fewer than two people). better: the run that the interval favours, "" where it contains zero or does not
    exist. Of a measure that single videos do not have (FID, FVD) the values of the whole sets are shown, without an
    interval, and n is 0.
    """

    measure: str
    run: str
    first: float
    other: float
    difference: float
    ci95: tuple[float, float] | None
    n: int
    people: int
    better: str


@dataclass(frozen=True)
class Comparison:
    """Hold the differences of runs.

    runs: their results under names that differ; all others are compared with the first. summaries: the measures as the
    first run has them. unmatched: run -> videos of other runs it lacks. notes: limits of the comparison, a line each.
    """

    runs: tuple[Results, ...]
    summaries: tuple[MetricSummary, ...]
    differences: tuple[Difference, ...]
    unmatched: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    seed: int


def compare_reports(folders: Sequence[str | os.PathLike[str]], seed: int = 0) -> Comparison:
    """Compare runs that `write_results` wrote.

    Raises InputError: fewer than two, no video in common, a measure under two protocols or by two files of weights.
    """
    if len(folders) < 2:
        raise InputError("a comparison needs two or more folders with results; give them one after the other")
    return compare_results(_with_different_names([(Path(f), read_results(f)) for f in folders]), seed)


def compare_results(runs: Sequence[Results], seed: int = 0) -> Comparison:
    """Compare results, whose names must differ. Raises what `compare_reports` raises."""
    first, *others = runs
    summaries = [m for m in measured(first) if any(measured_summary(run, m.name) for run in others)]
    for run in others:
        for metric in summaries:
            check_comparable(metric.name, first, run, (first.name, run.name))
    common = set.intersection(*({v.video for v in run.videos} for run in runs))
    if not common:
        named = ", ".join(f"{run.name}: {run.videos[0].video!r}" for run in runs if run.videos)
        raise InputError(f"the runs have no video in common ({named}); compare runs on the same videos")
    everyone = {v.video for run in runs for v in run.videos}
    unmatched = {run.name: tuple(sorted(everyone - {v.video for v in run.videos})) for run in runs}
    differences, notes = [], []
    for run in others:
        same = _same_ground_truth(first, run, common)
        if left := len(common) - len(same):
            notes.append(
                f"{run.name}: {left} of {len(common)} videos were measured against another ground truth than in "
                f"{first.name} and are left out."
            )
        notes += _different_settings(first, run) + _missing_measures(first, run)
        for metric in summaries:
            difference = _difference(metric, first, run, same, seed)
            if difference is not None:
                differences.append(difference)
    if people := _different_people(runs, common):
        notes.append(f"{people} videos have another person in another run; the people of {first.name} are taken.")
    return Comparison(tuple(runs), tuple(summaries), tuple(differences), unmatched, tuple(notes), seed)


def _with_different_names(runs: Sequence[tuple[Path, Results]]) -> list[Results]:
    """Return the results under names that differ: where two have one name, the folder is added."""
    names = [run.name for _, run in runs]
    longer = [
        f"{run.name} ({folder.resolve().name})" if names.count(run.name) > 1 else run.name for folder, run in runs
    ]
    return [
        replace(run, name=name if longer.count(name) == 1 else f"{name} {i}")
        for i, (name, (_, run)) in enumerate(zip(longer, runs, strict=True), 1)
    ]


def _same_ground_truth(first: Results, other: Results, common: set[str]) -> list[str]:
    """Return the videos whose ground truth is the same file in both, as far as that is known; sorted."""

    def digests(run: Results) -> dict[str, str | None]:
        return {v.video: run.provenance.inputs.get(v.ground_truth) if v.ground_truth else None for v in run.videos}

    ours, theirs = digests(first), digests(other)
    return sorted(v for v in common if ours[v] is None or theirs[v] is None or ours[v] == theirs[v])


def _different_settings(first: Results, other: Results) -> list[str]:
    ours, theirs = first.provenance.settings, other.provenance.settings
    if ours.get("clips") == theirs.get("clips"):
        return []
    return [
        f"{other.name}: the setting clips is {theirs.get('clips')}, in {first.name} it is {ours.get('clips')}: FVD is "
        "not to be compared."
    ]


def _missing_measures(first: Results, other: Results) -> list[str]:
    """Name the measures that one of both does not have."""
    names = [[m.name for m in measured(run)] for run in (first, other)]
    lacking = {
        first.name: [n for n in names[1] if n not in names[0]],
        other.name: [n for n in names[0] if n not in names[1]],
    }
    return [f"{run} has no {', '.join(missing)}: not compared." for run, missing in lacking.items() if missing]


def _different_people(runs: Sequence[Results], common: set[str]) -> int:
    people: dict[str, set[str]] = {}
    for run in runs:
        for v in run.videos:
            people.setdefault(v.video, set()).add(v.identity)
    return sum(len(people[v]) > 1 for v in common)


def _difference(
    metric: MetricSummary, first: Results, other: Results, videos: Sequence[str], seed: int
) -> Difference | None:
    theirs = measured_summary(other, metric.name)
    if theirs is None or theirs.value is None or metric.value is None:
        return None
    rows = [{v.video: v for v in run.videos} for run in (first, other)]
    if not any(metric.name in v.values for v in first.videos):
        return Difference(
            metric.name, other.name, metric.value, theirs.value, theirs.value - metric.value, None, 0, 0, ""
        )
    a, b = (
        np.array([r[v].values[metric.name].value if metric.name in r[v].values else np.nan for v in videos], float)
        for r in rows
    )
    people = [rows[0][v].identity for v in videos]
    difference, interval, n = paired_difference(a, b, people, seed)
    both = np.isfinite(a) & np.isfinite(b)
    if not n:
        return None
    better = ""
    if interval is not None and (interval[0] > 0 or interval[1] < 0):
        better = other.name if (interval[0] > 0) == (metric.direction == "up") else first.name
    counted_people = len({p for p, ok in zip(people, both, strict=True) if ok})
    return Difference(
        metric.name,
        other.name,
        float(a[both].mean()),
        float(b[both].mean()),
        difference,
        interval,
        n,
        counted_people,
        better,
    )

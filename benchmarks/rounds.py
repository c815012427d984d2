"""Rounds: every part once by every contestant, in turn, the order moved on by one each round."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.pool import Broken, Worker

JOB, WARMING = "job", "job's warming up"


def run_rounds(
    workers: list[Worker],
    rounds: int,
    job_rounds: int,
    warm_job: bool,
    broken: dict[str, str],
    tell: Callable[[str], None],
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """label -> part -> measurements.

    A first round is thrown away: it loads kernels and fills caches. What breaks goes into `broken` and is left out
    from then on. A job is long and not thrown away; where `warm_job`, one of a single step comes before it.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {worker.label: {} for worker in workers}
    going = list(workers)
    parts = list(dict.fromkeys(part for worker in workers for part in worker.facts["parts"]))
    for number in range(rounds + 1):
        for part in parts:
            for worker in _turned(going, number):
                due = {JOB: 0 < number <= job_rounds, WARMING: warm_job and number == 0}.get(part, True)
                if part not in worker.facts["parts"] or not due:
                    continue
                try:
                    measured = worker.measure(part)
                except Broken as error:
                    broken[worker.label] = f"{part}: {error}"
                    tell(f"{worker.label}, {part}: {error}")
                    going.remove(worker)
                    continue
                if number:
                    found[worker.label].setdefault(part, []).append(measured)
        tell(f"round {number} of {rounds}" if number else "warmed up")
    return found


def _turned(workers: list[Worker], by: int) -> list[Worker]:
    by = by % len(workers) if workers else 0
    return workers[by:] + workers[:by]


def summary(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, quickest and slowest seconds, and the peak of memory."""
    seconds = [one["seconds"] for one in measured]
    return {
        "median": statistics.median(seconds),
        "quickest": min(seconds),
        "slowest": max(seconds),
        "times": len(seconds),
        "peak_mb": max(one["peak_mb"] for one in measured),
        "peak_since_start": any(one["peak_since_start"] for one in measured),
    }

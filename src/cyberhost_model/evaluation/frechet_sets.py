"""The Frechet distance of two sets of videos with what is needed to read it: its floor and how it falls as the sets grow.

The distance of two small samples of one distribution is far from 0 (478 for 100 vectors of 400 numbers each), so a value means nothing without N.
A bootstrap would draw videos twice, shrink the covariance and bias it further: there is no interval. Instead: the distance between two halves of
the ground truth (the floor), the distance on growing parts of the sets (the trend), and where a line in 1/N through them ends (the limit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .frechet import Gaussian, Sums, frechet_distance
from .metric import Role, Sample, SetValue

Rows = Callable[[Sample, Role], np.ndarray]
_PARTS = (0.25, 0.5, 0.75, 1.0)
_FEWEST = 4  # identities from which they are what is drawn; below, videos


def set_distance(samples: Sequence[Sample], rows: Rows, seed: int, counted: str) -> SetValue:
    """The distance between the generated videos' vectors and the ground truths', `rows(sample, role)` (n, d) each; a sample may have none.

    counted: what a vector stands for ("frames", "clips"). Samples are read once, a video at a time, in an order drawn from `seed`.
    """
    used = [s for s in samples if len(rows(s, "generated")) and len(rows(s, "reference"))]
    coverage = len(used) / len(samples) if samples else 0.0
    first = next((rows(s, "reference") for s in used), None)
    if first is None:
        return SetValue(float("nan"), coverage, reason=f"no video has {counted}")
    origin = np.asarray(first[:64], np.float64).mean(0)
    generated, reference = Sums.empty(origin), Sums.empty(origin)
    trend: list[dict[str, Any]] = []
    half: Sums | None = None
    videos = 0
    for part, group in _parts(used, seed):
        for sample in group:
            generated = generated.with_rows(rows(sample, "generated"))
            reference = reference.with_rows(rows(sample, "reference"))
        videos += len(group)
        if part == 0.5:
            half = reference.copy()
        if min(generated.n, reference.n) >= 2:
            value = frechet_distance(Gaussian.of(generated), Gaussian.of(reference))
            trend.append({"videos": videos, "n": generated.n, "value": value})
    if not trend:
        return SetValue(float("nan"), coverage, reason=f"fewer than two {counted}: there is no covariance")
    extras: dict[str, Any] = {f"n_{counted}": generated.n, f"n_reference_{counted}": reference.n, "floor": _floor(half, reference)}
    if len(trend) > 2:
        extras |= {"trend": trend, "limit": _limit(trend)}
    if min(generated.n, reference.n) <= len(origin):
        extras["note"] = f"no more {counted} than the {len(origin)} numbers of a vector: the value is mostly bias, compare it with the floor alone"
    return SetValue(trend[-1]["value"], coverage, extras)


def _parts(samples: Sequence[Sample], seed: int) -> Iterator[tuple[float, list[Sample]]]:
    """Share of the whole reached -> the samples that are new in it; whole identities where there are enough of them."""
    names = sorted({s.identity for s in samples})
    by_identity = [[s for s in samples if s.identity == name] for name in names]
    units = by_identity if len(names) >= _FEWEST else [[s] for s in samples]
    order = np.random.default_rng(seed).permutation(len(units))
    start = 0
    for part in _PARTS:
        end = round(part * len(units))
        if end > start:
            yield part, [s for i in order[start:end] for s in units[i]]
        start = end


def _floor(half: Sums | None, whole: Sums) -> dict[str, Any] | None:
    """Distance between the two halves of the ground truth; None where one has no covariance."""
    if half is None or min(half.n, whole.n - half.n) < 2:
        return None
    other = whole.minus(half)
    return {"value": frechet_distance(Gaussian.of(half), Gaussian.of(other)), "n": min(half.n, other.n)}


def _limit(trend: Sequence[dict[str, Any]]) -> float:
    """Where the least-squares line of the values over 1 / n meets 1 / n = 0."""
    return float(np.polyfit([1 / t["n"] for t in trend], [t["value"] for t in trend], 1)[1])

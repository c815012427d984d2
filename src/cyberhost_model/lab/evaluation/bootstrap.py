"""Compute confidence intervals by bootstrap over identities.

Videos of one person are not independent, so people are drawn, with all their videos.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 10_000
FEW_PEOPLE = 10
"""People below which a bootstrap interval is too narrow to be trusted (Cameron, Gelbach and Miller 2008)."""
_BLOCK = 500  # draws at a time, so that memory does not grow with them


def mean_interval(
    values: np.ndarray, identities: Sequence[str], seed: int, draws: int = DRAWS
) -> tuple[float, float] | None:
    """Compute the 95% interval of the mean over videos.

    values (n,), NaN left out. None for fewer than two identities with a value.

    Percentiles 2.5 and 97.5 of the means of `draws` samples of as many identities, with replacement. The same seed
    gives the same interval.
    """
    values = np.asarray(values, float)
    kept = np.isfinite(values)
    names, group = np.unique(np.asarray(identities, dtype=str)[kept], return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.bincount(group, values[kept])
    counts = np.bincount(group)
    random = np.random.default_rng(seed)
    means = np.empty(draws)
    for start in range(0, draws, _BLOCK):
        drawn = random.integers(len(names), size=(min(_BLOCK, draws - start), len(names)))
        means[start : start + len(drawn)] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def paired_difference(
    a: np.ndarray, b: np.ndarray, identities: Sequence[str], seed: int, draws: int = DRAWS
) -> tuple[float, tuple[float, float] | None, int]:
    """Compute the mean of b - a over the videos both have a value for.

    Returns also its 95% interval, as `mean_interval` does, and the number of those videos.
    """
    difference = np.asarray(b, float) - np.asarray(a, float)
    n = int(np.isfinite(difference).sum())
    return (float(np.nanmean(difference)) if n else float("nan")), mean_interval(difference, identities, seed, draws), n


def interval_caution(people: int) -> str:
    """Return what to say beside an interval over so many people, "" where there are enough."""
    return "fewer than ten people" if people < FEW_PEOPLE else ""

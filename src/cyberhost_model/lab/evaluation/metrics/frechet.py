"""Compute the Frechet distance of two sets of videos, with its floor and how it falls as the sets grow.

The distance of two small samples of one distribution is far from 0 (478 for 100 vectors of 400 numbers each), so a
value means nothing without N. A bootstrap would draw videos twice, shrink the covariance and bias it further: there is
no interval. Instead: the distance between two halves of the ground truth (the floor), the distance on growing parts of
the sets (the trend), and where a line in 1/N through them ends (the limit).

Frechet distance of two Gaussians (Dowson & Landau 1982): |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2). The last
trace is the nuclear norm of L1^T L2 with C = L L^T: the sum of its singular values, real and not negative also where
the covariances have no full rank. The square root of a matrix product (`scipy.linalg.sqrtm`) is neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from cyberhost_model.lab.evaluation.metric import Role, Sample, SetValue

_BLOCK = 4096  # rows turned into float64 at a time


@dataclass(frozen=True)
class MomentSums:
    """Hold the number of a set of vectors, their sum and the sum of their outer products, float64, around `origin`.

    Mean and covariance follow from them. The origin is a point near the vectors, so that precision is kept where the
    mean is large against the spread. Sums around one origin add and subtract.
    """

    n: int
    origin: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def empty(cls, origin: np.ndarray) -> MomentSums:
        """Return the sums of no vectors around `origin` (d,)."""
        d = len(origin)
        return cls(0, np.asarray(origin, np.float64), np.zeros(d), np.zeros((d, d)))

    def with_rows(self, rows: np.ndarray) -> MomentSums:
        """Add vectors (n, d), read in blocks. The matrix is changed in place: do not use the old sums again."""
        first, second = self.first.copy(), self.second
        for start in range(0, len(rows), _BLOCK):
            block = np.asarray(rows[start : start + _BLOCK], np.float64) - self.origin
            first += block.sum(0)
            second += block.T @ block
        return MomentSums(self.n + len(rows), self.origin, first, second)

    def minus(self, other: MomentSums) -> MomentSums:
        """Subtract the sums of vectors that are among these."""
        return MomentSums(self.n - other.n, self.origin, self.first - other.first, self.second - other.second)

    def copy(self) -> MomentSums:
        """Return a copy that `with_rows` does not change."""
        return MomentSums(self.n, self.origin, self.first.copy(), self.second.copy())

    @property
    def mean(self) -> np.ndarray:
        """Mean of the vectors, (d,)."""
        return self.origin + self.first / self.n

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the vectors, (d, d), divided by n - 1."""
        out = np.outer(self.first, self.first / -self.n)
        out += self.second
        out /= self.n - 1
        return out


@dataclass(frozen=True)
class Gaussian:
    """Hold the mean (d,) and a factor L (d, r) of the covariance C = L L^T, r its rank."""

    n: int
    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, sums: MomentSums) -> Gaussian:
        """Fit a Gaussian to vectors. Raises ValueError for fewer than two: they have no covariance."""
        if sums.n < 2:
            raise ValueError("a covariance needs at least two vectors")
        return cls(sums.n, sums.mean, _factor(sums.covariance, sums.n - 1))

    @classmethod
    def from_moments(cls, mean: np.ndarray, covariance: np.ndarray) -> Gaussian:
        """Make a Gaussian from its mean (d,) and its covariance (d, d)."""
        return cls(0, np.asarray(mean, np.float64), _factor(np.asarray(covariance, np.float64), len(covariance)))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Compute the Frechet distance of two Gaussians: not negative; 0 for equal ones, up to rounding."""
    gap = a.mean - b.mean
    shared = scipy.linalg.svdvals(a.factor.T @ b.factor, overwrite_a=True, check_finite=False).sum()
    return max(0.0, float(gap @ gap + np.square(a.factor).sum() + np.square(b.factor).sum() - 2 * shared))


def sum_moments(blocks: Iterable[np.ndarray]) -> MomentSums:
    """Sum vectors that come in arrays (n, d), at least one of them not empty."""
    sums = None
    for rows in blocks:
        if len(rows):
            sums = (sums or MomentSums.empty(np.asarray(rows[:_BLOCK], np.float64).mean(0))).with_rows(rows)
    if sums is None:
        raise ValueError("no vectors")
    return sums


def _factor(covariance: np.ndarray, rank: int) -> np.ndarray:
    """Factorise C = L L^T, L (d, r), by Cholesky with pivots.

    It ends where nothing above rounding is left, at `rank` columns at most.
    """
    lower, pivots, found, _ = scipy.linalg.lapack.dpstrf(covariance, lower=1, overwrite_a=0)
    factor = np.empty((len(covariance), min(found, rank)))
    factor[pivots - 1] = np.tril(lower)[:, : min(found, rank)]
    return factor


Rows = Callable[[Sample, Role], np.ndarray]
"""Return the vectors (n, d) of a sample in a role."""
_SHARES = (0.25, 0.5, 0.75, 1.0)  # of the set, in the trend
_MIN_IDENTITIES = 4  # from which whole identities are drawn; below, videos


def set_distance(samples: Sequence[Sample], rows: Rows, seed: int, counted: str) -> SetValue:
    """Compute the distance between the generated videos' vectors and the ground truths'.

    rows: gives the vectors of a sample; it may have none. counted: what a vector stands for ("frames", "clips").
    Samples are read once, a video at a time, in an order drawn from `seed`.
    """
    used = [s for s in samples if len(rows(s, "generated")) and len(rows(s, "ground_truth"))]
    coverage = len(used) / len(samples) if samples else 0.0
    first = next((rows(s, "ground_truth") for s in used), None)
    if first is None:
        return SetValue(float("nan"), coverage, reason=f"no video has {counted}")
    origin = np.asarray(first[:64], np.float64).mean(0)
    generated, truth = MomentSums.empty(origin), MomentSums.empty(origin)
    trend: list[dict[str, Any]] = []
    half: MomentSums | None = None
    videos = 0
    for part, group in _parts(used, seed):
        for sample in group:
            generated = generated.with_rows(rows(sample, "generated"))
            truth = truth.with_rows(rows(sample, "ground_truth"))
        videos += len(group)
        if part == 0.5:
            half = truth.copy()
        if min(generated.n, truth.n) >= 2:
            value = frechet_distance(Gaussian.of(generated), Gaussian.of(truth))
            trend.append({"videos": videos, "n": generated.n, "value": value})
    if not trend:
        return SetValue(float("nan"), coverage, reason=f"fewer than two {counted}: there is no covariance")
    extras: dict[str, Any] = {
        f"n_{counted}": generated.n,
        f"n_ground_truth_{counted}": truth.n,
        "floor": _floor(half, truth),
    }
    if len(trend) > 2:
        extras |= {"trend": trend, "limit": _limit(trend)}
    if min(generated.n, truth.n) <= len(origin):
        extras["note"] = (
            f"no more {counted} than the {len(origin)} numbers of a vector: the value is mostly bias, compare it with "
            "the floor alone"
        )
    return SetValue(trend[-1]["value"], coverage, extras)


def _parts(samples: Sequence[Sample], seed: int) -> Iterator[tuple[float, list[Sample]]]:
    """Yield growing shares of the set, each with the samples that are new in it.

    Whole identities are added together where there are enough of them.
    """
    names = sorted({s.identity for s in samples})
    by_identity = [[s for s in samples if s.identity == name] for name in names]
    units = by_identity if len(names) >= _MIN_IDENTITIES else [[s] for s in samples]
    order = np.random.default_rng(seed).permutation(len(units))
    start = 0
    for part in _SHARES:
        end = round(part * len(units))
        if end > start:
            yield part, [s for i in order[start:end] for s in units[i]]
        start = end


def _floor(half: MomentSums | None, whole: MomentSums) -> dict[str, Any] | None:
    """Return the distance between two halves of the ground truth; None where one has no covariance."""
    if half is None or min(half.n, whole.n - half.n) < 2:
        return None
    other = whole.minus(half)
    return {"value": frechet_distance(Gaussian.of(half), Gaussian.of(other)), "n": min(half.n, other.n)}


def _limit(trend: Sequence[dict[str, Any]]) -> float:
    """Return the value at which the least-squares line over 1 / n meets 1 / n = 0."""
    return float(np.polyfit([1 / t["n"] for t in trend], [t["value"] for t in trend], 1)[1])

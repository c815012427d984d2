"""Frechet distance of two Gaussians (Dowson & Landau 1982): |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2).

The last trace is the nuclear norm of L1^T L2 with C = L L^T: the sum of its singular values, real and not negative also where the covariances have
no full rank. The square root of a matrix product (`scipy.linalg.sqrtm`) is neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

_BLOCK = 4096  # rows turned into float64 at a time


@dataclass(frozen=True)
class Sums:
    """Enough of a set of vectors for its mean and covariance: their number, sum and sum of outer products, float64, counted from `origin`.

    The origin is a point near them, so that nothing is lost where the mean is large against the spread. Sums of one origin add and subtract.
    """

    n: int
    origin: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def empty(cls, origin: np.ndarray) -> Sums:
        d = len(origin)
        return cls(0, np.asarray(origin, np.float64), np.zeros(d), np.zeros((d, d)))

    def with_rows(self, rows: np.ndarray) -> Sums:
        """And these vectors (n, d), read in blocks. The matrix is changed in place: the old sums are used up."""
        first, second = self.first.copy(), self.second
        for start in range(0, len(rows), _BLOCK):
            block = np.asarray(rows[start : start + _BLOCK], np.float64) - self.origin
            first += block.sum(0)
            second += block.T @ block
        return Sums(self.n + len(rows), self.origin, first, second)

    def minus(self, other: Sums) -> Sums:
        """These without those, which must be among them."""
        return Sums(self.n - other.n, self.origin, self.first - other.first, self.second - other.second)

    def copy(self) -> Sums:
        return Sums(self.n, self.origin, self.first.copy(), self.second.copy())

    @property
    def mean(self) -> np.ndarray:
        return self.origin + self.first / self.n

    @property
    def covariance(self) -> np.ndarray:
        """Divided by n - 1."""
        out = np.outer(self.first, self.first / -self.n)
        out += self.second
        out /= self.n - 1
        return out


@dataclass(frozen=True)
class Gaussian:
    """Mean (d,) and a factor L (d, r) of the covariance C = L L^T, r its rank."""

    n: int
    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, sums: Sums) -> Gaussian:
        """Raises ValueError for fewer than two vectors: they have no covariance."""
        if sums.n < 2:
            raise ValueError("a covariance needs at least two vectors")
        return cls(sums.n, sums.mean, _factor(sums.covariance, sums.n - 1))

    @classmethod
    def from_moments(cls, mean: np.ndarray, covariance: np.ndarray) -> Gaussian:
        """From a mean (d,) and a covariance (d, d) given as such."""
        return cls(0, np.asarray(mean, np.float64), _factor(np.asarray(covariance, np.float64), len(covariance)))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Not negative; 0 for equal ones, but for rounding."""
    gap = a.mean - b.mean
    shared = scipy.linalg.svdvals(a.factor.T @ b.factor, overwrite_a=True, check_finite=False).sum()
    return max(0.0, float(gap @ gap + np.square(a.factor).sum() + np.square(b.factor).sum() - 2 * shared))


def gathered(blocks: Iterable[np.ndarray]) -> Sums:
    """Sums of vectors that come in arrays (n, d), at least one of them not empty."""
    sums = None
    for rows in blocks:
        if len(rows):
            sums = (sums or Sums.empty(np.asarray(rows[:_BLOCK], np.float64).mean(0))).with_rows(rows)
    if sums is None:
        raise ValueError("no vectors")
    return sums


def _factor(covariance: np.ndarray, rank: int) -> np.ndarray:
    """L with L L^T = C, (d, r): Cholesky's with pivots, which ends where nothing above rounding is left, at `rank` columns at most."""
    lower, pivots, found, _ = scipy.linalg.lapack.dpstrf(covariance, lower=1, overwrite_a=0)
    factor = np.empty((len(covariance), min(found, rank)))
    factor[pivots - 1] = np.tril(lower)[:, : min(found, rank)]
    return factor

"""KID (Binkowski et al. 2018, "Demystifying MMD GANs"): the squared maximum mean discrepancy of Inception features.

The kernel is (x . y / d + 1)^3. The estimator is the unbiased one: no vector meets itself, so that two samples of one
distribution give 0 in the mean whatever their size, and a value may be negative. As published it is the mean over 100
subsets of 1000 vectors; where there are no more than 1000 of each, all are taken at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cyberhost_model.lab.evaluation.metric import Sample, SetValue
from cyberhost_model.lab.evaluation.metrics.frechet import Rows

SUBSETS, SUBSET = 100, 1000


def unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Estimate the squared discrepancy of vectors (n, d) and (m, d), n and m at least 2, without bias."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n, m = len(x), len(y)
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_distance(samples: Sequence[Sample], rows: Rows, seed: int, counted: str) -> SetValue:
    """Compute KID between the generated videos' vectors and the ground truths', see `frechet.set_distance`.

    "deviation" beside it is the standard deviation over the subsets.
    """
    used = [s for s in samples if len(rows(s, "generated")) and len(rows(s, "ground_truth"))]
    coverage = len(used) / len(samples) if samples else 0.0
    generated = [rows(s, "generated") for s in used]
    truth = [rows(s, "ground_truth") for s in used]
    n, m = sum(map(len, generated)), sum(map(len, truth))
    if min(n, m) < 2:
        return SetValue(float("nan"), coverage, reason=f"fewer than two {counted}: there are no pairs")
    extras = {f"n_{counted}": n, f"n_ground_truth_{counted}": m}
    if max(n, m) <= SUBSET:
        return SetValue(unbiased_mmd(np.concatenate(generated), np.concatenate(truth)), coverage, extras)
    random = np.random.default_rng(seed)
    values = [
        unbiased_mmd(_draw(generated, min(SUBSET, n), random), _draw(truth, min(SUBSET, m), random))
        for _ in range(SUBSETS)
    ]
    return SetValue(float(np.mean(values)), coverage, extras | {"deviation": float(np.std(values))})


def _draw(parts: Sequence[np.ndarray], count: int, random: np.random.Generator) -> np.ndarray:
    """Draw `count` of the rows of all parts without replacement, reading only these: parts may be long."""
    ends = np.cumsum([len(part) for part in parts])
    drawn = np.sort(random.choice(int(ends[-1]), count, replace=False))
    bounds = np.searchsorted(drawn, [0, *ends])
    pieces = zip(parts, ends - [len(part) for part in parts], bounds, bounds[1:], strict=False)
    return np.concatenate([np.asarray(part[drawn[low:high] - first]) for part, first, low, high in pieces])

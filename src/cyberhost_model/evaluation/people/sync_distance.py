"""SyncC and SyncD from embeddings: how far pictures and sound are apart at every shift (Chung and Zisserman, "Out of time", 2016).

For a window t of frames and a shift j in -15..15 the distance is that of v_t to a_(t + j). As in the authors' code the sound before the first and after
the last window counts as a zero embedding. That pulls the values of short clips: with T windows, |j| / T of the mean at shift j comes from zeros.
`Sync.confidence_inside` and `Sync.distance_inside` are the same numbers from the pairs that exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

VSHIFT = 15  # frames of 40 ms
_EPS = 1e-6  # torch's pairwise_distance adds it to every difference


@dataclass(frozen=True)
class Sync:
    """`confidence` is SyncC (higher is better), `distance` SyncD (lower), `offset` in frames: positive where the sound comes early.

    `curve` float64 (31,): the mean distance at the shifts -15..15.
    """

    confidence: float
    distance: float
    offset: int
    windows: int
    curve: np.ndarray
    confidence_inside: float
    distance_inside: float


def distance_stream(pictures: Iterable[np.ndarray], sounds: Iterable[np.ndarray], vshift: int = VSHIFT) -> Iterator[np.ndarray]:
    """Pieces of embeddings (n, D), both streams of the same length T together and of the same or other piece lengths -> pieces float32 (n, 2 vshift + 1).

    Column j of row t is |v_t - a_(t + j - vshift)|; see the module for the ends. Only 2 vshift + 1 embeddings more than a piece are held.
    """
    heard = iter(sounds)
    near: np.ndarray | None = None  # sounds from t - vshift on
    over = False
    for piece in pictures:
        if not len(piece):
            continue
        if near is None:
            near = np.zeros((vshift, piece.shape[1]), np.float32)
        while len(near) < len(piece) + 2 * vshift:
            more = next(heard, None) if not over else None
            if more is None:
                over = True
                more = np.zeros((len(piece) + 2 * vshift - len(near), piece.shape[1]), np.float32)
            near = np.concatenate([near, more])
        columns = [np.linalg.norm(piece - near[j : j + len(piece)] + _EPS, axis=1) for j in range(2 * vshift + 1)]
        yield np.stack(columns, 1).astype(np.float32)
        near = near[len(piece) :]


def sync_of(distances: Iterable[np.ndarray]) -> Sync:
    """SyncC, SyncD and the offset of the pieces `distance_stream` gives. Raises ValueError without any."""
    total: np.ndarray | None = None
    count = 0
    first: list[np.ndarray] = []
    last: list[np.ndarray] = []
    for piece in distances:
        rows = np.asarray(piece, np.float64)
        total = rows.sum(0) if total is None else total + rows.sum(0)
        reach = rows.shape[1] // 2
        if count < reach:
            first.append(rows[: reach - count])
        last = [np.concatenate([*last, rows])[-reach:]]
        count += len(rows)
    if total is None or not count:
        raise ValueError("no window of frames to take the synchrony of")
    curve = total / count
    inside = _inside(total, np.concatenate(first), last[0], count)
    middle, best = len(curve) // 2, int(curve.argmin())
    return Sync(
        confidence=float(np.median(curve) - curve[best]),
        distance=float(curve[best]),
        offset=middle - best,
        windows=count,
        curve=curve,
        confidence_inside=float(np.nanmedian(inside) - np.nanmin(inside)),
        distance_inside=float(np.nanmin(inside)),
    )


def _inside(total: np.ndarray, first: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
    """The mean distances without those to the zeros before the first and after the last sound; NaN where no pair is left."""
    middle = len(total) // 2
    means = np.full(len(total), np.nan)
    for j in range(len(total)):
        shift = j - middle
        outside = first[: max(0, -shift), j].sum() + last[len(last) - min(max(0, shift), len(last)) :, j].sum()
        if count > abs(shift):
            means[j] = (total[j] - outside) / (count - abs(shift))
    return means


def confidence_curve(distances: np.ndarray, sync: Sync, width: int = 9) -> np.ndarray:
    """(T, 2 vshift + 1) -> float64 (T,): how sure the synchrony is at each window, at the clip's best shift; smoothed by a median of `width` windows."""
    from scipy.signal import medfilt

    best = len(sync.curve) // 2 - sync.offset
    return medfilt(np.median(sync.curve) - distances[:, best].astype(np.float64), width)

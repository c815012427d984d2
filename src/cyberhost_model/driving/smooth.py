"""Cleaning detected key points: gaps filled, outliers removed, jitter smoothed away without lag.

Every coordinate is fitted by a Whittaker smoother (Eilers 2003, "A perfect smoother"): the curve x that minimises
sum_t w_t (y_t - x_t)^2 + lambda sum_t (third difference of x at t)^2, w being the score. It depends on both sides of a
frame, so it has no lag, and lambda is chosen by generalised cross-validation for each group of points that share a
detector's crop: points without jitter are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cyberhost_model.driving.sequence import FACE, HANDS, PoseSequence, fill_gaps
from cyberhost_model.perception.keypoints import VISIBLE

BRIDGE = 0.5  # seconds: a point hidden for no longer is filled in between the frames that show it
BLIP = 3  # frames: a point visible for fewer, with gaps longer than BRIDGE around, is taken for a mistake
_ORDER = 3
_LAMBDAS = 10.0 ** np.arange(-2.0, 4.1, 0.5)
_BLOCK, _MARGIN = 1500, 50  # frames: a minute, and what of its neighbours decides its ends
_WINDOW = 10  # frames to either side over which lambda is chosen
_HIDDEN_WEIGHT, _MOST_FREEDOM = 1e-5, 0.95
_REACH, _AROUND = 3, 8  # frames to either side
_OUTLIER, _LEAST = 6.0, 0.004  # robust deviations, share of the picture's height
# Arms, torso and legs, the head's points, each hand, the face: points of a group tremble alike.
_GROUPS = (
    (0, 14, 15, 16, 17),
    (1, 2, 5),
    (3, 4),
    (6, 7),
    (8, 9, 10, 11, 12, 13),
    *(tuple(range(part.start, part.stop)) for part in (*HANDS, FACE)),
)


def clean(sequence: PoseSequence, bridge: float = BRIDGE) -> PoseSequence:
    """Fill gaps of up to `bridge` seconds, remove single mistakes and smooth jitter away.

    A filled point gets the score of the less certain end of its gap. Longer gaps stay. Long sequences go block by
    block.
    """
    frames = len(sequence)
    if frames <= _BLOCK + 2 * _MARGIN:
        return _clean_block(sequence, bridge)
    pieces = []
    for start in range(0, frames, _BLOCK):
        first, stop = max(0, start - _MARGIN), min(frames, start + _BLOCK)
        piece = _clean_block(sequence.cut(first, min(frames, stop + _MARGIN)), bridge)
        pieces.append(piece.cut(start - first, stop - first))
    return sequence.with_points(
        np.concatenate([p.points() for p in pieces]), np.concatenate([p.scores() for p in pieces])
    )


def clean_shots(sequence: PoseSequence, cuts: Sequence[int]) -> PoseSequence:
    """Clean each shot by itself: across a cut nothing is bridged."""
    edges = [0, *sorted({c for c in cuts if 0 < c < len(sequence)}), len(sequence)]
    pieces = [clean(sequence.cut(a, b)) for a, b in zip(edges, edges[1:], strict=False)]
    joined = [np.concatenate([getattr(p, name)() for p in pieces]) for name in ("points", "scores")]
    return sequence.with_points(*joined)


def _clean_block(sequence: PoseSequence, bridge: float) -> PoseSequence:
    points, scores = sequence.points().astype(np.float64), sequence.scores().astype(np.float64)
    points *= [sequence.aspect, 1]
    visible = scores > VISIBLE
    visible &= ~_find_outliers(np.where(visible[..., None], points, np.nan))
    reach = round(bridge * sequence.fps)
    visible &= ~_find_blips(visible, reach)
    source, filled = _bridge_gaps(visible, scores, reach)
    smooth = points.copy()
    for group in _GROUPS:
        _smooth_group(smooth, np.where(visible, scores, 0), np.array(group))
    smooth = np.take_along_axis(smooth, np.maximum(source, 0)[..., None], 0)
    return sequence.with_points(np.where(source[..., None] >= 0, smooth / [sequence.aspect, 1], 0), filled)


def _find_outliers(points: np.ndarray) -> np.ndarray:
    """(T, P) where a point leaves its path for a frame or two and comes back; NaN in where it is not visible.

    It is compared with the middles between the frames on its two sides, which a steady motion runs through. A gesture
    also leaves them, but for longer, or on its way to another place.
    """
    frames = len(points)
    if frames < 2 * _REACH + 1:
        return np.zeros(points.shape[:2], bool)
    padded = np.pad(points, ((_REACH, _REACH), (0, 0), (0, 0)), constant_values=np.nan)
    before, after = (
        np.stack([padded[_REACH + s * k : _REACH + s * k + frames] for k in range(1, _REACH + 1)]) for s in (-1, 1)
    )
    off = np.linalg.norm(points - nanmedian((before + after) / 2), axis=-1)
    way = np.nan_to_num(nanmedian(np.linalg.norm(after - before, axis=-1) / 2))
    padded = np.pad(off, ((_AROUND, _AROUND), (0, 0)), constant_values=np.nan)
    near = nanmedian(np.stack([padded[i : i + frames] for i in range(2 * _AROUND + 1)]))
    usual = np.nan_to_num(np.maximum(1.4826 * nanmedian(off), near))
    return np.nan_to_num(off) > np.maximum(np.maximum(_OUTLIER * usual, _LEAST), 1.5 * way)


def nanmedian(values: np.ndarray) -> np.ndarray:
    """Compute the median over the first axis without NaN; NaN where there is nothing else.

    (numpy's own warns about that, and is slow.)
    """
    ordered = np.sort(values, 0)  # NaN comes last
    count = np.isfinite(values).sum(0)[None]
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count, 1) // 2
    middle = [np.take_along_axis(ordered, i, 0)[0] for i in (low, np.minimum(high, len(values) - 1))]
    return (middle[0] + middle[1]) / 2


def find_runs(mask: np.ndarray) -> np.ndarray:
    """Find the starts and ends of the runs of a mask (T,): (n, 2)."""
    return np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))).reshape(-1, 2)


def _find_blips(visible: np.ndarray, reach: int) -> np.ndarray:
    """Where a point is visible for less than BLIP frames, and not again within `reach` frames."""
    blip = np.zeros_like(visible)
    if len(visible) < BLIP + reach:
        return blip
    for p in range(visible.shape[1]):
        runs = find_runs(visible[:, p])
        gaps = np.concatenate([[reach + 1], runs[1:, 0] - runs[:-1, 1], [reach + 1]])
        for i, (start, stop) in enumerate(runs):
            blip[start:stop, p] = stop - start < BLIP and min(gaps[i], gaps[i + 1]) > reach
    return blip


def _bridge_gaps(visible: np.ndarray, scores: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """(T, P) the frame whose smoothed place a point takes, -1 where it stays hidden, and its score.

    That is its own frame where it is visible or bridged; the nearest that shows it in gaps of up to BLIP frames at
    either end of the sequence.
    """
    frames = len(visible)
    source, out = np.where(visible, np.arange(frames)[:, None], -1), np.where(visible, scores, 0)
    for p in range(visible.shape[1]):
        for start, stop in find_runs(~visible[:, p]):
            at_end = start == 0 or stop == frames
            if stop - start == frames or stop - start > (BLIP if at_end else reach):
                continue
            ends = [i for i in (start - 1, stop) if 0 <= i < frames]
            source[start:stop, p] = ends[0] if at_end else np.arange(start, stop)
            out[start:stop, p] = scores[ends, p].min()
    return source, out


def _smooth_group(points: np.ndarray, weights: np.ndarray, group: np.ndarray) -> None:
    """Smooth the points `group` of (T, P, 2) in place; what has no weight is filled in."""
    frames = len(points)
    group = group[(weights[:, group] > 0).sum(0) >= 1]
    if len(group) == 0:
        return
    w = weights[:, group]
    if frames <= 2 * _ORDER:
        points[:, group] = fill_gaps(points[:, group], w > 0)
        return
    # A hidden point is weakly drawn to its line: this keeps a long gap from swinging out, and the equations solvable.
    y, visible, w = fill_gaps(points[:, group], w > 0), w > 0, np.where(w > 0, w, _HIDDEN_WEIGHT)
    usual = w.sum(0) / frames
    # The eigenvalues of D'D, near enough, tell how much freedom a lambda leaves without inverting anything.
    bend = (2 - 2 * np.cos(np.pi * np.arange(frames) / frames)) ** _ORDER
    fits = np.stack([_whittaker(y, w, penalty) for penalty in _LAMBDAS])
    freedom = np.stack(
        [(usual[:, None] / (usual[:, None] + penalty * bend)).sum(1) / visible.sum(0) for penalty in _LAMBDAS]
    )
    error = (np.where(visible, w, 0)[..., None] * (y - fits) ** 2).sum(-1) / (1 - np.minimum(freedom, _MOST_FREEDOM))[
        :, None
    ] ** 2
    loss = _window_means(error.sum(-1).T, _WINDOW)
    # Which lambda, in places between those tried, changes slowly: the curve must not.
    place = _window_means(loss.argmin(1).astype(float), _WINDOW)
    low = np.minimum(place.astype(int), len(_LAMBDAS) - 2)
    share, at = (place - low)[:, None, None], np.arange(frames)
    points[:, group] = (1 - share) * fits[low, at] + share * fits[low + 1, at]


def _window_means(values: np.ndarray, reach: int) -> np.ndarray:
    """Means of values (T, ...) about each frame, weighted by a Hann window that ends `reach` frames away."""
    from scipy.ndimage import correlate1d

    return np.asarray(correlate1d(values, np.hanning(2 * reach + 1) / reach, axis=0, mode="reflect"))


def _whittaker(y: np.ndarray, w: np.ndarray, penalty: float) -> np.ndarray:
    """The smooth curves through y (T, P, 2) with weights (T, P)."""
    from scipy.linalg import solveh_banded

    frames = len(y)
    band = _penalty_band(frames)
    out = np.empty_like(y)
    for p in range(y.shape[1]):
        a = penalty * band
        a[-1] += w[:, p]
        out[:, p] = solveh_banded(a, w[:, p, None] * y[:, p], overwrite_ab=True, check_finite=False)
    return out


def _penalty_band(frames: int) -> np.ndarray:
    """D'D of the third differences, in scipy's upper banded form (4, T)."""
    row = np.array([-1.0, 3.0, -3.0, 1.0])
    band = np.zeros((_ORDER + 1, frames))
    for offset in range(_ORDER + 1):
        for a in range(_ORDER + 1 - offset):
            band[_ORDER - offset, a + offset : a + offset + frames - _ORDER] += row[a] * row[a + offset]
    return band

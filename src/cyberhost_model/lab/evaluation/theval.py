"""THEval's measures of lips and brows that need no network of their own (Quignon et al. 2026, arXiv 2511.04520).

Its other four ask networks for aesthetics, quality of face and mouth, and head poses. Formulas are those of the
authors' code, from which the paper's differ in details; where that returns 0 for a video without a face, there is NaN
here. None of the four is better by being larger or smaller: THEval takes how near it is to the ground truth's
(`closeness`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

SHORTEST_SILENCE = 0.3
"""Seconds without speech that count as silence."""
LEAST_SPEECH = 0.1
"""Share of the frames with speech from which lip-sync is measured."""
VOLUME_STEP = 0.05
"""Seconds between values of the volume, and of the windows it is the root mean square of."""


def lip_dynamics(lips: np.ndarray) -> float:
    """Average the standard deviation over time (ddof 0) of the distances between all pairs of lip points.

    lips: (T, P, 2) in pixels of a frame stretched to 256 x 256, NaN without a face. NaN where no frame has one.
    """
    seen = lips[np.isfinite(lips).all((1, 2))]
    if not len(seen):
        return float("nan")
    first, second = np.array(list(combinations(range(seen.shape[1]), 2))).T
    return float(np.linalg.norm(seen[:, first] - seen[:, second], axis=2).std(0).mean())


def brow_dynamics(lift: np.ndarray) -> float:
    """Average the absolute change of both brows' height from each frame with a face to the next one.

    lift: (T, 2), distance of the middle of a brow from that of its eye over that of the eyes from each other; NaN
    without a face. NaN for fewer than two frames with one.
    """
    seen = lift[np.isfinite(lift).all(1)]
    return float(np.abs(np.diff(seen, axis=0)).mean()) if len(seen) > 1 else float("nan")


def silent_lip_stability(opening: np.ndarray, silent: np.ndarray) -> float:
    """Compute the median distance of the lips' opening from its mean, over the silent frames.

    opening: (T,) in distances of the eyes, NaN without a face. silent: bool (T,). NaN for fewer than two frames.
    """
    values = opening[silent & np.isfinite(opening)]
    return float(np.median(np.abs(values - values.mean()))) if len(values) > 1 else float("nan")


def lip_sync(opening: np.ndarray, volume: np.ndarray, speech: np.ndarray) -> float:
    """Average the distance of the lips' opening from the sound's volume, each brought to 0..1 over the speech.

    opening, volume: (T,), speech: bool (T,). NaN where less than LEAST_SPEECH of the frames have speech, or fewer than
    two of them a face.
    """
    at = speech & np.isfinite(opening)
    if not len(speech) or speech.mean() < LEAST_SPEECH or at.sum() < 2:
        return float("nan")
    return float(np.abs(_to_unit(opening[at]) - _to_unit(volume[at])).mean())


def _to_unit(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min() + 1e-8)


def speech_frames(segments: Sequence[tuple[float, float]], frames: int, fps: float) -> np.ndarray:
    """Mark the frames that segments (start, end) in seconds touch: bool (frames,)."""
    marked = np.zeros(frames, bool)
    for start, end in segments:
        marked[int(start * fps) : int(end * fps) + 1] = True
    return marked


def silent_frames(speech: np.ndarray, fps: float) -> np.ndarray:
    """Mark the frames of stretches of SHORTEST_SILENCE and more without speech: bool, of its shape."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], speech, [True]]).astype(int)))
    silent = np.zeros_like(speech)
    for first, stop in edges.reshape(-1, 2):
        silent[first:stop] = stop - first >= SHORTEST_SILENCE * fps
    return silent


def volume_steps(samples: np.ndarray, rate: int) -> np.ndarray:
    """Compute the root mean square of samples (n,) in windows of VOLUME_STEP about every VOLUME_STEP, zeros outside.

    Returns (1 + n // step,); value k is of the time k * VOLUME_STEP.
    """
    step = int(rate * VOLUME_STEP)
    padded = np.pad(np.asarray(samples, np.float64), step // 2)
    count = 1 + len(samples) // step
    total = np.concatenate([[0.0], np.cumsum(np.square(padded))])
    starts = np.minimum(np.arange(count) * step, len(padded) - step) if len(padded) >= step else np.zeros(0, int)
    return np.sqrt(np.maximum(total[starts + step] - total[starts], 0) / step)


def volume_at_frames(steps: np.ndarray, frames: int, fps: float) -> np.ndarray:
    """Interpolate `volume_steps` at the times of frames: (frames,)."""
    return np.interp(np.arange(frames) / fps, np.arange(len(steps)) * VOLUME_STEP, steps)


def closeness(value: float, truth: float) -> float:
    """Score a value by its distance from the ground truth's, in shares of that (eq. 12): 1 is the best.

    NaN for a ground truth of 0.
    """
    return 1 - abs(value - truth) / abs(truth) if truth else float("nan")

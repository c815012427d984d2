"""Blinks: how far the lids of each frame are shut, drawn from a seed, or seen in key points. Not in the paper."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from cyberhost_model.perception.face_controls import lids_gap
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

# People who speak blink 10 to 20 times a minute, at very uneven intervals: these have a mean of 4.3 s.
_MEDIAN_INTERVAL, _SPREAD, _SHORTEST = 3.6, 0.6, 0.8
_CLOSING, _SHUT, _OPENING = 0.08, 0.06, 0.16
"""Seconds: lids fall twice as fast as they rise."""
_WHOLE = 0.8  # share of the gap by which shut lids' key points have fallen
_FALLEN = (0.3, 0.65)  # share by which filmed lids fall when a blink begins, and when they are shut


def blinks(rng: np.random.Generator, times: Iterator[float] | Sequence[float], rate: float = 1.0) -> Iterator[float]:
    """Draw blinks at rising `times`, seconds: 0 open .. 1 shut, one number a time.

    rate: factor of their frequency. The first comes after half an interval.
    """
    at = 0.5 * _interval(rng, rate)
    for t in times:
        if t > at + _CLOSING + _SHUT + _OPENING:
            at += _interval(rng, rate)
        since = t - at
        if since < _CLOSING + _SHUT:
            yield min(max(since / _CLOSING, 0.0), 1.0)
        else:
            yield max(1 - (since - _CLOSING - _SHUT) / _OPENING, 0.0)


def _interval(rng: np.random.Generator, rate: float) -> float:
    return max(_SHORTEST, _MEDIAN_INTERVAL * math.exp(_SPREAD * rng.standard_normal()) / rate)


def blinks_of(faces: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Read the blinks off a filmed face: float32 (T,), 0 as open as mostly .. 1 shut; 0 where there is no face.

    faces (T, 68, 2) in pixels, scores (T, 68). Small changes of the lids' gap are a detector's trembling.
    """
    there = scores[:, 36:48].max(1) > VISIBLE
    if not there.any():
        return np.zeros(len(faces), np.float32)
    gaps = np.array([lids_gap(face) if seen else np.nan for face, seen in zip(faces, there, strict=True)])
    fallen = 1 - np.nan_to_num(gaps / max(float(np.nanmedian(gaps)), 1e-6), nan=1.0)
    low, high = _FALLEN
    return np.clip((fallen - low) / (high - low), 0, 1).astype(np.float32)


def shut_lids(reference: Keypoints, frames: Sequence[Keypoints], size: tuple[int, int]) -> np.ndarray:
    """Measure how far lids are shut against `reference`: float32 (T,), 0 as there or wider .. 1 shut.

    size: (W, H) of the picture, for key points are in 0..1 of it. 0 where a face is missing, and where the reference's
    own eyes are shut.
    """
    shut = np.zeros(len(frames), np.float32)
    own = lids_gap(reference.face * np.array(size, np.float32)) if reference.face_score.max() > VISIBLE else 0.0
    if own <= 0.01:
        return shut
    for i, k in enumerate(frames):
        if k.face_score.max() > VISIBLE:
            shut[i] = np.clip((1 - lids_gap(k.face * np.array(size, np.float32)) / own) / _WHOLE, 0, 1)
    return shut

"""Find the weak seconds of a video: a face unlike the picture, uncertain hands, jitter, a frozen picture.

Each second is compared with the rest of the same video, so a video without weak seconds need not be good: an evenly
poor one has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cyberhost_model.perception.keypoints import VISIBLE

FACE_DROP = 0.1
"""A second is weak whose similarity is this far below the video's median, or three standard deviations if that is more.

The standard deviation is 1.4826 times the median absolute deviation.
"""
HANDS_SHARE = 0.6
"""A second is weak whose hand confidence is below this share of the video's median."""
HANDS_MIN_CONFIDENCE = 0.2
"""A video whose median hand confidence is lower shows no hands: none of its seconds is weak for that."""
JITTER = 3.0
"""A second is weak whose jitter is above this, in pixels of a frame 640 high, and above twice the video's median.

Measured on drawn people: their exact points jitter by at most 0.1, the embedded detector's by 0.2 to 3, and by 8 on
hands with a low confidence.
"""
SAME_FRAME = 0.05
"""Mean difference (0..255) of two frames below which they are the same.

Measured: repeated frames at most 0.03 after H.264 (crf 16 to 30), a person at rest at least 0.13.
"""
FROZEN_SECONDS = 0.4
NO_FACE_SHARE = 0.25
"""A second is weak with at least this share of frames without a face."""
_SHORTEST = 0.3  # seconds; a shorter remainder belongs to the second before it


@dataclass(frozen=True)
class WeakStretch:
    """Describe a weak stretch, in seconds of the video: the kind of its weakness, and the same in words."""

    start: float
    stop: float
    kind: str
    words: str


def split_seconds(frames: int, fps: float) -> list[tuple[int, int]]:
    """Return (first, last + 1) frame of every second."""
    count = max(1, round(frames / fps + 0.5 - _SHORTEST))
    edges = [round(i * fps) for i in range(count)] + [frames]
    return [(a, b) for a, b in zip(edges, edges[1:], strict=False) if b > a]


def weak_faces(similarity: np.ndarray, fps: float) -> list[WeakStretch]:
    """Find seconds without a face, or with one that resembles the reference picture less than usual.

    similarity: (T,) to the picture, NaN where no face is found.
    """
    spans = split_seconds(len(similarity), fps)
    means = _mean_of_seconds(similarity, spans)
    known = means[np.isfinite(means)]
    found = [
        WeakStretch(a / fps, b / fps, "no face", f"no face is found in {lost} of {b - a} frames")
        for a, b in spans
        if (lost := int(np.isnan(similarity[a:b]).sum())) >= NO_FACE_SHARE * (b - a)
    ]
    if len(known):
        usual = float(np.median(known))
        drop = max(FACE_DROP, 3 * 1.4826 * float(np.median(np.abs(known - usual))))
        found += [
            WeakStretch(
                a / fps,
                b / fps,
                "face",
                f"the face is less like the picture: similarity {mean:.2f}, usually {usual:.2f}",
            )
            for (a, b), mean in zip(spans, means, strict=True)
            if mean < usual - drop
        ]
    return found


def weak_hands(confidence: np.ndarray, fps: float) -> list[WeakStretch]:
    """Find seconds whose hands are uncertain. confidence: (T,), mean score of the hand points."""
    spans = split_seconds(len(confidence), fps)
    means = _mean_of_seconds(confidence, spans)
    usual = float(np.nanmedian(means)) if np.isfinite(means).any() else 0.0
    if usual < HANDS_MIN_CONFIDENCE:
        return []
    return [
        WeakStretch(
            a / fps, b / fps, "hands", f"the hands are hard to make out: confidence {mean:.2f}, usually {usual:.2f}"
        )
        for (a, b), mean in zip(spans, means, strict=True)
        if mean < HANDS_SHARE * usual
    ]


def weak_jitter(jitter: Mapping[str, np.ndarray], fps: float, frames: int) -> list[WeakStretch]:
    """Find seconds whose points jitter.

    jitter: part ("hands") -> (seconds,), see `point_jitter`, in each second of `frames` frames, pixels of a frame 640
    high; NaN where the part is not visible.
    """
    usual = {
        part: float(np.median(known)) if len(known := values[np.isfinite(values)]) else 0.0
        for part, values in jitter.items()
    }
    found = []
    for i, (a, b) in enumerate(split_seconds(frames, fps)):
        parts = [part for part, values in jitter.items() if values[i] > max(JITTER, 2 * usual[part])]
        if parts:
            most = max(parts, key=lambda part: jitter[part][i])
            words = (
                f"shaking from frame to frame ({', '.join(parts)}): up to {jitter[most][i]:.1f} pixels of a frame "
                f"640 high, usually {usual[most]:.1f}"
            )
            found.append(WeakStretch(a / fps, b / fps, "jitter", words))
    return found


def weak_motion(changes: np.ndarray, fps: float) -> list[WeakStretch]:
    """Find frozen stretches.

    changes: (T,), mean difference of each frame to the one before, 0..255, the first NaN.
    """
    found, start = [], 0
    same = np.concatenate([changes < SAME_FRAME, [False]])
    for i, still in enumerate(same):
        if not still:
            if i - start >= max(2, round(FROZEN_SECONDS * fps)):
                words = f"the picture stands still: {i - start} frames are like the one before"
                found.append(WeakStretch((start - 1) / fps, i / fps, "frozen", words))
            start = i + 1
    return found


def point_jitter(points: np.ndarray, scores: np.ndarray, visible: float = VISIBLE) -> float:
    """Estimate the jitter of points (n, K, 2) with scores (n, K), in the points' unit.

    It is the standard deviation, on each axis, of white noise on a smooth path; NaN without five successive frames of a
    point scored above `visible`. Noise reverses the acceleration from frame to frame; a gesture, however fast, does
    not. For white noise of variance v the accelerations a of successive frames have E[a(t) a(t+1)] = -4 v on each axis.
    """
    known = (scores > visible) & np.isfinite(points).all(-1)
    if len(points) < 5:
        return math.nan
    path = np.where(known[..., None], points, 0)
    acceleration = path[2:] - 2 * path[1:-1] + path[:-2]
    product = (acceleration[1:] * acceleration[:-1]).sum(-1)
    used = known[3:] & known[2:-1] & known[1:-2] & known[:-3]
    if not used.any():
        return math.nan
    return float(np.sqrt(max(0.0, -product[used].mean() / 8)))


def merge_stretches(found: Sequence[WeakStretch]) -> list[WeakStretch]:
    """Sort stretches by time and join successive ones of one kind, with the words of the first."""
    joined: list[WeakStretch] = []
    for kind in dict.fromkeys(w.kind for w in found):
        run: list[WeakStretch] = []
        for w in sorted((w for w in found if w.kind == kind), key=lambda w: w.start):
            if run and w.start <= run[-1].stop + 1e-6:
                run[-1] = WeakStretch(run[-1].start, w.stop, kind, run[-1].words)
            else:
                run.append(w)
        joined += run
    return sorted(joined, key=lambda w: (w.start, w.kind))


def format_clock(seconds: float) -> str:
    """Write a time as 0:04.2 or 1:02:03.0."""
    whole, tenth = divmod(round(seconds * 10), 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{f'{hours}:{minute:02d}' if hours else minute}:{second:02d}.{tenth}"


def _mean_of_seconds(values: np.ndarray, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.array([np.nanmean(v) if np.isfinite(v := values[a:b]).any() else np.nan for a, b in spans])

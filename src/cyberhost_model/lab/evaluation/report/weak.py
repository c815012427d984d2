"""Weak seconds of a video: where the face is less like the picture, hands are less sure, points shake, or the picture
stands still.

Each second is held against the rest of the same video, so nothing here says that a video is good: an evenly poor one
has no weak seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cyberhost_model.perception.keypoints import VISIBLE

FACE_DROP = 0.1
"""A second's similarity this far below the video's median is weak, or three times the usual spread where that is
more.
"""
HANDS_SHARE = 0.6
"""Of the video's median confidence."""
HANDS_LEAST = 0.2
"""A video whose median confidence is below this shows no hands to speak of: nothing is said of them."""
SHAKE = 3.0
"""Pixels of a frame 640 high, and twice the video's median.

Measured on drawn people: their exact points shake by at most 0.1, what the embedded detector sees of them by 0.2 to 3,
hands it is unsure of by 8.
"""
STILL = 0.05
"""Mean difference (0..255) of a frame to the one before below which both are the same.

Measured: repeated frames at most 0.03 after H.264 (crf 16 to 30), a person at rest at least 0.13.
"""
STILL_SECONDS = 0.4
LOST = 0.25
"""Share of a second's frames without a face."""
_SHORTEST = 0.3  # seconds; a shorter rest belongs to the second before it


@dataclass(frozen=True)
class Weak:
    """A stretch of seconds, why it is weak, and the same in words."""

    start: float
    stop: float
    kind: str
    words: str


def seconds_of(frames: int, fps: float) -> list[tuple[int, int]]:
    """(first, last + 1) frame of every second."""
    count = max(1, round(frames / fps + 0.5 - _SHORTEST))
    edges = [round(i * fps) for i in range(count)] + [frames]
    return [(a, b) for a, b in zip(edges, edges[1:], strict=False) if b > a]


def weak_faces(similarity: np.ndarray, fps: float) -> list[Weak]:
    """similarity (T,): to the reference picture, NaN where no face is found."""
    spans = seconds_of(len(similarity), fps)
    means = _means(similarity, spans)
    known = means[np.isfinite(means)]
    found = [
        Weak(a / fps, b / fps, "no face", f"no face is found in {lost} of {b - a} frames")
        for a, b in spans
        if (lost := int(np.isnan(similarity[a:b]).sum())) >= LOST * (b - a)
    ]
    if len(known):
        usual = float(np.median(known))
        drop = max(FACE_DROP, 3 * 1.4826 * float(np.median(np.abs(known - usual))))
        found += [
            Weak(
                a / fps,
                b / fps,
                "face",
                f"the face is less like the picture: similarity {mean:.2f}, usually {usual:.2f}",
            )
            for (a, b), mean in zip(spans, means, strict=True)
            if mean < usual - drop
        ]
    return found


def weak_hands(confidence: np.ndarray, fps: float) -> list[Weak]:
    """confidence (T,): mean score of the hand points."""
    spans = seconds_of(len(confidence), fps)
    means = _means(confidence, spans)
    usual = float(np.nanmedian(means)) if np.isfinite(means).any() else 0.0
    if usual < HANDS_LEAST:
        return []
    return [
        Weak(a / fps, b / fps, "hands", f"the hands are hard to make out: confidence {mean:.2f}, usually {usual:.2f}")
        for (a, b), mean in zip(spans, means, strict=True)
        if mean < HANDS_SHARE * usual
    ]


def weak_points(shakes: Mapping[str, np.ndarray], fps: float, frames: int) -> list[Weak]:
    """shakes: part ("hands") -> (seconds,), see `shaking`: its points in each second of `frames` frames, pixels of
    640; NaN where it is not seen.
    """
    usual = {
        part: float(np.median(known)) if len(known := shake[np.isfinite(shake)]) else 0.0
        for part, shake in shakes.items()
    }
    found = []
    for i, (a, b) in enumerate(seconds_of(frames, fps)):
        parts = [part for part, shake in shakes.items() if shake[i] > max(SHAKE, 2 * usual[part])]
        if parts:
            most = max(parts, key=lambda part: shakes[part][i])
            words = (
                f"shaking from frame to frame ({', '.join(parts)}): up to {shakes[most][i]:.1f} pixels of a frame "
                f"640 high, usually {usual[most]:.1f}"
            )
            found.append(Weak(a / fps, b / fps, "jitter", words))
    return found


def weak_motion(changes: np.ndarray, fps: float) -> list[Weak]:
    """changes (T,): mean difference of each frame to the one before, the first NaN."""
    found, start = [], 0
    same = np.concatenate([changes < STILL, [False]])
    for i, still in enumerate(same):
        if not still:
            if i - start >= max(2, round(STILL_SECONDS * fps)):
                found.append(
                    Weak(
                        (start - 1) / fps,
                        i / fps,
                        "frozen",
                        f"the picture stands still: {i - start} frames are like the one before",
                    )
                )
            start = i + 1
    return found


def shaking(points: np.ndarray, scores: np.ndarray, seen: float = VISIBLE) -> float:
    """How far points (n, K, 2) jump about their way, in their own unit: the standard deviation of an axis of white
    noise on a smooth path.

    NaN for fewer than five frames with a point scored above `seen`. Noise turns acceleration round from frame to frame;
    a gesture, however quick, does not. For white noise of variance v the accelerations a of neighbouring frames have
    E[a(t) a(t+1)] = -4 v on each axis.
    """
    there = (scores > seen) & np.isfinite(points).all(-1)
    if len(points) < 5:
        return math.nan
    path = np.where(there[..., None], points, 0)
    bend = path[2:] - 2 * path[1:-1] + path[:-2]
    product = (bend[1:] * bend[:-1]).sum(-1)
    used = there[3:] & there[2:-1] & there[1:-2] & there[:-3]
    if not used.any():
        return math.nan
    return float(np.sqrt(max(0.0, -product[used].mean() / 8)))


def in_order(found: Sequence[Weak]) -> list[Weak]:
    """By time; neighbouring seconds of one kind become one stretch with the words of its first."""
    joined: list[Weak] = []
    for kind in dict.fromkeys(w.kind for w in found):
        run: list[Weak] = []
        for w in sorted((w for w in found if w.kind == kind), key=lambda w: w.start):
            if run and w.start <= run[-1].stop + 1e-6:
                run[-1] = Weak(run[-1].start, w.stop, kind, run[-1].words)
            else:
                run.append(w)
        joined += run
    return sorted(joined, key=lambda w: (w.start, w.kind))


def clock(seconds: float) -> str:
    """0:04.2, 1:02:03.0."""
    whole, tenth = divmod(round(seconds * 10), 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{f'{hours}:{minute:02d}' if hours else minute}:{second:02d}.{tenth}"


def _means(values: np.ndarray, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.array([np.nanmean(v) if np.isfinite(v := values[a:b]).any() else np.nan for a, b in spans])

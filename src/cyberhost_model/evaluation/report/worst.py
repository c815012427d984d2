"""Which videos a reader should look at: the worst of each measure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..results import Results, VideoRow
from .values import measured

ORDINALS = ("worst", "2nd worst", "3rd worst")


def worst_videos(results: Results) -> dict[str, list[str]]:
    """Measure -> the names of its three worst videos, the worst first. Measures no video has by itself are left out."""
    found = {}
    for metric in measured(results):
        sign = 1 if metric.direction == "up" else -1
        known = [(sign * v.values[metric.name].value, v.video) for v in results.videos if metric.name in v.values]
        if ranked := sorted((value, name) for value, name in known if math.isfinite(value)):
            found[metric.name] = [name for _, name in ranked[: len(ORDINALS)]]
    return found


def to_show(worst: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Video -> why it is shown ("worst SSIM"), the one with most reasons first."""
    reasons: dict[str, list[str]] = {}
    for measure, names in worst.items():
        for place, name in enumerate(names):
            reasons.setdefault(name, []).append(f"{ORDINALS[place]} {measure}")
    return dict(sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])))


def moment(video: VideoRow, seconds: float, results: Results) -> float:
    """Where a stretch of `seconds` of a longer video should begin: about its worst frame, by the first measure that has a value a frame."""
    spare = video.frames / video.fps - seconds
    if spare <= 0:
        return 0.0
    for metric in measured(results):
        value = video.values.get(metric.name)
        frames = np.asarray(value.series["frame"], float) if value is not None and "frame" in value.series else np.array([])
        if np.isfinite(frames).any():
            at = np.nanargmin(frames) if metric.direction == "up" else np.nanargmax(frames)
            return float(np.clip((at + 0.5) / len(frames) * (spare + seconds) - seconds / 2, 0, spare))
    return 0.0

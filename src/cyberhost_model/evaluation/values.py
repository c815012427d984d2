"""Features -> values: of every video, and of the set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .extractor import Features
from .frames import Stream
from .library import COUNT, Library, Opened
from .metric import Metric, Role, Sample, SetValue, VideoValue
from .pairing import mismatch
from .registry import Entry
from .results import MetricSummary, Mismatch, VideoRow
from .summaries import over_set, over_videos
from .timing import aligned

ByVideo = dict[str, dict[str, VideoValue]]


def values_of(library: Library, videos: Sequence[Opened], built: Mapping[Entry, Metric], seed: int) -> tuple[ByVideo, dict[str, MetricSummary]]:
    """Video -> measure -> value, and the summary of every measure."""
    by_video: ByVideo = {video.item.name: {} for video in videos}
    summaries: dict[str, MetricSummary] = {}
    for entry, metric in built.items():
        if hasattr(metric, "of_set"):
            samples = [s for s in (_sample(library, video, metric) for video in videos) if isinstance(s, Sample)]
            found: dict[str, SetValue] = metric.of_set(samples, seed)
            share = len(samples) / len(videos)
            summaries |= {m.name: over_set(m, metric, found[m.name], share, len(videos)) for m in entry.measures}
            continue
        for video in videos:
            by_video[video.item.name] |= _of_video(library, video, metric, entry)
        for measure in entry.measures:
            column = [by_video[video.item.name][measure.name] for video in videos]
            summaries[measure.name] = over_videos(measure, metric, column, [video.item.identity for video in videos], seed)
    return by_video, summaries


def rows_of(library: Library, videos: Sequence[Opened], by_video: ByVideo) -> tuple[VideoRow, ...]:
    """A row for each video."""
    rows = []
    for video in videos:
        frames, width, height = _counts(library, video, "generated")
        paths = video.item.paths
        rows.append(VideoRow(video.item.name, video.item.identity, str(paths.generated), str(paths.reference) if paths.reference else None,
                             frames, float(video.generated.fps), width, height, by_video[video.item.name]))  # fmt: skip
    return tuple(rows)


def differences(library: Library, videos: Sequence[Opened]) -> list[Mismatch]:
    """What does not fit between a video and its ground truth, and files that hold less than they promise."""
    told = []
    for video in videos:
        name, (frames, *size) = video.item.name, _counts(library, video, "generated")
        told += _short(name, video.generated, frames)
        if video.reference is None:
            continue
        true, *true_size = _counts(library, video, "reference")
        told += _short(name, video.reference, true)
        fps, true_fps = float(video.generated.fps), float(video.reference.fps)
        if fps != true_fps:
            told.append(mismatch(name, "fps", f"{fps:g} frames a second, ground truth {true_fps:g}"))
        if len(aligned(frames, fps, true, true_fps)) < frames or len(aligned(true, true_fps, frames, fps)) < true:
            told.append(mismatch(name, "frames", f"{frames} frames, ground truth {true}"))
        if size != true_size:
            told.append(mismatch(name, "size", f"{size[0]}x{size[1]}, ground truth {true_size[0]}x{true_size[1]}"))
    return told


def _short(name: str, stream: Stream, frames: int) -> list[Mismatch]:
    if stream.variable or frames >= stream.packets:
        return []
    return [mismatch(name, "broken", f"{stream.path}: {frames} of {stream.packets} frames can be decoded")]


def _of_video(library: Library, video: Opened, metric: Any, entry: Entry) -> dict[str, VideoValue]:
    sample = _sample(library, video, metric)
    if isinstance(sample, Sample):
        found: dict[str, VideoValue] = metric.of_video(sample)
        return found
    return {measure.name: VideoValue(math.nan, 0.0, reason=sample) for measure in entry.measures}


def _sample(library: Library, video: Opened, metric: Metric) -> Sample | str:
    """What the metric is given of a video, or why it is not."""
    features: dict[Role, Features] = {}
    for role, extractor in metric.needs.items():
        found = library.get(video, role, extractor)
        if found is None:
            what = {"image": "reference picture"}.get(role, "ground truth")
            return video.reasons.get((role, extractor.digest), f"it has no {what}")
        features[role] = found
    frames, _, height = _counts(library, video, "generated")
    heights: dict[Role, int] = {"generated": height}
    pairs = None
    if video.reference is not None:
        true, _, heights["reference"] = _counts(library, video, "reference")
        pairs = aligned(frames, float(video.generated.fps), true, float(video.reference.fps))
    return Sample(video.item.name, video.item.identity, frames, float(video.generated.fps), features, pairs, heights)


def _counts(library: Library, video: Opened, role: Role) -> tuple[int, int, int]:
    """Frames, width, height."""
    found = library.get(video, role, COUNT)
    assert found is not None
    return int(found["frames"]), int(found["width"]), int(found["height"])

"""Values of videos and of sets -> one summary a measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cyberhost_model.lab.evaluation.bootstrap import mean_interval
from cyberhost_model.lab.evaluation.features.extractor import Features
from cyberhost_model.lab.evaluation.features.frames import Stream, aligned
from cyberhost_model.lab.evaluation.features.library import COUNT, Library, Opened
from cyberhost_model.lab.evaluation.metric import Measure, Metric, Role, Sample, SetValue, VideoValue
from cyberhost_model.lab.evaluation.pairing import mismatch
from cyberhost_model.lab.evaluation.registry import Entry
from cyberhost_model.lab.evaluation.results import MetricSummary, Mismatch, VideoRow

# Features -> values: of every video, and of the set.


ByVideo = dict[str, dict[str, VideoValue]]


def values_of(
    library: Library, videos: Sequence[Opened], built: Mapping[Entry, Metric], seed: int
) -> tuple[ByVideo, dict[str, MetricSummary]]:
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
            summaries[measure.name] = over_videos(
                measure, metric, column, [video.item.identity for video in videos], seed
            )
    return by_video, summaries


def rows_of(library: Library, videos: Sequence[Opened], by_video: ByVideo) -> tuple[VideoRow, ...]:
    """A row for each video."""
    rows = []
    for video in videos:
        frames, width, height = _counts(library, video, "generated")
        paths = video.item.paths
        rows.append(
            VideoRow(
                video.item.name,
                video.item.identity,
                str(paths.generated),
                str(paths.reference) if paths.reference else None,
                frames,
                float(video.generated.fps),
                width,
                height,
                by_video[video.item.name],
            )
        )
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


def skipped(measure: Measure, protocol: str, reason: str, metric: Metric | None = None) -> MetricSummary:
    """A measure without a value, and why."""
    weights = dict(metric.weights) if metric else {}
    return MetricSummary(
        measure.name,
        "skipped",
        None,
        None,
        0,
        0.0,
        measure.direction,
        measure.unit,
        measure.decimals,
        protocol,
        weights,
        metric.licence if metric else "",
        " ".join(reason.split()),
    )


def over_videos(
    measure: Measure, metric: Metric, values: Sequence[VideoValue], identities: Sequence[str], seed: int
) -> MetricSummary:
    """The mean over the videos that have a value; skipped where none has, with the first reason."""
    numbers = np.array([v.value for v in values], float)
    there = np.isfinite(numbers)
    if not there.any():
        reasons = sorted({v.reason for v in values if v.reason}) or ["no video has a value"]
        return skipped(measure, metric.protocol, reasons[0], metric)
    interval = mean_interval(numbers, identities, seed)
    coverage = float(np.mean([v.coverage if ok else 0.0 for v, ok in zip(values, there, strict=True)]))
    return MetricSummary(
        measure.name,
        "ok",
        float(numbers[there].mean()),
        interval,
        int(there.sum()),
        coverage,
        measure.direction,
        measure.unit,
        measure.decimals,
        metric.protocol,
        dict(metric.weights),
        metric.licence,
        extras=_mean_extras(values),
    )


def over_set(measure: Measure, metric: Metric, value: SetValue, share: float, videos: int) -> MetricSummary:
    """The set's value; `share` of the `videos` could be given to the metric at all."""
    coverage = share * value.coverage
    if not math.isfinite(value.value):
        return skipped(measure, metric.protocol, value.reason, metric)
    return MetricSummary(
        measure.name,
        "ok",
        value.value,
        None,
        round(coverage * videos),
        coverage,
        measure.direction,
        measure.unit,
        measure.decimals,
        metric.protocol,
        dict(metric.weights),
        metric.licence,
        extras=dict(value.extras),
    )


def _mean_extras(values: Sequence[VideoValue]) -> Mapping[str, Any]:
    names = dict.fromkeys(name for v in values for name in v.extras)
    columns = {
        name: [v.extras[name] for v in values if name in v.extras and math.isfinite(v.extras[name])] for name in names
    }
    return {name: float(np.mean(column)) for name, column in columns.items() if column}

"""Turn features into values of videos and of sets, and values into one summary for each measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cyberhost_model.lab.evaluation.bootstrap import mean_interval
from cyberhost_model.lab.evaluation.features.alignment import match_frames
from cyberhost_model.lab.evaluation.features.extractor import Features
from cyberhost_model.lab.evaluation.features.library import FRAME_COUNT, FeatureLibrary, OpenedVideo
from cyberhost_model.lab.evaluation.metric import (
    Measure,
    Metric,
    Role,
    Sample,
    SetMetric,
    SetValue,
    VideoMetric,
    VideoValue,
    is_set_metric,
    is_video_metric,
)
from cyberhost_model.lab.evaluation.pairing import make_mismatch
from cyberhost_model.lab.evaluation.registry import MetricEntry
from cyberhost_model.lab.evaluation.results import MetricSummary, Mismatch, VideoRow
from cyberhost_model.media.video_reader import VideoStream

ValuesByVideo = dict[str, dict[str, VideoValue]]
"""Video -> measure -> value."""


def compute_values(
    library: FeatureLibrary,
    videos: Sequence[OpenedVideo],
    metrics: Mapping[MetricEntry, VideoMetric | SetMetric],
    seed: int,
) -> tuple[ValuesByVideo, dict[str, MetricSummary]]:
    """Run the metrics: the values of every video, and the summary of every measure by its name."""
    values: ValuesByVideo = {video.item.name: {} for video in videos}
    summaries: dict[str, MetricSummary] = {}
    for entry, metric in metrics.items():
        if is_video_metric(metric):
            for video in videos:
                values[video.item.name] |= _measure_video(library, video, entry, metric)
        if is_set_metric(metric):
            summaries |= _measure_set(library, videos, entry, metric, seed)
            continue
        for measure in entry.measures:
            column = [values[video.item.name][measure.name] for video in videos]
            identities = [video.item.identity for video in videos]
            summaries[measure.name] = summarise_videos(measure, metric, column, identities, seed)
    return values, summaries


def video_rows(library: FeatureLibrary, videos: Sequence[OpenedVideo], values: ValuesByVideo) -> tuple[VideoRow, ...]:
    """Return the row of each video: its files, its frames and its values."""
    rows = []
    for video in videos:
        frames, width, height = _frame_count(library, video, "generated")
        paths = video.item.paths
        rows.append(
            VideoRow(
                video=video.item.name,
                identity=video.item.identity,
                generated=str(paths.generated),
                ground_truth=str(paths.ground_truth) if paths.ground_truth else None,
                frames=frames,
                fps=float(video.generated.fps),
                width=width,
                height=height,
                values=values[video.item.name],
            )
        )
    return tuple(rows)


def find_mismatches(library: FeatureLibrary, videos: Sequence[OpenedVideo]) -> list[Mismatch]:
    """Find what differs between videos and their ground truth, and files that hold fewer frames than packets."""
    mismatches = []
    for video in videos:
        name, (frames, *size) = video.item.name, _frame_count(library, video, "generated")
        mismatches += _missing_frames(name, video.generated, frames)
        if video.ground_truth is None:
            continue
        true, *true_size = _frame_count(library, video, "ground_truth")
        mismatches += _missing_frames(name, video.ground_truth, true)
        fps, true_fps = float(video.generated.fps), float(video.ground_truth.fps)
        if fps != true_fps:
            mismatches.append(make_mismatch(name, "fps", f"{fps:g} frames a second, ground truth {true_fps:g}"))
        matched, true_matched = match_frames(frames, fps, true, true_fps), match_frames(true, true_fps, frames, fps)
        if len(matched) < frames or len(true_matched) < true:
            mismatches.append(make_mismatch(name, "frames", f"{frames} frames, ground truth {true}"))
        if size != true_size:
            detail = f"{size[0]}x{size[1]}, ground truth {true_size[0]}x{true_size[1]}"
            mismatches.append(make_mismatch(name, "size", detail))
    return mismatches


def _missing_frames(name: str, stream: VideoStream, frames: int) -> list[Mismatch]:
    if stream.variable or frames >= stream.packets:
        return []
    return [make_mismatch(name, "broken", f"{stream.path}: {frames} of {stream.packets} frames can be decoded")]


def _measure_set(
    library: FeatureLibrary, videos: Sequence[OpenedVideo], entry: MetricEntry, metric: SetMetric, seed: int
) -> dict[str, MetricSummary]:
    samples = [s for s in (_sample(library, video, metric) for video in videos) if isinstance(s, Sample)]
    values = metric.measure_set(samples, seed)
    share = len(samples) / len(videos)
    return {m.name: summarise_set(m, metric, values[m.name], share, len(videos)) for m in entry.measures}


def _measure_video(
    library: FeatureLibrary, video: OpenedVideo, entry: MetricEntry, metric: VideoMetric
) -> dict[str, VideoValue]:
    sample = _sample(library, video, metric)
    if isinstance(sample, Sample):
        return metric.measure_video(sample)
    return {measure.name: VideoValue(math.nan, 0.0, reason=sample) for measure in entry.measures}


def _sample(library: FeatureLibrary, video: OpenedVideo, metric: Metric) -> Sample | str:
    """Return what the metric reads of a video, or the reason why it cannot."""
    features: dict[Role, Features] = {}
    for role, extractor in metric.needs.items():
        found = library.get(video, role, extractor)
        if found is None:
            missing = {"image": "reference picture", "sound": "sound"}.get(role, "ground truth")
            return video.reasons.get((role, extractor.digest), f"it has no {missing}")
        features[role] = found
    frames, fps = _frame_count(library, video, "generated")[0], float(video.generated.fps)
    pairs = None
    if video.ground_truth is not None:
        true, _, _ = _frame_count(library, video, "ground_truth")
        pairs = match_frames(frames, fps, true, float(video.ground_truth.fps))
    return Sample(video.item.name, video.item.identity, frames, fps, features, pairs)


def _frame_count(library: FeatureLibrary, video: OpenedVideo, role: Role) -> tuple[int, int, int]:
    """Return the number of frames, their width and their height."""
    found = library.get(video, role, FRAME_COUNT)
    assert found is not None
    return int(found["frames"]), int(found["width"]), int(found["height"])


def skipped_summary(measure: Measure, protocol: str, reason: str, metric: Metric | None = None) -> MetricSummary:
    """Return the summary of a measure without a value."""
    return MetricSummary(
        name=measure.name,
        status="skipped",
        value=None,
        ci95=None,
        n=0,
        coverage=0.0,
        direction=measure.direction,
        unit=measure.unit,
        decimals=measure.decimals,
        protocol=protocol,
        weights=dict(metric.weights) if metric else {},
        licence=metric.licence if metric else "",
        reason=" ".join(reason.split()),
    )


def summarise_videos(
    measure: Measure, metric: Metric, values: Sequence[VideoValue], identities: Sequence[str], seed: int
) -> MetricSummary:
    """Average a measure over the videos that have a value; skip it where none has, with the first reason."""
    numbers = np.array([v.value for v in values], float)
    finite = np.isfinite(numbers)
    if not finite.any():
        reasons = sorted({v.reason for v in values if v.reason}) or ["no video has a value"]
        return skipped_summary(measure, metric.protocol, reasons[0], metric)
    coverage = float(np.mean([v.coverage if ok else 0.0 for v, ok in zip(values, finite, strict=True)]))
    interval = mean_interval(numbers, identities, seed)
    extras = _mean_extras(values)
    return _measured_summary(
        measure, metric, float(numbers[finite].mean()), interval, int(finite.sum()), coverage, extras
    )


def summarise_set(measure: Measure, metric: Metric, value: SetValue, share: float, videos: int) -> MetricSummary:
    """Summarise the value of a set of `videos`, of which the metric could read this share."""
    coverage = share * value.coverage
    if not math.isfinite(value.value):
        return skipped_summary(measure, metric.protocol, value.reason, metric)
    return _measured_summary(measure, metric, value.value, None, round(coverage * videos), coverage, dict(value.extras))


def _measured_summary(
    measure: Measure,
    metric: Metric,
    value: float,
    interval: tuple[float, float] | None,
    n: int,
    coverage: float,
    extras: Mapping[str, Any],
) -> MetricSummary:
    return MetricSummary(
        name=measure.name,
        status="ok",
        value=value,
        ci95=interval,
        n=n,
        coverage=coverage,
        direction=measure.direction,
        unit=measure.unit,
        decimals=measure.decimals,
        protocol=metric.protocol,
        weights=dict(metric.weights),
        licence=metric.licence,
        extras=extras,
    )


def _mean_extras(values: Sequence[VideoValue]) -> Mapping[str, Any]:
    names = dict.fromkeys(name for v in values for name in v.extras)
    columns = {
        name: [v.extras[name] for v in values if name in v.extras and math.isfinite(v.extras[name])] for name in names
    }
    return {name: float(np.mean(column)) for name, column in columns.items() if column}

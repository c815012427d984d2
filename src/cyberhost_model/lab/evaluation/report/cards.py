"""Gather what a page shows of one video: its players, its values, its charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cyberhost_model.lab.evaluation.metric import VideoValue
from cyberhost_model.lab.evaluation.report.charts import Chart, Line, layout_chart, thin_out
from cyberhost_model.lab.evaluation.report.clip_copies import ClipCopies
from cyberhost_model.lab.evaluation.report.players import Player, make_player
from cyberhost_model.lab.evaluation.report.selection import by_protocol, measured, worst_moment
from cyberhost_model.lab.evaluation.report.wording import format_count, format_number, measure_header
from cyberhost_model.lab.evaluation.results import Evaluation, MetricSummary, Results, VideoRow

ValuesByProtocol = list[tuple[str, list[tuple[MetricSummary, VideoValue]]]]
"""(protocol, its measures and the video's values)."""


@dataclass(frozen=True)
class VideoCard:
    """Hold what the report shows of one of the worst videos. reasons: why it is shown."""

    video: str
    fps: float
    details: list[str]
    reasons: list[str]
    players: list[Player]
    values: ValuesByProtocol
    charts: list[Chart]


def make_card(evaluation: Evaluation, row: VideoRow, reasons: list[str], copies: ClipCopies) -> VideoCard:
    """Gather ground truth and generated video side by side, about the worst moment, with values and charts."""
    results = evaluation.results
    start = worst_moment(row, copies.seconds, results)
    players = []
    if evaluation.paths[row.video].ground_truth is not None:
        players.append(make_player(evaluation, row.video, "ground_truth", "Ground truth", start, copies, muted=True))
    players.append(make_player(evaluation, row.video, "generated", "Generated", start, copies))
    length = row.frames / row.fps
    details = [format_count(row.frames, "frame"), f"{length:.1f} s", f"{row.width}x{row.height}"]
    if row.identity != row.video:
        details.insert(0, row.identity)
    if length > copies.seconds + 0.5 / row.fps:
        details.append(f"shown: {start:.1f} to {start + copies.seconds:.1f} s")
    return VideoCard(
        row.video, row.fps, details, reasons, players, video_values(results, row), video_charts(results, row)
    )


def video_values(results: Results, row: VideoRow) -> ValuesByProtocol:
    """Return the values of a video by protocol."""
    groups = by_protocol(m for m in measured(results) if m.name in row.values)
    return [(protocol, [(m, row.values[m.name]) for m in metrics]) for protocol, metrics in groups.items()]


def video_charts(results: Results, row: VideoRow) -> list[Chart]:
    """Return the sync curve and the measures that have a value for each frame, each once."""
    charts: list[Chart | None] = []
    length = row.frames / row.fps
    for metric in measured(results):
        value = row.values.get(metric.name)
        series: Mapping[str, np.ndarray] = value.series if value is not None else {}
        if "shift" in series and "distance" in series:
            charts.append(_sync_chart(np.asarray(series["shift"], float), np.asarray(series["distance"], float)))
        if "frame" in series and np.isfinite(series["frame"]).any():
            charts.append(_frame_chart(metric, np.asarray(series["frame"], float), length))
    return list(dict.fromkeys(chart for chart in charts if chart is not None))


def _sync_chart(shift: np.ndarray, distance: np.ndarray) -> Chart | None:
    """Draw the distance of lips and sound over the shift of the sound."""
    if not np.isfinite(distance).any():
        return None
    best = int(np.nanargmin(distance))
    at = format_number(shift[best], 0, sign=True) if shift[best] else "no"
    unit = "frame" if abs(round(float(shift[best]))) == 1 else "frames"
    words = f"Lowest, {distance[best]:.2f}, at a shift of {at} {unit}; median {np.nanmedian(distance):.2f}."
    line = Line(shift, distance)
    return layout_chart("Lips and sound", [line], "shift of the sound, frames", words, mark=float(shift[best]))


def _frame_chart(metric: MetricSummary, frames: np.ndarray, length: float) -> Chart | None:
    """Draw a measure over the `length` seconds of a video."""
    places, values = thin_out(frames, metric.direction)
    worst = int(np.nanargmin(values) if metric.direction == "up" else np.nanargmax(values))
    words = f"Worst, {format_number(float(values[worst]), metric.decimals)}, at {places[worst] * length:.1f} s."
    return layout_chart(measure_header(metric), [Line(places * length, values)], "seconds", words)

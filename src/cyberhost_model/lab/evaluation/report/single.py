"""Report on one video without a ground truth: what can be measured of it, and which of its seconds are weak."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import Features
from cyberhost_model.lab.evaluation.features.people import PARTS, in_pixels
from cyberhost_model.lab.evaluation.report.cards import video_charts, video_values
from cyberhost_model.lab.evaluation.report.clip_copies import ClipCopies
from cyberhost_model.lab.evaluation.report.html import render
from cyberhost_model.lab.evaluation.report.page import PAGE
from cyberhost_model.lab.evaluation.report.players import find_keypoints, make_player
from cyberhost_model.lab.evaluation.report.weak import (
    WeakStretch,
    format_clock,
    merge_stretches,
    point_jitter,
    split_seconds,
    weak_faces,
    weak_hands,
    weak_jitter,
    weak_motion,
)
from cyberhost_model.lab.evaluation.report.wording import provenance_lines
from cyberhost_model.lab.evaluation.results import Evaluation, VideoRow, check_folder, write_results, write_text
from cyberhost_model.lab.evaluation.run import evaluate
from cyberhost_model.media.files import check_parent, check_target
from cyberhost_model.media.video_reader import probe_video, read_frames

SINGLE_VIDEO_METRICS = ("CSIM", "SyncC", "SyncD", "HKC", "HKV")
COPY_SECONDS = 60.0
_LEAD = 1.0  # seconds before a weak stretch from which it is played


@dataclass(frozen=True)
class SingleReport:
    """Hold the page that was written, the weak stretches in order of time, and the measures behind them."""

    page: Path
    weak: tuple[WeakStretch, ...]
    evaluation: Evaluation

    @property
    def lines(self) -> list[str]:
        """Each weak stretch as a line of text."""
        return [f"{format_clock(w.start)} to {format_clock(w.stop)}: {w.words}" for w in self.weak]

    @property
    def values(self) -> list[dict[str, str | float]]:
        """The weak stretches as JSON has them: start and stop in seconds, kind, words."""
        return [asdict(w) for w in self.weak]


@dataclass(frozen=True)
class ListedStretch(WeakStretch):
    """Describe a weak stretch on the page. play_from: the second its button plays from, None without a button."""

    play_from: float | None = None


def report_video(
    video: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    audio: str | os.PathLike[str] | None = None,
    picture: str | os.PathLike[str] | None = None,
    networks: Literal["public", "embedded"] = "embedded",
    weights_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    cache: str | os.PathLike[str] | None = None,
    device: str = "auto",
    seed: int = 0,
    overwrite: bool = False,
    command: str = "",
    progress: Callable[[int, int, str], None] | None = None,
) -> SingleReport:
    """Measure a video without a ground truth and write a page.

    out: the page (.html), or a folder that gets report.html, summary.json and per_video.csv. picture: of the person,
    for CSIM. audio: the speech, by default the video's own sound. The other arguments are those of `run.evaluate`; by
    default nothing is downloaded, and a measure without its weights on this machine is skipped with the reason. Raises
    OutputError before any work, and what `run.evaluate` raises.
    """
    page = check_page(out, overwrite)
    evaluation = evaluate(
        video,
        images=picture,
        audio=audio,
        metrics=SINGLE_VIDEO_METRICS,
        networks=networks,
        weights_dir=weights_dir,
        download=download,
        cache=cache,
        device=device,
        seed=seed,
        command=command,
        progress=progress,
    )
    weak = weak_stretches(evaluation)
    if page != Path(out):
        check_folder(page.parent)
        write_results(evaluation.results, page.parent)
    write_text(page, single_page(evaluation, weak), overwrite)
    return SingleReport(page, tuple(weak), evaluation)


def check_page(out: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Return the page of a report to `out`: `out` itself where it ends in .html, else report.html in that folder.

    The folder may exist, or its name has no suffix. Nothing is made. Raises OutputError where the page cannot be
    written.
    """
    out = Path(out)
    if out.is_dir():
        return check_target(out / PAGE, (".html",), overwrite)
    if out.suffix or out.exists():
        return check_target(out, (".html",), overwrite)
    check_parent(out)
    return out / PAGE


def weak_stretches(evaluation: Evaluation) -> list[WeakStretch]:
    """Find the weak seconds of the one video of a run."""
    (row,) = evaluation.results.videos
    found = weak_motion(frame_changes(evaluation.paths[row.video].generated), row.fps)
    if (similarity := _frame_series(row, "CSIM")) is not None:
        found += weak_faces(similarity, len(similarity) / row.frames * row.fps)
    if (confidence := _frame_series(row, "HKC")) is not None:
        found += weak_hands(confidence, len(confidence) / row.frames * row.fps)
    if (keypoints := find_keypoints(evaluation, row.video, "generated")) is not None:
        found += weak_jitter(jitter_of_parts(keypoints, row.fps), row.fps, len(keypoints["scores"]))
    return merge_stretches(found)


def _frame_series(row: VideoRow, measure: str) -> np.ndarray | None:
    value = row.values.get(measure)
    series = value.series.get("frame") if value is not None else None
    return None if series is None or not len(series) else np.asarray(series, float)


def frame_changes(video: Path) -> np.ndarray:
    """Return the mean difference of each frame to the one before, (T,), 0..255; the first is NaN."""
    out, last = [], None
    for batch in read_frames(probe_video(video)):
        for frame in batch[:, ::2, ::2].astype(np.int16):
            out.append(np.nan if last is None else float(np.abs(frame - last).mean()))
            last = frame
    return np.array(out)


def jitter_of_parts(features: Features, fps: float) -> dict[str, np.ndarray]:
    """Return the jitter of each part of the body in each second, pixels of a frame 640 high."""
    spans = split_seconds(len(features["scores"]), fps)
    out = {part: np.full(len(spans), np.nan) for part in PARTS}
    for i, (a, b) in enumerate(spans):
        points = in_pixels(np.asarray(features["points"][a:b]), features["size"])
        scores = np.asarray(features["scores"][a:b])
        for part, place in PARTS.items():
            out[part][i] = point_jitter(points[:, place], scores[:, place])
    return out


def single_page(evaluation: Evaluation, weak: list[WeakStretch]) -> str:
    """Return the page as HTML."""
    (row,) = evaluation.results.videos
    player = make_player(evaluation, row.video, "generated", "Generated", 0.0, ClipCopies(seconds=COPY_SECONDS))
    length = row.frames / row.fps
    return render(
        "single.html.j2",
        with_players=True,
        row=row,
        counts={
            "seconds": f"{length:.1f}",
            "frames": f"{row.frames:,}",
            "frames a second": f"{row.fps:g}",
            "size": f"{row.width}x{row.height}",
            "weak stretches": str(len(weak)),
        },
        players=[player],
        shortened=f"A small copy of the first {COPY_SECONDS:g} s." if length > COPY_SECONDS + 1 / row.fps else "",
        weak=[_listed(stretch, playable=bool(player.copy.data)) for stretch in weak],
        drawings=video_charts(evaluation.results, row),
        values_by_protocol=video_values(evaluation.results, row),
        metrics=evaluation.results.metrics,
        provenance=provenance_lines(evaluation.results),
    )


def _listed(stretch: WeakStretch, playable: bool) -> ListedStretch:
    play_from = max(0.0, stretch.start - _LEAD) if playable and stretch.start < COPY_SECONDS else None
    return ListedStretch(stretch.start, stretch.stop, stretch.kind, stretch.words, play_from)

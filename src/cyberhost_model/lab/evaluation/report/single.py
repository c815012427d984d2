"""A report on one video without a ground truth: what can be measured of it, and which of its seconds are weak."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import Features
from cyberhost_model.lab.evaluation.features.frames import probe, read_frames
from cyberhost_model.lab.evaluation.features.people import PARTS, in_pixels
from cyberhost_model.lab.evaluation.report.cards import Player, curves, skeleton, skeleton_canvas, stage, values
from cyberhost_model.lab.evaluation.report.films import Films
from cyberhost_model.lab.evaluation.report.markup import note, pairs, script, section, skipped, style, text
from cyberhost_model.lab.evaluation.report.text import provenance
from cyberhost_model.lab.evaluation.report.weak import (
    Weak,
    clock,
    in_order,
    seconds_of,
    shaking,
    weak_faces,
    weak_hands,
    weak_motion,
    weak_points,
)
from cyberhost_model.lab.evaluation.report.write import PAGE, write_text
from cyberhost_model.lab.evaluation.results import Evaluation, VideoRow, check_folder, write_results
from cyberhost_model.lab.evaluation.run import evaluate
from cyberhost_model.media.files import check_parent, check_target
from cyberhost_model.media.html import document, facts

METRICS = ("CSIM", "SyncC", "SyncD", "HKC", "HKV")
FILM_SECONDS = 60.0
_MARGIN = 1.0  # seconds a jump begins before a weak stretch


@dataclass(frozen=True)
class SingleReport:
    """The page, the weak stretches in order of time, and the measures behind them.

    `lines`: each weak stretch as a line.
    """

    page: Path
    weak: tuple[Weak, ...]
    evaluation: Evaluation

    @property
    def lines(self) -> list[str]:
        return [f"{clock(w.start)} to {clock(w.stop)}: {w.words}" for w in self.weak]

    @property
    def values(self) -> list[dict[str, str | float]]:
        """The weak stretches as JSON has them: start and stop in seconds, kind, words."""
        return [asdict(w) for w in self.weak]


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
    """Measure a video by what needs no ground truth and write the page `out` (.html); in a folder `out` report.html,
    summary.json, per_video.csv.

    picture: of the person, for CSIM; audio: what is spoken, by default the video's own sound. The other arguments: see
    `run.evaluate`; by default nothing is fetched, so a measure whose weights are not on this machine is told as
    skipped. Raises OutputError before any work, and what `run.evaluate` raises.
    """
    page = check_page(out, overwrite)
    evaluation = evaluate(
        video,
        images=picture,
        audio=audio,
        metrics=METRICS,
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
    write_text(page, single_page(evaluation, weak))
    return SingleReport(page, tuple(weak), evaluation)


def check_page(out: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """The page that a report to `out` has: a name that ends in .html itself, report.html in a folder (one that is
    there, or a name without an ending). Nothing is made. Raises OutputError where it cannot be written.
    """
    out = Path(out)
    if out.is_dir():
        return check_target(out / PAGE, (".html",), overwrite)
    if out.suffix or out.exists():
        return check_target(out, (".html",), overwrite)
    check_parent(out)
    return out / PAGE


def weak_stretches(evaluation: Evaluation) -> list[Weak]:
    """The weak seconds of the one video of a run."""
    (row,) = evaluation.results.videos
    found = weak_motion(changes(evaluation.paths[row.video].generated), row.fps)
    if (similarity := _by_frame(row, "CSIM")) is not None:
        found += weak_faces(similarity, len(similarity) / row.frames * row.fps)
    if (confidence := _by_frame(row, "HKC")) is not None:
        found += weak_hands(confidence, len(confidence) / row.frames * row.fps)
    if (points := skeleton(evaluation, row.video, "generated")) is not None:
        found += weak_points(shaking_parts(points, row.fps), row.fps, len(points["scores"]))
    return in_order(found)


def _by_frame(row: VideoRow, measure: str) -> np.ndarray | None:
    value = row.values.get(measure)
    series = value.series.get("frame") if value is not None else None
    return None if series is None or not len(series) else np.asarray(series, float)


def changes(video: Path) -> np.ndarray:
    """(T,): mean difference of each frame to the one before, 0..255; the first is NaN."""
    out, last = [], None
    for batch in read_frames(probe(video)):
        for frame in batch[:, ::2, ::2].astype(np.int16):
            out.append(np.nan if last is None else float(np.abs(frame - last).mean()))
            last = frame
    return np.array(out)


def shaking_parts(features: Features, fps: float) -> dict[str, np.ndarray]:
    """Part -> how far its points shake in each second, pixels of a frame 640 high."""
    spans = seconds_of(len(features["scores"]), fps)
    out = {part: np.full(len(spans), np.nan) for part in PARTS}
    for i, (a, b) in enumerate(spans):
        points, scores = (
            in_pixels(np.asarray(features["points"][a:b]), features["size"]),
            np.asarray(features["scores"][a:b]),
        )
        for part, place in PARTS.items():
            out[part][i] = shaking(points[:, place], scores[:, place])
    return out


def single_page(evaluation: Evaluation, weak: list[Weak]) -> str:
    """The page as HTML."""
    (row,) = evaluation.results.videos
    films = Films(seconds=FILM_SECONDS)
    film = films.make(evaluation.paths[row.video].generated)
    players = [Player("Generated", film, skeleton_canvas(evaluation, row.video, "generated", 0.0, films))]
    length = row.frames / row.fps
    capped = note(f"A small copy of the first {FILM_SECONDS:g} s.") if length > FILM_SECONDS + 1 / row.fps else ""
    shown = {
        "seconds": f"{length:.1f}",
        "frames": f"{row.frames:,}",
        "frames a second": f"{row.fps:g}",
        "size": f"{row.width}x{row.height}",
    }
    body = (
        f'<header><h1>{text(row.video)}</h1><p class="where">{text(str(row.generated))}</p></header><main data-card>'
        + facts({**shown, "weak stretches": str(len(weak))})
        + section(
            "weak",
            "Weak seconds",
            "<div "
            f'class="inside"><div>{stage(players, row.video, row.fps)}{capped}</div><div>{_weak(weak, bool(film.data))}</div></div>',
        )
        + section(
            "curves", "Over time", f'<div class="charts">{lines}</div>' if (lines := curves(evaluation, row)) else ""
        )
        + section("values", "Values", values(evaluation, row))
        + section("skipped", "Not measured", skipped(evaluation.results))
        + section(
            "provenance",
            "Where the numbers come from",
            pairs({k: text(v) for k, v in provenance(evaluation.results).items()}),
        )
        + "</main>"
    )
    return document(f"{row.video}: report", body, style(), script())


def _weak(weak: list[Weak], playable: bool) -> str:
    items = []
    for w in weak:
        at = max(0.0, w.start - _MARGIN)
        play = f'<button type="button" data-jump="{at:.2f}" aria-label="{text(f"Play from {clock(at)}")}">Play</button>'
        span = f"<b>{clock(w.start)} to {clock(w.stop)}, {text(w.kind)}</b>"
        items.append(
            f"<li>{play if playable and w.start < FILM_SECONDS else ''}<span>{span}<br>{text(w.words)}</span></li>"
        )
    found = f'<ol class="weak">{"".join(items)}</ol>' if items else note("None was found.")
    return found + note(
        "Each second is held against the rest of the same video: an evenly poor video has no weak seconds. Hands, "
        "faces and shaking are as the "
        "detector sees them, and some of it may be the detector's own."
    )

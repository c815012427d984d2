"""A video on the page: ground truth and generated side by side, its skeletons, its values, its curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import Features
from cyberhost_model.lab.evaluation.features.frames import probe
from cyberhost_model.lab.evaluation.metric import Role
from cyberhost_model.lab.evaluation.report.charts import Line, chart, thin
from cyberhost_model.lab.evaluation.report.films import Film, Films
from cyberhost_model.lab.evaluation.report.markup import table, text
from cyberhost_model.lab.evaluation.report.overlay import EXTRACTORS, drawn
from cyberhost_model.lab.evaluation.report.text import counted, header, listed, percent, shown
from cyberhost_model.lab.evaluation.report.values import by_protocol, measured, moment
from cyberhost_model.lab.evaluation.results import Evaluation, VideoRow
from cyberhost_model.media.html import data_uri

# Key points packed for the page's script, which draws them over the films.


@dataclass(frozen=True)
class Player:
    """One film and how it is announced. `muted`: of two voices one is heard."""

    title: str
    film: Film
    overlay: str = ""
    muted: bool = False


def card(evaluation: Evaluation, row: VideoRow, number: int, reasons: list[str], films: Films) -> str:
    """The article on one video; `reasons`: why it is shown."""
    paths = evaluation.paths[row.video]
    start = moment(row, films.seconds, evaluation.results)
    players = []
    if paths.reference is not None:
        players.append(
            Player(
                "Ground truth",
                films.make(paths.reference, start),
                skeleton_canvas(evaluation, row.video, "reference", start, films),
                True,
            )
        )
    players.append(
        Player(
            "Generated",
            films.make(paths.generated, start),
            skeleton_canvas(evaluation, row.video, "generated", start, films),
        )
    )
    length = row.frames / row.fps
    words = [
        f"{row.identity}" if row.identity != row.video else "",
        counted(row.frames, "frame"),
        f"{length:.1f} s",
        f"{row.width}x{row.height}",
    ]
    if length > films.seconds + 0.5 / row.fps:
        words.append(f"shown: {start:.1f} to {start + films.seconds:.1f} s")
    tags = "".join(f"<li>{text(reason)}</li>" for reason in reasons)
    return (
        f'<article class="card" id="clip-{number}" data-card aria-labelledby="clip-{number}-title">'
        f'<h3 id="clip-{number}-title">{text(row.video)}</h3><p '
        f'class="of">{text(" · ".join(w for w in words if w))}</p>'
        f'<ul class="tags" aria-label="Why it is shown">{tags}</ul>'
        f'<div class="inside"><div>{stage(players, row.video, row.fps)}</div><div>{values(evaluation, row)}</div></div>'
        f'<div class="charts">{curves(evaluation, row)}</div></article>'
    )


def skeleton(evaluation: Evaluation, video: str, role: Role) -> Features | None:
    """Key points of a video, where an extractor made them."""
    return next((found for name in EXTRACTORS if (found := evaluation.features(video, role, name)) is not None), None)


def skeleton_canvas(evaluation: Evaluation, video: str, role: Role, start: float, films: Films) -> str:
    """The canvas over a film, where key points were measured."""
    features, path = skeleton(evaluation, video, role), getattr(evaluation.paths[video], role)
    return "" if features is None else drawn(features, float(probe(path).fps), start, films.seconds)


def stage(players: list[Player], name: str, fps: float) -> str:
    """Players side by side with the keys that move them together; an arrow key on the slider is a frame.

    The browser's own keys would lie over the hands.
    """
    playable = [p for p in players if p.film.data]
    keys = ""
    if playable:
        keys = f'<button type="button" data-play>{"Play both" if len(playable) > 1 else "Play"}</button>'
        keys += (
            f'<input type="range" data-seek min="0" max="1" value="0" step="{1 / fps:.6g}" '
            f'aria-label="{text(f"Moment of {name}")}"><output data-at>0.0 s</output>'
        )
    if any(p.overlay for p in playable):
        keys += '<label><input type="checkbox" data-skeleton checked> Skeleton</label>'
    figures = "".join(_player(p, name) for p in players)
    return f'<div class="films">{figures}</div><div class="keys">{keys}</div>'


def _player(player: Player, name: str) -> str:
    if not player.film.data:
        inside = f'<div class="absent">{text(player.film.reason)}</div>'
    else:
        muted = " muted" if player.muted else ""
        inside = (
            f'<div class="stage"><video playsinline preload="auto"{muted} '
            f'aria-label="{text(f"{player.title}: {name}")}" '
            f'src="{data_uri("video/mp4", player.film.data)}"></video>{player.overlay}</div>'
            '<p class="absent" data-broken hidden>This browser cannot play the clip (H.264).</p>'
        )
    return f"<figure>{inside}<figcaption>{text(player.title)}{' (muted)' if player.muted and player.film.data else ''}</figcaption></figure>"


def values(evaluation: Evaluation, row: VideoRow) -> str:
    """What was measured of the video: a table a protocol."""
    out = []
    for protocol, metrics in by_protocol(m for m in measured(evaluation.results) if m.name in row.values).items():
        rows = []
        for metric in metrics:
            value = row.values[metric.name]
            words = "; ".join(w for w in (listed(value.extras), value.reason) if w)
            rows.append(
                [text(header(metric)), shown(value.value, metric.decimals), percent(value.coverage), text(words)]
            )
        inside = table(
            f"Values of {row.video} by {protocol}",
            ["Measure", "Value", "Coverage", "Also"],
            rows,
            words=(3,),
            look="values",
        )
        out.append(f'<p class="of"><code>{text(protocol)}</code></p>{inside}')
    return "".join(out)


def curves(evaluation: Evaluation, row: VideoRow) -> str:
    """The sync curve and the measures that have a value a frame."""
    out, length = [], row.frames / row.fps
    for metric in measured(evaluation.results):
        value = row.values.get(metric.name)
        series = value.series if value is not None else {}
        if "shift" in series and "distance" in series:
            out.append(sync_curve(np.asarray(series["shift"], float), np.asarray(series["distance"], float)))
        if "frame" in series and np.isfinite(series["frame"]).any():
            out.append(
                frame_curve(
                    header(metric), np.asarray(series["frame"], float), length, metric.direction, metric.decimals
                )
            )
    return "".join(dict.fromkeys(out))


def sync_curve(shift: np.ndarray, distance: np.ndarray) -> str:
    """Distance between lips and sound over how far the sound is moved."""
    if not np.isfinite(distance).any():
        return ""
    at = int(np.nanargmin(distance))
    frames = counted(abs(round(float(shift[at]))), "frame")
    words = (
        f"Lowest, {distance[at]:.2f}, at a shift of {shown(shift[at], 0, sign=True) if shift[at] else 'no'} "
        f"{frames.split()[-1]}; median {np.nanmedian(distance):.2f}."
    )
    return chart(
        "Lips and sound",
        [Line("distance", shift, distance)],
        "shift of the sound, frames",
        words,
        mark=float(shift[at]),
    )


def frame_curve(title: str, frames: np.ndarray, length: float, direction: str, decimals: int) -> str:
    """A measure over time."""
    places, values = thin(frames, direction)
    at = int(np.nanargmin(values) if direction == "up" else np.nanargmax(values))
    words = f"Worst, {shown(float(values[at]), decimals)}, at {places[at] * length:.1f} s."
    return chart(title, [Line(title, places * length, values)], "seconds", words)

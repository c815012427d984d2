"""Write a dataset as one HTML page: sample clips with their key points drawn, the histograms, the rejections.

It has no script and fetches nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cyberhost_model.conditions.pose_maps import skeleton_map
from cyberhost_model.errors import InputError, OutputError
from cyberhost_model.lab.filmed.inspection import TITLES, describe_reason, format_hours
from cyberhost_model.lab.filmed.labels import read_labels, unpack_points
from cyberhost_model.lab.filmed.manifest import Row
from cyberhost_model.lab.filmed.source import UnusableVideo, frames_at_rate, open_video, to_rgb
from cyberhost_model.media.files import written_whole
from cyberhost_model.media.html import jpeg, render_page

_TEMPLATES = Path(__file__).with_name("templates")
_MOMENTS = (0.1, 0.5, 0.9)  # of a clip's length
_PICTURE_HEIGHT = 300  # pixels of a picture in the page
_FACE, _HANDS, _THORAX = (255, 210, 60), (90, 220, 255), (255, 90, 200)  # RGB
_WIDTH, _BAR_HEIGHT = 360, 90  # of a histogram, in units of its drawing
_MAX_SIZES = 6  # sizes of clips that are counted at the top


@dataclass(frozen=True)
class SampleClip:
    """Hold a sample clip: JPEGs of a few frames, its title and its figures."""

    pictures: list[bytes]
    title: str
    figures: str


@dataclass(frozen=True)
class Bar:
    """Hold a bar of a histogram, in units of its drawing."""

    x: str
    y: float
    width: str
    height: float


@dataclass(frozen=True)
class Label:
    """Hold a number in a histogram, centred at x."""

    x: str
    y: float
    text: str


@dataclass(frozen=True)
class Histogram:
    """Hold a laid out histogram. unknown: clips without the figure."""

    title: str
    bars: list[Bar]
    labels: list[Label]
    unknown: int
    width: int = _WIDTH
    height: int = _BAR_HEIGHT + 36


def write_page(dataset: Path, rows: Sequence[Row], summary: dict[str, Any], out: Path, samples: int) -> Path:
    """Write the page of a dataset to `out`, with so many sample clips; summary: see `inspection.summarise`.

    Raises InputError when a sample clip is missing or damaged, OutputError when `out` cannot be written.
    """
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise OutputError(f"{out}: give the name of a file in a folder that exists, for example page.html")
    chosen = evenly_spaced([row for row in rows if row.accepted], samples)
    page = render_page(
        _TEMPLATES / "dataset.html.j2",
        [_TEMPLATES / "dataset.css"],
        name=dataset.absolute().name,
        path=dataset.absolute(),
        counts=_counts(summary),
        clips=[_sample_clip(dataset, row) for row in chosen],
        histograms=[_layout_histogram(TITLES[name], data) for name, data in summary["histograms"].items()],
        rejections=_rejections(summary),
    )
    with written_whole(out) as part:
        part.write_text(page, encoding="utf-8")
    return out


def evenly_spaced(rows: Sequence[Row], count: int) -> list[Row]:
    """Choose `count` rows evenly from all of them, so that every part of the dataset is seen; the same each time."""
    if len(rows) <= count:
        return list(rows)
    return [rows[i] for i in np.linspace(0, len(rows) - 1, count).round().astype(int)]


def _counts(summary: dict[str, Any]) -> dict[str, Any]:
    clips, hours = summary["clips"], summary["hours"]
    counts = {
        "clips accepted": clips["accepted"],
        "accepted": format_hours(hours["accepted"]),
        "identities": summary["identities"],
        "sources": summary["sources"],
        "clips rejected": clips["rejected"],
        "rejected": format_hours(hours["rejected"]),
    }
    counts |= {f"clips {name.replace('_', ' ')}": split["clips"] for name, split in summary["splits"].items()}
    return counts | {f"clips of {size}": n for size, n in list(summary["sizes"].items())[:_MAX_SIZES]}


def _sample_clip(dataset: Path, row: Row) -> SampleClip:
    figures = {
        "clarity": row.clarity,
        "movement": row.movement,
        "speech": row.speech_share,
        "a hand": row.hands_share,
        "left hand": row.left_hand_share,
        "right hand": row.right_hand_share,
        "lips": row.lip_correlation,
    }
    numbers = ", ".join(f"{name} {value:.2f}" for name, value in figures.items() if value is not None)
    where = f"{os.path.basename(row.source)} at {row.start:.2f} s" if row.start is not None else row.source
    title = f"{row.clip} · {where} · {row.seconds:.1f} s, {row.width}x{row.height}, {row.split}"
    return SampleClip(_pictures(dataset, row), title, numbers)


def _pictures(dataset: Path, row: Row) -> list[bytes]:
    """Return JPEGs of a few frames with their key points and boxes drawn over them."""
    assert row.video is not None and row.labels is not None
    labels = read_labels(dataset / row.labels)
    count = len(labels["body"])
    wanted = sorted({min(count - 1, int(m * count)) for m in _MOMENTS})
    pictures = []
    try:
        with open_video(dataset / row.video) as video:
            for i, shown in enumerate(frames_at_rate(video.frames(), 0.0, count, row.fps)):
                if i in wanted:
                    drawn = draw_labels(to_rgb(shown.frame), labels, i, row.thorax_range)
                    pictures.append(jpeg(drawn, _PICTURE_HEIGHT))
    except UnusableVideo as unusable:
        raise InputError(f"{dataset / row.video}: {unusable.detail}; prepare the dataset again") from None
    return pictures


def draw_labels(
    picture_u8: np.ndarray, labels: dict[str, np.ndarray], frame: int, thorax_range: Sequence[float] | None = None
) -> np.ndarray:
    """Draw the skeleton, the boxes of face and hands, and the clip's thorax range over a frame uint8 (H, W, 3)."""
    h, w = picture_u8.shape[:2]
    skeleton = skeleton_map(unpack_points(labels, frame), (w, h)).transpose(1, 2, 0)
    opaque = skeleton.max(-1, keepdims=True) * 0.85
    out = np.ascontiguousarray((picture_u8 * (1 - opaque) + 255 * skeleton * 0.85).clip(0, 255).astype(np.uint8))
    thick = max(1, round(min(w, h) / 200))
    for box, colour in ((labels["face_box"][frame], _FACE), *((b, _HANDS) for b in labels["hand_boxes"][frame])):
        if np.isfinite(box).all():
            x0, y0, x1, y1 = np.round(box).astype(int).tolist()
            cv2.rectangle(out, (x0, y0), (x1, y1), colour, thick, cv2.LINE_AA)
    if thorax_range is not None:
        x0, y0, x1, y1 = np.round(np.array(thorax_range) * [w, h, w, h]).astype(int).tolist()
        cv2.rectangle(out, (x0, y0), (x1, y1), _THORAX, thick, cv2.LINE_AA)
    return out


def _layout_histogram(title: str, data: dict[str, Any]) -> Histogram:
    counts, edges = data["counts"], data["edges"]
    most, width = max([*counts, 1]), _WIDTH / len(counts)
    bars, labels = [], []
    for i, n in enumerate(counts):
        height = round(_BAR_HEIGHT * n / most, 1)
        bars.append(Bar(f"{i * width + 1:.1f}", _BAR_HEIGHT + 14 - height, f"{width - 2:.1f}", height))
        if n:
            labels.append(Label(f"{(i + 0.5) * width:.1f}", _BAR_HEIGHT + 10 - height, str(n)))
    for i, edge in enumerate(edges):
        labels.append(Label(f"{min(max(i * width, 8), _WIDTH - 8):.1f}", _BAR_HEIGHT + 30, f"{edge:g}"))
    return Histogram(title, bars, labels, data["unknown"])


def _rejections(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"reason": name, "clips": r["clips"], "time": format_hours(r["hours"]), "meaning": describe_reason(name)}
        for name, r in summary["reasons"].items()
    ]

"""A dataset as one HTML page: sample clips with their key points drawn, the histograms, what was rejected.

No script, nothing fetched.
"""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cyberhost_model.conditions.pose_maps import skeleton_map
from cyberhost_model.errors import InputError, OutputError
from cyberhost_model.lab.filmed.inspection import TITLES, length, meaning
from cyberhost_model.lab.filmed.labels import read_labels, unpack_points
from cyberhost_model.lab.filmed.manifest import Row
from cyberhost_model.lab.filmed.source import Unusable, on_grid, open_video, rgb
from cyberhost_model.media.files import written_whole
from cyberhost_model.media.html import data_uri, document, facts, jpeg

_MOMENTS = (0.1, 0.5, 0.9)  # of a clip's length
_HEIGHT = 300  # pixels of a picture in the page
_FACE, _HANDS, _THORAX = (255, 210, 60), (90, 220, 255), (255, 90, 200)
_STYLE = """
.hists{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(22rem,100%),1fr));gap:.75rem;margin:1rem 0}
.clips{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(34rem,100%),1fr));gap:1rem}
figure .row{display:flex;gap:4px}figure img{max-width:calc((100% - 8px)/3);max-height:240px;display:block}rect{fill:var(--accent)}
"""


def write_page(dataset: Path, rows: Sequence[Row], summary: dict[str, Any], out: Path, samples: int) -> Path:
    """Write the page to `out`.

    Raises InputError when a sample clip is missing or damaged, OutputError when `out` cannot be written.
    """
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise OutputError(f"{out}: give the name of a file in a folder that exists, for example page.html")
    chosen = spread_out([row for row in rows if row.accepted], samples)
    figures = "".join(_figure(dataset, row) for row in chosen)
    body = f"""<h1>{html.escape(dataset.absolute().name)}</h1><p class="where">{html.escape(str(dataset.absolute()))}</p>
{_facts(summary)}
<h2>Sample clips</h2>
<p>Key points as the pose encoder sees them, boxes of face (yellow) and hands (blue), range of the thorax (magenta).</p>
<div class="clips">{figures or "<p>No clip was accepted.</p>"}</div>
<h2>Figures of the accepted clips</h2><div class="hists">{"".join(_histogram(TITLES[n], d) for n, d in summary["histograms"].items())}</div>
{_rejections(summary)}"""
    text = document(dataset.name, body, _STYLE)
    with written_whole(out) as part:
        part.write_text(text, encoding="utf-8")
    return out


def spread_out(rows: Sequence[Row], count: int) -> list[Row]:
    """`count` rows evenly from all of them, so that every part of the dataset is seen; the same each time."""
    if len(rows) <= count:
        return list(rows)
    return [rows[i] for i in np.linspace(0, len(rows) - 1, count).round().astype(int)]


def _facts(summary: dict[str, Any]) -> str:
    clips, hours = summary["clips"], summary["hours"]
    values = {
        "clips accepted": clips["accepted"],
        "accepted": length(hours["accepted"]),
        "identities": summary["identities"],
        "sources": summary["sources"],
        "clips rejected": clips["rejected"],
        "rejected": length(hours["rejected"]),
    }
    values.update({f"clips {name.replace('_', ' ')}": split["clips"] for name, split in summary["splits"].items()})
    values.update({f"clips of {size}": n for size, n in list(summary["sizes"].items())[:6]})
    return facts({label: str(value) for label, value in values.items()})


def _figure(dataset: Path, row: Row) -> str:
    pictures = "".join(
        f'<img alt="frame with key points" src="{data_uri("image/jpeg", picture)}">'
        for picture in _pictures(dataset, row)
    )
    figures = {
        "clarity": row.clarity,
        "movement": row.movement,
        "speech": row.speech_share,
        "hands": row.hands_share,
        "lips": row.lip_correlation,
    }
    numbers = ", ".join(f"{name} {value:.2f}" for name, value in figures.items() if value is not None)
    where = f"{os.path.basename(row.source)} at {row.start:.2f} s" if row.start is not None else row.source
    words = f"{html.escape(f'{row.clip} · {where} · {row.seconds:.1f} s, {row.width}x{row.height}, {row.split}')}<br>{numbers}"
    return f'<figure><div class="row">{pictures}</div><figcaption>{words}</figcaption></figure>'


def _pictures(dataset: Path, row: Row) -> list[bytes]:
    """JPEGs of a few frames, their key points and boxes drawn over them."""
    assert row.video is not None and row.labels is not None
    labels = read_labels(dataset / row.labels)
    count = len(labels["body"])
    wanted = sorted({min(count - 1, int(m * count)) for m in _MOMENTS})
    made = []
    try:
        with open_video(dataset / row.video) as video:
            for i, shown in enumerate(on_grid(video.frames(), 0.0, count, row.fps)):
                if i in wanted:
                    made.append(jpeg(draw_labels(rgb(shown.frame), labels, i, row.thorax_range), _HEIGHT))
    except Unusable as unusable:
        raise InputError(f"{dataset / row.video}: {unusable.detail}; prepare the dataset again") from None
    return made


def draw_labels(
    picture_u8: np.ndarray, labels: dict[str, np.ndarray], frame: int, thorax_range: Sequence[float] | None = None
) -> np.ndarray:
    """A frame uint8 (H, W, 3) with its skeleton, the face's and the hands' boxes and the clip's thorax range drawn
    over it.
    """
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


def _histogram(title: str, data: dict[str, Any]) -> str:
    counts, edges = data["counts"], data["edges"]
    most, width, tall = max([*counts, 1]), 360 / len(counts), 90
    bars = []
    for i, n in enumerate(counts):
        high = round(tall * n / most, 1)
        bars.append(f'<rect x="{i * width + 1:.1f}" y="{tall + 14 - high}" width="{width - 2:.1f}" height="{high}"/>')
        if n:
            bars.append(f'<text x="{(i + 0.5) * width:.1f}" y="{tall + 10 - high}" text-anchor="middle">{n}</text>')
    marks = "".join(
        f'<text x="{min(max(i * width, 8), 352):.1f}" y="{tall + 30}" text-anchor="middle">{e:g}</text>'
        for i, e in enumerate(edges)
    )
    unknown = f"; {data['unknown']} not known" if data["unknown"] else ""
    drawing = (
        f'<svg viewBox="0 0 360 {tall + 36}" width="100%" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(bars)}{marks}</svg>'
    )
    return f"<figure>{drawing}<figcaption>{html.escape(title)}{unknown}</figcaption></figure>"


def _rejections(summary: dict[str, Any]) -> str:
    if not summary["reasons"]:
        return ""
    lines = "".join(
        f'<tr><td><code>{html.escape(name)}</code></td><td class="n">{r["clips"]}</td><td '
        f'class="n">{length(r["hours"])}</td>'
        f"<td>{html.escape(meaning(name))}</td></tr>"
        for name, r in summary["reasons"].items()
    )
    head = '<tr><th>reason</th><th class="n">stretches</th><th class="n">time</th><th>what it means</th></tr>'
    return f"<h2>Rejected</h2><table>{head}{lines}</table>"

"""Line charts as SVG, readable without colour: each has a caption, the lines differ in dashes, and the words say what
the picture says.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_WIDTH, _TALL, _LEFT, _TOP, _BOTTOM = 360, 110, 40, 10, 30
_MOST = 240  # points of a line


@dataclass(frozen=True)
class Line:
    """y over x; NaN breaks it. `look`: "main", "other" or "dots"."""

    label: str
    x: np.ndarray
    y: np.ndarray
    look: str = "main"


def chart(
    title: str, lines: Sequence[Line], x_label: str, words: str, mark: float | None = None, floor: float | None = None
) -> str:
    """A figure.

    `words`: what it shows, for those who do not see it and as its caption. mark: an x to point at. floor: a y to draw
    a line at.
    """
    known = np.concatenate(
        [line.y[np.isfinite(line.y)] for line in lines] + [np.array([] if floor is None else [floor])]
    )
    if not len(known):
        return ""
    xs = np.concatenate([line.x for line in lines])
    (x0, x1), (y0, y1) = _range(xs.min(), xs.max()), _range(known.min(), known.max())
    right, bottom = _WIDTH - 8, _TOP + _TALL

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - x0) / (x1 - x0) * (right - _LEFT), bottom - (y - y0) / (y1 - y0) * _TALL

    parts = [f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>']
    for y in _ticks(y0, y1, 4):
        parts.append(f'<text x="{_LEFT - 4}" y="{place(x0, y)[1] + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in _ticks(x0, x1, 6):
        parts.append(f'<text x="{place(x, y0)[0]:.1f}" y="{bottom + 13}" text-anchor="middle">{x:g}</text>')
    parts.append(
        f'<text x="{(_LEFT + right) / 2}" y="{bottom + 28}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    if floor is not None:
        parts.append(f'<path class="floor" d="M{_LEFT} {place(x0, floor)[1]:.1f}H{right}"/>')
    if mark is not None:
        parts.append(f'<path class="mark" d="M{place(mark, y0)[0]:.1f} {_TOP}V{bottom}"/>')
    for line in lines:
        points = [
            place(x, y) if math.isfinite(y) else None for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True)
        ]
        if line.look == "dots":
            parts += [f'<circle class="dots" cx="{p[0]:.1f}" cy="{p[1]:.1f}" r="3.5"/>' for p in points if p]
        else:
            parts.append(f'<path class="{line.look}" d="{_path(points)}"/>')
    drawing = (
        f'<svg viewBox="0 0 {_WIDTH} {bottom + 34}" role="img" '
        f'aria-label="{html.escape(f"{title}. {words}")}">{"".join(parts)}</svg>'
    )
    return (
        f'<figure class="chart">{drawing}<figcaption><b>{html.escape(title)}</b> '
        f"{html.escape(words)}</figcaption></figure>"
    )


def thin(values: np.ndarray, direction: str) -> tuple[np.ndarray, np.ndarray]:
    """(places 0..1 of the whole, values): no more points than can be seen, each the worst of its stretch, NaN where
    all of it is.
    """
    values = np.asarray(values, float)
    edges = np.linspace(0, len(values), min(len(values), _MOST) + 1).round().astype(int)
    worst = np.fmin if direction == "up" else np.fmax
    kept = worst.reduceat(values, edges[:-1])
    return (edges[:-1] + 0.5) / len(values), kept


def _range(low: float, high: float) -> tuple[float, float]:
    low, high = float(low), float(high)
    spare = (high - low) * 0.05 or max(abs(high) * 0.05, 0.5)
    return low - spare, high + spare


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two, at most `most` + 1."""
    rough = (high - low) / most
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    out, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        out.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
        pen = "L"
    return "".join(out)

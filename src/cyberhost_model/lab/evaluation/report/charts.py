"""Lay out line charts for the pages, readable without colour.

Each has a caption, its lines differ in dashes, and its words say what the drawing shows. The template macro `chart`
turns a `Chart` into SVG.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_WIDTH, _HEIGHT, _LEFT, _TOP = 360, 110, 40, 10  # of the plot and its margins, in units of the drawing
_RIGHT, _BOTTOM = _WIDTH - 8, _TOP + _HEIGHT
_MAX_POINTS = 240  # of a line

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Hold the points of a line; NaN in y breaks it. look: CSS class, "main" or "other", or "dots" for no line."""

    x: np.ndarray
    y: np.ndarray
    look: str = "main"


@dataclass(frozen=True)
class Label:
    """Hold a text of the drawing. anchor: of the text at x, "end" or "middle"."""

    x: str
    y: str
    anchor: str
    text: str


@dataclass(frozen=True)
class DrawnPath:
    """Hold a path of the drawing. look: its CSS class. d: its SVG path data."""

    look: str
    d: str


@dataclass(frozen=True)
class Chart:
    """Hold a laid out chart, in units of the drawing. words: what it shows, as its caption and for screen readers."""

    title: str
    words: str
    labels: tuple[Label, ...]
    paths: tuple[DrawnPath, ...]
    dots: tuple[tuple[str, str], ...]
    width: int = _WIDTH
    height: int = _BOTTOM + 34


@dataclass(frozen=True)
class _Axes:
    """Map values to units of the drawing."""

    x: Point
    y: Point

    def place(self, x: float, y: float) -> Point:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return _LEFT + across * (_RIGHT - _LEFT), _BOTTOM - up * _HEIGHT


def layout_chart(
    title: str, lines: Sequence[Line], x_label: str, words: str, mark: float | None = None, floor: float | None = None
) -> Chart | None:
    """Lay out a chart; None where no value is finite.

    mark: an x to draw a vertical line at. floor: a y to draw a horizontal line at.
    """
    floors = np.array([] if floor is None else [floor])
    known = np.concatenate([*(line.y[np.isfinite(line.y)] for line in lines), floors])
    if not len(known):
        return None
    xs = np.concatenate([line.x for line in lines])
    axes = _Axes(_padded_range(xs.min(), xs.max()), _padded_range(known.min(), known.max()))
    paths = [DrawnPath("axis", f"M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}")]
    if floor is not None:
        paths.append(DrawnPath("floor", f"M{_LEFT} {axes.place(axes.x[0], floor)[1]:.1f}H{_RIGHT}"))
    if mark is not None:
        paths.append(DrawnPath("mark", f"M{axes.place(mark, axes.y[0])[0]:.1f} {_TOP}V{_BOTTOM}"))
    dots = []
    for line in lines:
        values = zip(line.x.tolist(), line.y.tolist(), strict=True)
        points = [axes.place(x, y) if math.isfinite(y) else None for x, y in values]
        if line.look == "dots":
            dots += [(f"{point[0]:.1f}", f"{point[1]:.1f}") for point in points if point]
        else:
            paths.append(DrawnPath(line.look, _path_data(points)))
    return Chart(title, words, _labels(axes, x_label), tuple(paths), tuple(dots))


def _labels(axes: _Axes, x_label: str) -> tuple[Label, ...]:
    """Return the numbers on both axes, and the name of the horizontal one."""
    (x0, x1), (y0, y1) = axes.x, axes.y
    labels = [Label(f"{_LEFT - 4}", f"{axes.place(x0, y)[1] + 4:.1f}", "end", f"{y:g}") for y in _ticks(y0, y1, 4)]
    labels += [Label(f"{axes.place(x, y0)[0]:.1f}", f"{_BOTTOM + 13}", "middle", f"{x:g}") for x in _ticks(x0, x1, 6)]
    return (*labels, Label(f"{(_LEFT + _RIGHT) / 2}", f"{_BOTTOM + 28}", "middle", x_label))


def thin_out(values: np.ndarray, direction: str) -> tuple[np.ndarray, np.ndarray]:
    """Reduce values to the points of a line, each the worst of its stretch, NaN where the whole stretch is.

    direction: which is better, "up" or "down". Returns (places 0..1 of the whole, values).
    """
    values = np.asarray(values, float)
    edges = np.linspace(0, len(values), min(len(values), _MAX_POINTS) + 1).round().astype(int)
    worst = np.fmin if direction == "up" else np.fmax
    return (edges[:-1] + 0.5) / len(values), worst.reduceat(values, edges[:-1])


def _padded_range(low: float, high: float) -> Point:
    low, high = float(low), float(high)
    spare = (high - low) * 0.05 or max(abs(high) * 0.05, 0.5)
    return low - spare, high + spare


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers between two, at most `most` + 1."""
    rough = (high - low) / most
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _path_data(points: Sequence[Point | None]) -> str:
    out, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        out.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
        pen = "L"
    return "".join(out)

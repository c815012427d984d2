"""How numbers are written, the same in Markdown and HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..metric import Measure
from ..results import MetricSummary

ARROWS = {"up": "↑", "down": "↓"}
NONE = "–"
READING = (
    "The arrow says which direction is better. N: videos with a value. Coverage: share of all frames the value rests on. Intervals: bootstrap over "
    "people, all videos of a person together; FID and FVD have none, because resampled sets are biased. HKV rises with jitter too: read it with HKC."
)
"""What stands below a table of results."""


def header(measure: Measure | MetricSummary) -> str:
    """A measure as the head of a column: its name, the better direction, its unit."""
    return f"{measure.name} {ARROWS[measure.direction]}{f' ({measure.unit})' if measure.unit else ''}"


def shown(value: float | None, decimals: int, sign: bool = False) -> str:
    """A number, or a dash where there is none; `sign`: with + or a proper minus."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:{'+' if sign else ''}.{decimals}f}".replace("-", "−")


def interval(pair: tuple[float, float] | None, decimals: int, sign: bool = False) -> str:
    """"low to high", or a dash."""
    return f"{shown(pair[0], decimals, sign)} to {shown(pair[1], decimals, sign)}" if pair else NONE


def percent(share: float) -> str:
    """A share 0..1. What is not everything is not rounded up to it."""
    if not math.isfinite(share):
        return NONE
    return f"{math.floor(share * 1000) / 10:g}%" if share > 0.99 else f"{share:.0%}"


def span(shares: Iterable[float]) -> str:
    """One share, or the lowest and the highest of several."""
    known = [s for s in shares if math.isfinite(s)]
    low, high = (percent(min(known)), percent(max(known))) if known else (NONE, NONE)
    return low if low == high else f"{low} to {high}"


def counted(n: int, one: str, many: str = "") -> str:
    """"1 video", "2 videos"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(extras: Mapping[str, Any]) -> str:
    """The further numbers of a value: "face rate 0.98, n frames 3,000"."""
    numbers = {k: v for k, v in extras.items() if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and k != "limit"}
    return ", ".join(f"{k.replace('_', ' ')} " + (f"{v:,.0f}" if v == round(v) else f"{v:.3g}").replace("-", "−") for k, v in numbers.items())

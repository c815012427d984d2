"""What every report tells beside its values, as text: where they come from, what did not fit, what the paper
printed.
"""

from __future__ import annotations

import csv
import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cyberhost_model.lab.evaluation.metric import Measure
from cyberhost_model.lab.evaluation.registry import MODULES
from cyberhost_model.lab.evaluation.results import MetricSummary, Results

# How numbers are written, the same in Markdown and HTML.


ARROWS = {"up": "↑", "down": "↓"}
NONE = "–"
READING = (
    "The arrow says which direction is better. N: videos with a value. Coverage: share of all frames the value rests "
    "on. Intervals: bootstrap over "
    "people, all videos of a person together; FID and FVD have none, because resampled sets are biased. HKV rises "
    "with jitter too: read it with HKC."
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
    """ "low to high", or a dash."""
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
    """ "1 video", "2 videos"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(extras: Mapping[str, Any]) -> str:
    """The further numbers of a value: "face rate 0.98, n frames 3,000"."""
    numbers = {
        k: v
        for k, v in extras.items()
        if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and k != "limit"
    }
    return ", ".join(
        f"{k.replace('_', ' ')} " + (f"{v:,.0f}" if v == round(v) else f"{v:.3g}").replace("-", "−")
        for k, v in numbers.items()
    )


# Markdown tables.


_ESCAPED = str.maketrans({c: f"\\{c}" for c in "\\|`*_[]<>#"} | {"\n": " ", "\r": " "})


def plain(text: str) -> str:
    """Text that is shown as it is, a file name for example."""
    return text.translate(_ESCAPED)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns are text, the others numbers; cells are Markdown without line breaks."""
    marks = [":---" if i < left else "---:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)) + "\n"


_DIRECTIONS = {m.name: m.direction for entry in MODULES for m in entry.measures}


def provenance(results: Results) -> dict[str, str]:
    """Label -> words, without those that are empty. The command is not among them."""
    p = results.provenance
    lines = {
        "Made": p.created,
        "Device": p.device,
        "Seed": str(p.seed),
        "Measured": f"{counted(p.videos, 'video')}, {counted(p.frames, 'frame')} in {p.seconds:,.1f} s",
        "Versions": ", ".join(f"{name} {version}" for name, version in p.versions.items()),
        "Settings": "; ".join(
            f"{name.replace('_', ' ')}: {_words(value)}" for name, value in p.settings.items() if value
        ),
    }
    return {label: words for label, words in lines.items() if words}


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def mismatch_kinds(results: Results) -> list[list[str]]:
    """Kind, how many there are, what was done about them."""
    return [[kind, str(n), rule] for (kind, rule), n in Counter((m.kind, m.rule) for m in results.mismatches).items()]


def published_tables() -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Name of a table of the paper, its measures, its rows: method and values."""
    for name, rows in published().items():
        metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
        yield (
            name,
            [f"{m} {ARROWS[_DIRECTIONS[m]]}" for m in metrics],
            [[row, *(values.get(m, NONE) for m in metrics)] for row, values in rows.items()],
        )


UNLIKE = "Other videos, other weights, definitions not given: not to be compared with the values above."
"""What stands over the paper's values."""


# What the paper printed (arXiv 2409.01876, Tables 1 to 3). Another protocol on other videos: it never shares a column
# with ours.

LABEL = "published, other protocol"


FULL_MODEL = "CyberHost (A2V-B)"
"""The row of Table 1 the "w/o" rows are to be read against."""


_FILE = Path(__file__).with_name("published.tsv")


Rows = Mapping[str, Mapping[str, str]]
"""Row -> metric -> the figure as printed, without those that are not."""


@functools.cache
def published() -> Mapping[str, Rows]:
    """Table -> its rows, in the paper's order."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    with _FILE.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            row = tables.setdefault(line["table"], {}).setdefault(line["row"], {})
            if line["value"] != "NA":
                row[line["metric"]] = line["value"]
    return tables

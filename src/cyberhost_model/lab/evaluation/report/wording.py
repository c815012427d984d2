"""Write numbers, provenance, mismatches and the paper's values as text, the same in Markdown and HTML.

The paper's values (arXiv 2409.01876, Tables 1 to 3) follow another protocol on other videos: they never share a column
with ours.
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
from cyberhost_model.lab.evaluation.registry import find_measure
from cyberhost_model.lab.evaluation.results import MetricSummary, Results

ARROWS = {"up": "↑", "down": "↓"}
DASH = "–"
RESULTS_NOTE = (
    "The arrow says which direction is better. N: videos with a value. Coverage: share of all frames the value rests "
    "on. Intervals: bootstrap over "
    "people, all videos of a person together; FID, KID and FVD have none, because resampled sets are biased, nor have "
    "Closure and Opening, which pool all videos. HKV rises with jitter too: read it with HKC."
)
"""The note below a table of results."""
PUBLISHED_NOTE = "Other videos, other weights, definitions not given: not to be compared with the values above."
"""The note above the paper's values."""
PUBLISHED_LABEL = "published, other protocol"
FULL_MODEL = "CyberHost (A2V-B)"
"""The row of Table 1 that the "w/o" rows compare with."""

PublishedRows = Mapping[str, Mapping[str, str]]
"""Row -> measure -> the figure as printed; without figures that were not printed."""


def measure_header(measure: Measure | MetricSummary) -> str:
    """Head a column with a measure: its name, the better direction, its unit."""
    return f"{measure.name} {ARROWS[measure.direction]}{f' ({measure.unit})' if measure.unit else ''}"


def format_number(value: float | None, decimals: int, sign: bool = False) -> str:
    """Write a number, or a dash where there is none. sign: with + or a proper minus."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:{'+' if sign else ''}.{decimals}f}".replace("-", "−")


def format_interval(pair: tuple[float, float] | None, decimals: int, sign: bool = False) -> str:
    """Write an interval as "low to high", or a dash."""
    return f"{format_number(pair[0], decimals, sign)} to {format_number(pair[1], decimals, sign)}" if pair else DASH


def with_caution(words: str, caution: str) -> str:
    """Write a caution in brackets behind the words it is about, nothing without one."""
    return f"{words} ({caution})" if caution else words


def format_share(share: float) -> str:
    """Write a share 0..1 as a percentage. Less than everything is never rounded up to 100%."""
    if not math.isfinite(share):
        return DASH
    return f"{math.floor(share * 1000) / 10:g}%" if share > 0.99 else f"{share:.0%}"


def format_share_range(shares: Iterable[float]) -> str:
    """Write one share, or the lowest and the highest of several."""
    known = [s for s in shares if math.isfinite(s)]
    low, high = (format_share(min(known)), format_share(max(known))) if known else (DASH, DASH)
    return low if low == high else f"{low} to {high}"


def format_count(n: int, one: str, many: str = "") -> str:
    """Write a number with its noun: "1 video", "2 videos"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def format_extras(extras: Mapping[str, Any]) -> str:
    """Write the further numbers of a value: "face rate 0.98, n frames 3,000"."""
    numbers = {
        k: v
        for k, v in extras.items()
        if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and k != "limit"
    }
    return ", ".join(
        f"{k.replace('_', ' ')} " + (f"{v:,.0f}" if v == round(v) else f"{v:.3g}").replace("-", "−")
        for k, v in numbers.items()
    )


_ESCAPED = str.maketrans({c: f"\\{c}" for c in "\\|`*_[]<>#"} | {"\n": " ", "\r": " "})


def escape_markdown(text: str) -> str:
    """Escape text, a file name for example, so that Markdown shows it as it is."""
    return text.translate(_ESCAPED)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Write a table whose first `left` columns are text, the others numbers; cells are Markdown without line breaks."""
    marks = [":---" if i < left else "---:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)) + "\n"


def provenance_lines(results: Results) -> dict[str, str]:
    """Return label -> words, without those that are empty. The command is not among them."""
    p = results.provenance
    lines = {
        "Made": p.created,
        "Device": p.device,
        "Seed": str(p.seed),
        "Measured": f"{format_count(p.videos, 'video')}, {format_count(p.frames, 'frame')} in {p.seconds:,.1f} s",
        "Versions": ", ".join(f"{name} {version}" for name, version in p.versions.items()),
        "Settings": "; ".join(
            f"{name.replace('_', ' ')}: {_words(value)}" for name, value in p.settings.items() if value
        ),
    }
    return {label: words for label, words in lines.items() if words}


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def mismatch_kinds(results: Results) -> list[list[str]]:
    """Return the kinds of mismatches: kind, how many there are, what was done about them."""
    return [[kind, str(n), rule] for (kind, rule), n in Counter((m.kind, m.rule) for m in results.mismatches).items()]


def published_tables() -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Yield each table of the paper: its name, its measures, its rows of method and values."""
    for name, rows in published_values().items():
        measures = list(dict.fromkeys(measure for row in rows.values() for measure in row))
        yield (
            name,
            [_with_arrow(name) for name in measures],
            [[row, *(values.get(m, DASH) for m in measures)] for row, values in rows.items()],
        )


def _with_arrow(name: str) -> str:
    measure = find_measure(name)
    return f"{name} {ARROWS[measure.direction]}" if measure else name


@functools.cache
def published_values() -> Mapping[str, PublishedRows]:
    """Return the paper's tables and their rows, in its order."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    with Path(__file__).with_name("published.tsv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            row = tables.setdefault(line["table"], {}).setdefault(line["row"], {})
            if line["value"] != "NA":
                row[line["metric"]] = line["value"]
    return tables

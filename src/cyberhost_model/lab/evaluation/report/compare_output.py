"""Write a comparison as Markdown, CSV, JSON and a page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cyberhost_model.errors import OutputError
from cyberhost_model.lab.evaluation.bootstrap import interval_caution
from cyberhost_model.lab.evaluation.report.compare import Comparison, Difference
from cyberhost_model.lab.evaluation.report.html import render
from cyberhost_model.lab.evaluation.report.selection import by_protocol
from cyberhost_model.lab.evaluation.report.summary import method_tables
from cyberhost_model.lab.evaluation.report.wording import (
    DASH,
    escape_markdown,
    format_interval,
    format_number,
    markdown_table,
    measure_header,
    with_caution,
)
from cyberhost_model.lab.evaluation.results import MetricSummary, write_text

FILES = ("comparison.md", "comparison.csv", "comparison.json", "comparison.html")
_CSV_COLUMNS = (
    "measure",
    "protocol",
    "direction",
    "first",
    "other",
    "mean_first",
    "mean_other",
    "difference",
    "low",
    "high",
    "videos",
    "people",
    "better",
)
_NOTE = (
    "Differences are means over the videos both runs have a value for, with 95% bootstrap intervals over people (all "
    "videos of a person together). Each interval stands for itself: among many, one in twenty misses. FID and FVD "
    "belong to whole sets, so they have no interval here."
)


@dataclass(frozen=True)
class DifferenceRow:
    """Hold a row of a table of differences.

    cells: values, difference, interval and counts as text. bar: low end, middle and high end of the interval on a
    drawing 160 wide whose middle is zero, better to the right; None without an interval.
    """

    metric: MetricSummary
    verdict: str
    cells: list[str]
    bar: tuple[float, float, float] | None


def comparison_text(comparison: Comparison) -> str:
    """Return a comparison as Markdown."""
    first, *others = comparison.runs
    parts = [f"# {' and '.join(escape_markdown(run.name) for run in comparison.runs)}", method_tables(comparison.runs)]
    for run in others:
        parts.append(f"## {escape_markdown(run.name)} against {escape_markdown(first.name)}")
        names = [escape_markdown(first.name), escape_markdown(run.name)]
        head = ["Measure", "Reads as", *names, "Difference", "95% interval", "Videos", "People"]
        for protocol, rows in _difference_tables(comparison, run.name):
            body = [[measure_header(row.metric), escape_markdown(row.verdict), *row.cells] for row in rows]
            parts.append(f"### `{protocol}`\n\n" + markdown_table(head, body, left=2).strip())
    parts += [_NOTE, f"Seed of the bootstrap: {comparison.seed}."]
    parts += [escape_markdown(line) for line in comparison.notes]
    for name, videos in comparison.unmatched.items():
        if videos:
            parts.append(f"Not in {escape_markdown(name)}: {', '.join(map(escape_markdown, videos))}.")
    return "\n\n".join(parts) + "\n"


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """Return the content of comparison.json."""
    summaries = {m.name: m for m in comparison.summaries}
    return {
        "version": 1,
        "runs": [
            {"name": run.name, "videos": len(run.videos), "created": run.provenance.created} for run in comparison.runs
        ],
        "seed": comparison.seed,
        "differences": [
            {"protocol": summaries[d.measure].protocol, "direction": summaries[d.measure].direction, **asdict(d)}
            for d in comparison.differences
        ],
        "weights": {m.name: dict(m.weights) for m in comparison.summaries},
        "unmatched": {run: list(names) for run, names in comparison.unmatched.items()},
        "notes": list(comparison.notes),
    }


def comparison_page(comparison: Comparison) -> str:
    """Return a comparison as HTML."""
    first, *others = comparison.runs
    return render(
        "comparison.html.j2",
        names=[run.name for run in comparison.runs],
        first=first.name,
        others=[{"name": run.name, "tables": list(_difference_tables(comparison, run.name))} for run in others],
        notes=[_NOTE, f"Seed of the bootstrap: {comparison.seed}.", *comparison.notes],
        unmatched=[(name, videos) for name, videos in comparison.unmatched.items() if videos],
    )


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `FILES` into a folder, which is made where its parent exists. Raises OutputError."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); give a folder whose parent is there") from None
    values = json.dumps(comparison_values(comparison), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    texts = (comparison_text(comparison), _csv(comparison), values, comparison_page(comparison))
    return [write_text(folder / name, content) for name, content in zip(FILES, texts, strict=True)]


def _difference_tables(comparison: Comparison, run: str) -> Iterator[tuple[str, list[DifferenceRow]]]:
    """Yield each protocol with the rows of one run."""
    found = {d.measure: d for d in comparison.differences if d.run == run}
    for protocol, metrics in by_protocol(comparison.summaries).items():
        if rows := [_difference_row(m, found[m.name]) for m in metrics if m.name in found]:
            yield protocol, rows


def _difference_row(metric: MetricSummary, d: Difference) -> DifferenceRow:
    k = metric.decimals
    cells = [
        format_number(d.first, k),
        format_number(d.other, k),
        format_number(d.difference, k, sign=True),
        with_caution(format_interval(d.ci95, k, sign=True), interval_caution(d.people) if d.ci95 else ""),
    ]
    cells += [f"{d.n:,}", f"{d.people:,}"] if d.n else [DASH, DASH]
    return DifferenceRow(metric, _verdict(d), cells, _interval_bar(metric, d))


def _verdict(d: Difference) -> str:
    if d.better:
        return f"{d.better} is better"
    if d.ci95 is not None:
        return "not told apart"
    return "one person: no interval" if d.n else "whole sets: no interval"


def _interval_bar(metric: MetricSummary, d: Difference) -> tuple[float, float, float] | None:
    """Place the interval about zero, each measure on its own scale; see `DifferenceRow.bar`."""
    if d.ci95 is None:
        return None
    sign = 1 if metric.direction == "up" else -1
    low, middle, high = sorted((sign * d.ci95[0], sign * d.difference, sign * d.ci95[1]))
    reach = max(abs(low), abs(high)) * 1.1 or 1.0
    return 80 + 74 * low / reach, 80 + 74 * middle / reach, 80 + 74 * high / reach


def _csv(comparison: Comparison) -> str:
    summaries = {m.name: m for m in comparison.summaries}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for d in comparison.differences:
        m = summaries[d.measure]
        names = [d.measure, m.protocol, m.direction, comparison.runs[0].name, d.run]
        low, high = d.ci95 or ("", "")
        writer.writerow([*names, d.first, d.other, d.difference, low, high, d.n, d.people, d.better])
    return out.getvalue()

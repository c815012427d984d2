"""A comparison as Markdown, CSV, JSON and a page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cyberhost_model.errors import OutputError
from cyberhost_model.lab.evaluation.report.compare import Comparison, Difference
from cyberhost_model.lab.evaluation.report.markup import contents, folded, note, section, style, table, text
from cyberhost_model.lab.evaluation.report.summary import method_tables
from cyberhost_model.lab.evaluation.report.text import NONE, counted, header, interval, plain, shown
from cyberhost_model.lab.evaluation.report.text import table as markdown_table
from cyberhost_model.lab.evaluation.report.values import by_protocol
from cyberhost_model.lab.evaluation.report.write import write_text
from cyberhost_model.lab.evaluation.results import MetricSummary
from cyberhost_model.media.html import document

NAMES = ("comparison.md", "comparison.csv", "comparison.json", "comparison.html")
_COLUMNS = (
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
_READING = (
    "Differences are means over the videos both runs have a value for, with 95% bootstrap intervals over people (all "
    "videos of a person together). "
    "Each interval stands for itself: among many, one in twenty misses. FID and FVD belong to whole sets, so they "
    "have no interval here."
)


def comparison_text(comparison: Comparison) -> str:
    """As Markdown."""
    first, *others = comparison.runs
    parts = [f"# {' and '.join(plain(run.name) for run in comparison.runs)}", method_tables(comparison.runs)]
    for run in others:
        parts.append(f"## {plain(run.name)} against {plain(first.name)}")
        for protocol, rows in _tables(comparison, run.name):
            head = _head(plain(first.name), plain(run.name))
            parts.append(
                f"### `{protocol}`\n\n"
                + markdown_table(head, [[h, plain(_reads(d)), *_cells(m, d)] for h, m, d in rows], left=2).strip()
            )
    parts += [_READING, f"Seed of the bootstrap: {comparison.seed}."]
    parts += [plain(line) for line in comparison.notes]
    parts += [
        f"Not in {plain(run)}: {', '.join(map(plain, names))}." for run, names in comparison.unmatched.items() if names
    ]
    return "\n\n".join(parts) + "\n"


def comparison_section(comparison: Comparison) -> str:
    """As HTML, for a page that has the style of `markup.style`."""
    first, *others = comparison.runs
    out: list[str] = []
    for run in others:
        inside = ""
        for protocol, rows in _tables(comparison, run.name):
            body = [[text(h), text(_reads(d)), _bar(m, d), *map(text, _cells(m, d))] for h, m, d in rows]
            head = _head(first.name, run.name)
            head.insert(2, "worse · better")
            inside += f"<h3>Protocol <code>{text(protocol)}</code></h3>" + table(
                f"{run.name} against {first.name}", head, body, words=(1, 2), look="close"
            )
        out.append(
            section(
                f"against-{len(out) + 1}",
                f"{run.name} against {first.name}",
                inside or note("Nothing was measured in both."),
            )
        )
    told = [note(line) for line in (_READING, f"Seed of the bootstrap: {comparison.seed}.", *comparison.notes)]
    told += [
        folded(
            f"{counted(len(names), 'video')} not in {run}",
            "<ul>" + "".join(f"<li>{text(n)}</li>" for n in names) + "</ul>",
        )
        for run, names in comparison.unmatched.items()
        if names
    ]
    return "".join([*out, *told])


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """What comparison.json holds."""
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


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `NAMES` into a folder, made where its parent is there. Raises OutputError."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); give a folder whose parent is there") from None
    values = json.dumps(comparison_values(comparison), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    texts = (comparison_text(comparison), _csv(comparison), values, _page(comparison))
    return [write_text(folder / name, content) for name, content in zip(NAMES, texts, strict=True)]


def _page(comparison: Comparison) -> str:
    names = [run.name for run in comparison.runs]
    links = {f"against-{i}": f"{name} against {names[0]}" for i, name in enumerate(names[1:], 1)}
    title = text(" and ".join(names))
    body = f"<header><h1>{title}</h1></header>{contents(links)}<main>{comparison_section(comparison)}</main>"
    return document(f"Comparison of {' and '.join(names)}", body, style())


def _tables(comparison: Comparison, run: str) -> Iterator[tuple[str, list[tuple[str, MetricSummary, Difference]]]]:
    """Protocol -> rows of one run: head, measure, difference."""
    found = {d.measure: d for d in comparison.differences if d.run == run}
    for protocol, metrics in by_protocol(comparison.summaries).items():
        if rows := [(header(m), m, found[m.name]) for m in metrics if m.name in found]:
            yield protocol, rows


def _head(first: str, other: str) -> list[str]:
    return ["Measure", "Reads as", first, other, "Difference", "95% interval", "Videos", "People"]


def _cells(metric: MetricSummary, d: Difference) -> list[str]:
    k = metric.decimals
    counts = [f"{d.n:,}", f"{d.people:,}"] if d.n else [NONE, NONE]
    return [
        shown(d.first, k),
        shown(d.other, k),
        shown(d.difference, k, sign=True),
        interval(d.ci95, k, sign=True),
        *counts,
    ]


def _reads(d: Difference) -> str:
    if d.better:
        return f"{d.better} is better"
    if d.ci95 is not None:
        return "not told apart"
    return "one person: no interval" if d.n else "whole sets: no interval"


def _bar(metric: MetricSummary, d: Difference) -> str:
    """The interval about zero, better to the right, each measure on its own scale."""
    if d.ci95 is None:
        return ""
    sign = 1 if metric.direction == "up" else -1
    low, middle, high = sorted((sign * d.ci95[0], sign * d.difference, sign * d.ci95[1]))
    reach = max(abs(low), abs(high)) * 1.1 or 1.0
    a, m, b = (80 + 74 * v / reach for v in (low, middle, high))
    return (
        '<svg class="bar" viewBox="0 0 160 20" width="160" height="20" aria-hidden="true"><path class="mark" d="M80 '
        '1V19"/>'
        f'<path class="main" d="M{a:.1f} 10H{b:.1f}"/><circle class="dots" cx="{m:.1f}" cy="10" r="4"/></svg>'
    )


def _csv(comparison: Comparison) -> str:
    summaries = {m.name: m for m in comparison.summaries}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for d in comparison.differences:
        m = summaries[d.measure]
        low, high = d.ci95 or ("", "")
        writer.writerow(
            [
                d.measure,
                m.protocol,
                m.direction,
                comparison.runs[0].name,
                d.run,
                d.first,
                d.other,
                d.difference,
                low,
                high,
                d.n,
                d.people,
                d.better,
            ]
        )
    return out.getvalue()

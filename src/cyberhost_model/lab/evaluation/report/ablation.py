"""Compare models that leave one part out with the rows of the paper's Table 1 that do."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cyberhost_model.config import ABLATIONS
from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.report.selection import by_protocol, check_comparable, measured, measured_summary
from cyberhost_model.lab.evaluation.report.wording import (
    DASH,
    FULL_MODEL,
    PUBLISHED_LABEL,
    escape_markdown,
    format_number,
    markdown_table,
    measure_header,
    published_values,
)
from cyberhost_model.lab.evaluation.results import MetricSummary, Results, read_results

TABLE = "Table 1"
OWN_FULL_MODEL = "full model"
"""How our row is called beside the paper's FULL_MODEL: a network of another size, trained on other people."""


def ablation_table(runs: Mapping[str, Path]) -> str:
    """Write as Markdown a row for the full model and for each "w/o" row of `config.ABLATIONS`.

    Our values and the paper's have columns of their own. runs: name of the row -> folder that holds its summary.json
    and per_video.csv; the full model is "full" or any one name that is no ablation. A row without a run is shown as not
    measured. Raises InputError for a folder that cannot be read, without a full model, and for rows that do not follow
    one protocol with one set of weights.
    """
    full, order, found = _read(runs)
    parts = []
    for protocol, metrics in by_protocol(measured(found[full])).items():
        parts.append(_values(protocol, metrics, order, found))
        parts.append(_changes(metrics, full, order, found))
    missing = [name for name in order if name not in found]
    notes = [f"The paper's columns: {TABLE}, {PUBLISHED_LABEL}; compare the direction of a change, not the numbers."]
    notes += [f"Not measured: {', '.join(map(escape_markdown, missing))}."] if missing else []
    for reason in {m.reason: None for m in found[full].metrics if m.status == "skipped"}:
        names = ", ".join(m.name for m in found[full].metrics if m.status == "skipped" and m.reason == reason)
        notes.append(f"Skipped: {names} ({escape_markdown(reason)}).")
    return "\n\n".join([*(p.strip() for p in parts), *notes]) + "\n"


def ablation_values(runs: Mapping[str, Path]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the table as numbers: row -> measure -> value, ci95, n, protocol, status, reason and the paper's figure.

    ci95 is a pair or None; the figure is None where the paper has none. Raises InputError as `ablation_table` does.
    """
    _, order, found = _read(runs)
    values: dict[str, dict[str, dict[str, Any]]] = {}
    for name, run in found.items():
        printed = published_values()[TABLE].get(order[name], {})
        values[name] = {
            m.name: {
                "value": m.value,
                "ci95": m.ci95,
                "n": m.n,
                "protocol": m.protocol,
                "status": m.status,
                "reason": m.reason,
                "paper": float(printed[m.name]) if m.name in printed else None,
            }
            for m in run.metrics
        }
    return values


def write_ablation_csv(runs: Mapping[str, Path], file: Path) -> None:
    """Write the table as CSV, a line for each row and measure.

    Columns: row, measure, status, protocol, n, value, low and high end of its interval, the paper's figure.
    """
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["row", "measure", "status", "protocol", "n", "value", "low", "high", "paper"])
        for row, measures in ablation_values(runs).items():
            for name, v in measures.items():
                low, high = v["ci95"] or (None, None)
                writer.writerow(
                    [row, name, *(v[k] for k in ("status", "protocol", "n", "value")), low, high, v["paper"]]
                )


def _read(runs: Mapping[str, Path]) -> tuple[str, Mapping[str, str], Mapping[str, Results]]:
    """Return the name of the full model, row -> the paper's row, and row -> results of those that were run."""
    full = [name for name in runs if name not in ABLATIONS]
    if len(full) != 1:
        raise InputError(
            f"an ablation table needs one run of the full model beside {', '.join(ABLATIONS)}; there are {len(full)}: "
            f"{', '.join(full)}"
        )
    order = {full[0]: FULL_MODEL, **{name: name for name in ABLATIONS}}  # row -> the paper's name of it
    found = {name: read_results(runs[name]) for name in order if name in runs}
    whole = found[full[0]]
    for name, run in found.items():
        for metric in measured(whole):
            check_comparable(metric.name, whole, run, (repr(full[0]), repr(name)))
    return full[0], order, found


def _cell(run: Results | None, metric: MetricSummary) -> str:
    theirs = measured_summary(run, metric.name) if run else None
    return format_number(theirs.value if theirs else None, metric.decimals)


def _values(
    protocol: str, metrics: Sequence[MetricSummary], order: Mapping[str, str], found: Mapping[str, Results]
) -> str:
    head = ["Row", "N", *(column for m in metrics for column in (measure_header(m), f"{m.name}, paper"))]
    rows = []
    for name, row in order.items():
        run, paper = found.get(name), published_values()[TABLE].get(row, {})
        counts = str(len(run.videos)) if run else DASH
        rows.append(
            [
                escape_markdown(OWN_FULL_MODEL if row == FULL_MODEL else name),
                counts,
                *(cell for m in metrics for cell in (_cell(run, m), paper.get(m.name, DASH))),
            ]
        )
    return f"### `{protocol}`\n\n" + markdown_table(head, rows)


def _changes(
    metrics: Sequence[MetricSummary], full: str, order: Mapping[str, str], found: Mapping[str, Results]
) -> str:
    """Write the changes of leaving a part out, here and in the paper, and how often both agree."""
    whole, printed = found[full], published_values()[TABLE]
    rows, agree, of = [], 0, 0
    for name in order:
        if name == full or name not in found:
            continue
        cells = []
        for m in metrics:
            own, base = measured_summary(found[name], m.name), measured_summary(whole, m.name)
            ours = own.value - base.value if own and base and own.value is not None and base.value is not None else None
            row, start = printed[name].get(m.name), printed[FULL_MODEL].get(m.name)
            theirs = float(row) - float(start) if row and start else None
            if ours is not None and theirs:
                of, agree = of + 1, agree + ((ours > 0) == (theirs > 0) and ours != 0)
            cells += [format_number(ours, m.decimals, sign=True), format_number(theirs, m.decimals, sign=True)]
        rows.append([escape_markdown(name), *cells])
    if not rows:
        return ""
    head = [
        "Change against the full model",
        *(column for m in metrics for column in (measure_header(m), f"{m.name}, paper")),
    ]
    agreement = f"\nOf {of} changes the paper has too, {agree} go the same way." if of else ""
    return markdown_table(head, rows) + agreement

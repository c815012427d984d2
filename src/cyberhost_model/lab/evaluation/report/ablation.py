"""The rows of the paper's Table 1 that leave one part out, measured on models of one's own beside what the paper
printed.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cyberhost_model.config import ABLATIONS
from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.report.text import FULL_MODEL, LABEL, NONE, header, plain, published, shown, table
from cyberhost_model.lab.evaluation.report.values import by_protocol, check_comparable, measured, value_of
from cyberhost_model.lab.evaluation.results import MetricSummary, Results, read_results

TABLE = "Table 1"


def ablation_table(runs: Mapping[str, Path]) -> str:
    """Markdown: a row for the full model and for each "w/o" row of `presets.ABLATIONS`, our values and the paper's in
    columns of their own.

    runs: name of the row -> folder that holds its summary.json and per_video.csv; the full model is "full" or any one
    name that is no ablation. A row without a run is shown as not measured. Raises InputError: a folder that cannot be
    read, no full model, or rows that do not follow one protocol with one set of weights.
    """
    full, order, found = _read(runs)
    parts = []
    for protocol, metrics in by_protocol(measured(found[full])).items():
        parts.append(_values(protocol, metrics, order, found))
        parts.append(_changes(metrics, full, order, found))
    missing = [name for name in order if name not in found]
    notes = [f"The paper's columns: {TABLE}, {LABEL}; compare the direction of a change, not the numbers."]
    notes += [f"Not measured: {', '.join(map(plain, missing))}."] if missing else []
    for reason in {m.reason: None for m in found[full].metrics if m.status == "skipped"}:
        names = ", ".join(m.name for m in found[full].metrics if m.status == "skipped" and m.reason == reason)
        notes.append(f"Skipped: {names} ({plain(reason)}).")
    return "\n\n".join([*(p.strip() for p in parts), *notes]) + "\n"


def ablation_values(runs: Mapping[str, Path]) -> dict[str, dict[str, dict[str, Any]]]:
    """The same as numbers: row -> measure -> value, ci95 (pair or None), n, protocol, status, reason and the paper's
    figure, None where it has none.

    Raises InputError as `ablation_table` does.
    """
    _, order, found = _read(runs)
    values: dict[str, dict[str, dict[str, Any]]] = {}
    for name, run in found.items():
        printed = published()[TABLE].get(order[name], {})
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
    """A line a row and measure: row, measure, status, protocol, n, value, low and high end of its interval, the
    paper's figure.
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
    """(name of the full model, row -> the paper's row, row -> results of those that were run)."""
    full = [name for name in runs if name not in ABLATIONS]
    if len(full) != 1:
        raise InputError(
            f"an ablation table needs one run of the full model beside {', '.join(ABLATIONS)}; there are {len(full)}: "
            f"{', '.join(full)}"
        )
    order = {full[0]: FULL_MODEL, **{name: name for name in ABLATIONS}}
    found = {name: read_results(runs[name]) for name in order if name in runs}
    whole = found[full[0]]
    for name, run in found.items():
        for metric in measured(whole):
            check_comparable(metric.name, whole, run, (repr(full[0]), repr(name)))
    return full[0], order, found


def _cell(run: Results | None, metric: MetricSummary) -> str:
    theirs = value_of(run, metric.name) if run else None
    return shown(theirs.value if theirs else None, metric.decimals)


def _values(
    protocol: str, metrics: Sequence[MetricSummary], order: Mapping[str, str], found: Mapping[str, Results]
) -> str:
    head = ["Row", "N", *(column for m in metrics for column in (header(m), f"{m.name}, paper"))]
    rows = []
    for name, row in order.items():
        run, paper = found.get(name), published()[TABLE].get(row, {})
        counts = str(len(run.videos)) if run else NONE
        rows.append(
            [
                plain(row if row != name else name),
                counts,
                *(cell for m in metrics for cell in (_cell(run, m), paper.get(m.name, NONE))),
            ]
        )
    return f"### `{protocol}`\n\n" + table(head, rows)


def _changes(
    metrics: Sequence[MetricSummary], full: str, order: Mapping[str, str], found: Mapping[str, Results]
) -> str:
    """What leaving a part out changed, here and in the paper, and how often both moved the same way."""
    whole, printed = found[full], published()[TABLE]
    rows, agree, of = [], 0, 0
    for name in order:
        if name == full or name not in found:
            continue
        cells = []
        for m in metrics:
            own, base = value_of(found[name], m.name), value_of(whole, m.name)
            ours = own.value - base.value if own and base and own.value is not None and base.value is not None else None
            row, start = printed[name].get(m.name), printed[FULL_MODEL].get(m.name)
            theirs = float(row) - float(start) if row and start else None
            if ours is not None and theirs:
                of, agree = of + 1, agree + ((ours > 0) == (theirs > 0) and ours != 0)
            cells += [shown(ours, m.decimals, sign=True), shown(theirs, m.decimals, sign=True)]
        rows.append([plain(name), *cells])
    if not rows:
        return ""
    head = ["Change against the full model", *(column for m in metrics for column in (header(m), f"{m.name}, paper"))]
    told = f"\nOf {of} changes the paper has too, {agree} go the same way." if of else ""
    return table(head, rows) + told

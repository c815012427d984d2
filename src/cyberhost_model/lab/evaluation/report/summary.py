"""summary.md: what a run measured, to be read and quoted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyberhost_model.lab.evaluation.report.text import (
    LABEL,
    NONE,
    READING,
    UNLIKE,
    counted,
    header,
    interval,
    mismatch_kinds,
    percent,
    plain,
    provenance,
    published_tables,
    shown,
    span,
    table,
)
from cyberhost_model.lab.evaluation.report.values import against_itself, best, by_protocol, measured
from cyberhost_model.lab.evaluation.results import MetricSummary, Results


def summary_text(results: Results, truth: Results | None = None) -> str:
    """The whole of summary.md. truth: the same run with the ground truth in the place of the generated videos."""
    parts = [
        f"# {plain(results.name)}",
        method_tables([results], itself=True, truth=truth),
        *_details(results),
        _skipped(results),
        _published(),
        _mismatches(results),
    ]
    return "\n\n".join([*(p.strip() for p in parts if p), _provenance(results)]) + "\n"


def method_tables(runs: Sequence[Results], itself: bool = False, truth: Results | None = None) -> str:
    """A table a protocol, one row a method, the best of several values in bold where all rest on as many videos.

    `itself`: also a row of the ground truth of the first run.
    """
    protocols: dict[str, dict[str, None]] = {}
    for run in runs:
        for protocol, metrics in by_protocol(measured(run)).items():
            protocols.setdefault(protocol, {}).update(dict.fromkeys(m.name for m in metrics))
    if not protocols:
        return "Nothing could be measured."
    return "\n\n".join(
        _methods(runs, protocol, list(names), itself, truth).strip() for protocol, names in protocols.items()
    )


def _methods(runs: Sequence[Results], protocol: str, names: list[str], itself: bool, truth: Results | None) -> str:
    found = [{m.name: m for m in measured(run) if m.protocol == protocol} for run in runs]
    tops = {n: best([f[n] for f in found if n in f]) for n in names}

    def cell(metric: MetricSummary | None) -> str:
        if metric is None:
            return NONE
        text = shown(metric.value, metric.decimals)
        return f"**{text}**" if tops[metric.name] is not None and metric.value == tops[metric.name] else text

    rows = [
        [
            plain(run.name),
            str(len(run.videos)),
            span(m.coverage for m in metrics.values()),
            *(cell(metrics.get(n)) for n in names),
        ]
        for run, metrics in zip(runs, found, strict=True)
    ]
    notes = []
    pairs = {n: against_itself(_first(found, n), truth) for n in names} if itself else {}
    if any(pairs.values()):
        cells = [shown(p[0], _first(found, n).decimals) if p else NONE for n, p in pairs.items()]
        rows.append(["*ground truth against itself*", NONE, NONE, *cells])
        ways: dict[str, list[str]] = {}
        for name, pair in pairs.items():
            ways.setdefault(pair[1] if pair else "not measured", []).append(name)
        notes.append(
            "Ground truth against itself: "
            + "; ".join(f"{', '.join(names)}: {how}" for how, names in ways.items())
            + "."
        )
    head = ["Method", "N", "Coverage", *(header(_first(found, n)) for n in names)]
    return "\n".join([f"## `{protocol}`\n", table(head, rows), *notes])


def _first(found: list[dict[str, MetricSummary]], name: str) -> MetricSummary:
    return next(metrics[name] for metrics in found if name in metrics)


def _details(results: Results) -> Iterator[str]:
    """How sure each value is: a table a protocol, then what holds for all of them."""
    for protocol, metrics in by_protocol(measured(results)).items():
        rows = [
            [
                m.name,
                shown(m.value, m.decimals),
                interval(m.ci95, m.decimals),
                str(m.n),
                percent(m.coverage),
                "<br>".join(f"{plain(name)} `{digest[:12]}`" for name, digest in m.weights.items()) or "none",
            ]
            for m in metrics
        ]
        yield f"### Each measure by `{protocol}`\n\n" + table(
            ["Measure", "Value", "95% interval", "N", "Coverage", "Weights (sha256)"], rows
        )
    yield READING
    for m in measured(results):
        if m.extras.get("note"):
            yield f"{m.name}: {plain(m.extras['note'])}."
        if m.extras.get("trend"):
            yield _trend(m)
    for licence in {m.licence: None for m in measured(results) if m.licence}:
        yield f"Licence: {plain(licence)}."


def _trend(metric: MetricSummary) -> str:
    """How the value falls as videos are added."""
    steps = ", ".join(
        f"{shown(step['value'], metric.decimals)} ({counted(step['videos'], 'video')})"
        for step in metric.extras["trend"]
    )
    limit = metric.extras.get("limit")
    end = f"; a line in 1/N meets 1/N = 0 at {shown(limit, metric.decimals)}" if limit is not None else ""
    return f"{metric.name} on growing parts of the set: {steps}{end}."


def _skipped(results: Results) -> str:
    rows = [[m.name, plain(m.reason)] for m in results.metrics if m.status == "skipped"]
    return "## Not measured\n\n" + table(["Measure", "Why"], rows, left=2) if rows else ""


def _published() -> str:
    parts = [f"## The paper's values ({LABEL})\n\n{UNLIKE}"]
    parts += [
        f"{name}\n\n{table(['Method (published)', *head], [[plain(row), *values] for row, *values in rows])}"
        for name, head, rows in published_tables()
    ]
    return "\n\n".join(part.strip() for part in parts)


def _mismatches(results: Results) -> str:
    if not results.mismatches:
        return ""
    kinds = table(
        ["Kind", "Count", "What was done"],
        [[kind, n, plain(rule)] for kind, n, rule in mismatch_kinds(results)],
        left=3,
    )
    lines = "\n".join(f"- {plain(m.video)}: {m.kind}: {plain(m.detail)}" for m in results.mismatches)
    return f"## What did not fit\n\n{kinds}\n{lines}"


def _provenance(results: Results) -> str:
    command = results.provenance.command.replace("`", " ")
    lines = [f"- {label}: {plain(words)}" for label, words in provenance(results).items()] + (
        [f"- Command: `{command}`"] if command else []
    )
    return "## Provenance\n\n" + "\n".join(lines)

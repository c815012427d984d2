"""Write summary.md: what a run measured, to be read and quoted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cyberhost_model.lab.evaluation.report.selection import (
    best_value,
    by_protocol,
    caution,
    ground_truth_value,
    measured,
)
from cyberhost_model.lab.evaluation.report.wording import (
    DASH,
    PUBLISHED_LABEL,
    PUBLISHED_NOTE,
    RESULTS_NOTE,
    escape_markdown,
    format_count,
    format_interval,
    format_number,
    format_share,
    format_share_range,
    markdown_table,
    measure_header,
    mismatch_kinds,
    provenance_lines,
    published_tables,
    with_caution,
)
from cyberhost_model.lab.evaluation.results import MetricSummary, Results


def summary_text(results: Results, truth: Results | None = None) -> str:
    """Return summary.md. truth: the same run with the ground truth in place of the generated videos."""
    parts = [
        f"# {escape_markdown(results.name)}",
        method_tables([results], itself=True, truth=truth),
        *_details(results),
        _skipped(results),
        _published(),
        _mismatches(results),
    ]
    return "\n\n".join([*(p.strip() for p in parts if p), _provenance(results)]) + "\n"


def method_tables(runs: Sequence[Results], itself: bool = False, truth: Results | None = None) -> str:
    """Write a table for each protocol, one row a method.

    The best of several values is bold where all rest on the same number of videos. itself: also a row of the ground
    truth of the first run, see `ground_truth_value`.
    """
    protocols: dict[str, dict[str, None]] = {}
    for run in runs:
        for protocol, metrics in by_protocol(measured(run)).items():
            protocols.setdefault(protocol, {}).update(dict.fromkeys(m.name for m in metrics))
    if not protocols:
        return "Nothing could be measured."
    return "\n\n".join(
        _protocol_table(runs, protocol, list(names), itself, truth).strip() for protocol, names in protocols.items()
    )


def _protocol_table(
    runs: Sequence[Results], protocol: str, names: list[str], itself: bool, truth: Results | None
) -> str:
    found = [{m.name: m for m in measured(run) if m.protocol == protocol} for run in runs]
    first = {name: next(metrics[name] for metrics in found if name in metrics) for name in names}
    best = {name: best_value([metrics[name] for metrics in found if name in metrics]) for name in names}

    def cell(metric: MetricSummary | None) -> str:
        if metric is None:
            return DASH
        text = format_number(metric.value, metric.decimals)
        return f"**{text}**" if best[metric.name] is not None and metric.value == best[metric.name] else text

    rows = []
    for run, metrics in zip(runs, found, strict=True):
        coverage = format_share_range(m.coverage for m in metrics.values())
        rows.append([escape_markdown(run.name), str(len(run.videos)), coverage, *(cell(metrics.get(n)) for n in names)])
    notes = []
    values = {name: ground_truth_value(first[name], truth) for name in names} if itself else {}
    if any(values.values()):
        cells = [format_number(pair[0], first[name].decimals) if pair else DASH for name, pair in values.items()]
        rows.append(["*ground truth against itself*", DASH, DASH, *cells])
        notes.append(_ground_truth_note({name: pair[1] if pair else "not measured" for name, pair in values.items()}))
    head = ["Method", "N", "Coverage", *(measure_header(first[name]) for name in names)]
    return "\n".join([f"## `{protocol}`\n", markdown_table(head, rows), *notes])


def _ground_truth_note(ways: dict[str, str]) -> str:
    """Say how the values of the ground truth were measured. ways: by measure."""
    measures: dict[str, list[str]] = {}
    for name, way in ways.items():
        measures.setdefault(way, []).append(name)
    return "Ground truth against itself: " + "; ".join(f"{', '.join(m)}: {way}" for way, m in measures.items()) + "."


def _details(results: Results) -> Iterator[str]:
    """Write the certainty of each value: a table for each protocol, then the notes on all of them."""
    for protocol, metrics in by_protocol(measured(results)).items():
        rows = [
            [
                m.name,
                format_number(m.value, m.decimals),
                with_caution(format_interval(m.ci95, m.decimals), caution(results, m)),
                str(m.n),
                format_share(m.coverage),
                "<br>".join(f"{escape_markdown(name)} `{digest[:12]}`" for name, digest in m.weights.items()) or "none",
            ]
            for m in metrics
        ]
        yield f"### Each measure by `{protocol}`\n\n" + markdown_table(
            ["Measure", "Value", "95% interval", "N", "Coverage", "Weights (sha256)"], rows
        )
    yield RESULTS_NOTE
    for m in measured(results):
        if m.extras.get("note"):
            yield f"{m.name}: {escape_markdown(m.extras['note'])}."
        if m.extras.get("trend"):
            yield _trend(m)
    for licence in {m.licence: None for m in measured(results) if m.licence}:
        yield f"Licence: {escape_markdown(licence)}."


def _trend(metric: MetricSummary) -> str:
    """Write how the value falls as videos are added."""
    steps = ", ".join(
        f"{format_number(step['value'], metric.decimals)} ({format_count(step['videos'], 'video')})"
        for step in metric.extras["trend"]
    )
    limit = metric.extras.get("limit")
    end = f"; a line in 1/N meets 1/N = 0 at {format_number(limit, metric.decimals)}" if limit is not None else ""
    return f"{metric.name} on growing parts of the set: {steps}{end}."


def _skipped(results: Results) -> str:
    rows = [[m.name, escape_markdown(m.reason)] for m in results.metrics if m.status == "skipped"]
    return "## Not measured\n\n" + markdown_table(["Measure", "Why"], rows, left=2) if rows else ""


def _published() -> str:
    parts = [f"## The paper's values ({PUBLISHED_LABEL})\n\n{PUBLISHED_NOTE}"]
    for name, head, rows in published_tables():
        body = [[escape_markdown(row), *values] for row, *values in rows]
        parts.append(f"{name}\n\n{markdown_table(['Method (published)', *head], body)}")
    return "\n\n".join(part.strip() for part in parts)


def _mismatches(results: Results) -> str:
    if not results.mismatches:
        return ""
    kinds = markdown_table(
        ["Kind", "Count", "What was done"],
        [[kind, n, escape_markdown(rule)] for kind, n, rule in mismatch_kinds(results)],
        left=3,
    )
    lines = "\n".join(
        f"- {escape_markdown(m.video)}: {m.kind}: {escape_markdown(m.detail)}" for m in results.mismatches
    )
    return f"## What did not fit\n\n{kinds}\n{lines}"


def _provenance(results: Results) -> str:
    command = results.provenance.command.replace("`", " ")
    lines = [f"- {label}: {escape_markdown(words)}" for label, words in provenance_lines(results).items()] + (
        [f"- Command: `{command}`"] if command else []
    )
    return "## Provenance\n\n" + "\n".join(lines)

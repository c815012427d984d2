"""report.html: a run on one page that needs nothing else."""

from __future__ import annotations

import numpy as np

from cyberhost_model.lab.evaluation.report.cards import card
from cyberhost_model.lab.evaluation.report.charts import Line, chart
from cyberhost_model.lab.evaluation.report.films import Films
from cyberhost_model.lab.evaluation.report.markup import (
    contents,
    folded,
    note,
    pairs,
    script,
    section,
    skipped,
    style,
    table,
    text,
)
from cyberhost_model.lab.evaluation.report.text import (
    LABEL,
    NONE,
    READING,
    UNLIKE,
    counted,
    header,
    interval,
    listed,
    mismatch_kinds,
    percent,
    provenance,
    published_tables,
    shown,
)
from cyberhost_model.lab.evaluation.report.values import (
    ORDINALS,
    against_itself,
    by_protocol,
    measured,
    to_show,
    worst_videos,
)
from cyberhost_model.lab.evaluation.results import Evaluation, MetricSummary, Results
from cyberhost_model.media.html import document, facts

MOST_CARDS = 18


def report_page(evaluation: Evaluation, films: Films | None = None, truth: Results | None = None) -> str:
    """The page as HTML. truth: the same run with the ground truth in the place of the generated videos."""
    results, films = evaluation.results, films or Films()
    worst = worst_videos(results)
    reasons = to_show(worst)
    numbers = {name: i for i, name in enumerate(list(reasons)[:MOST_CARDS], 1)}
    rows = {row.video: row for row in results.videos}
    cards = "".join(card(evaluation, rows[name], i, reasons[name], films) for name, i in numbers.items())
    parts = {
        "results": ("Results", _results(results, truth)),
        "skipped": ("Not measured", skipped(results)),
        "size": ("FID, FVD and the number of videos", _trends(results)),
        "worst": ("Worst videos of each measure", _worst(results, worst, numbers)),
        "clips": ("The videos themselves", _told(films, len(reasons) - len(numbers)) + cards if cards else ""),
        "all": ("Every video", _every_video(results)),
        "mismatches": ("What did not fit", _mismatches(results)),
        "published": (f"The paper's values: {LABEL}", _published()),
        "provenance": ("Where the numbers come from", _provenance(results)),
        "licences": ("Weights and licences", _licences(results)),
    }
    there = {name: part for name, part in parts.items() if part[1]}
    body = (
        '<a class="skip" href="#results">To the results</a>'
        f'<header><h1>{text(results.name)}</h1><p class="where">Evaluation by '
        f"{text(' and '.join(by_protocol(results.metrics)))}, {text(results.provenance.created)}</p></header>"
        + contents({name: title for name, (title, _) in there.items()})
        + "<main>"
        + _facts(results)
        + "".join(section(name, title, inside) for name, (title, inside) in there.items())
        + "</main>"
    )
    return document(f"{results.name}: evaluation", body, style(), script())


def _facts(results: Results) -> str:
    p = results.provenance
    return facts(
        {
            "videos": f"{len(results.videos):,}",
            "people": f"{len({v.identity for v in results.videos}):,}",
            "frames": f"{p.frames:,}",
            "seconds of video": f"{sum(v.frames / v.fps for v in results.videos):,.1f}",
            "measures": str(len(measured(results))),
            "not measured": str(sum(m.status == "skipped" for m in results.metrics)),
            "mismatches": str(len(results.mismatches)),
        }
    )


def _results(results: Results, truth: Results | None) -> str:
    out = []
    for protocol, metrics in by_protocol(measured(results)).items():
        rows = []
        for m in metrics:
            itself = against_itself(m, truth)
            own = f"{shown(itself[0], m.decimals)}<br><small>{text(itself[1])}</small>" if itself else NONE
            rows.append(
                [
                    text(header(m)),
                    f"<b>{shown(m.value, m.decimals)}</b>",
                    interval(m.ci95, m.decimals),
                    f"{m.n:,}",
                    percent(m.coverage),
                    own,
                    text(listed(m.extras)),
                ]
            )
        head = ["Measure", "Value", "95% interval", "N", "Coverage", "Ground truth against itself", "Also"]
        out.append(_protocol(protocol) + table(f"Results by {protocol}", head, rows, words=(6,)))
    if not out:
        return note("Nothing could be measured.")
    remarks = [note(f"{m.name}: {m.extras['note']}.") for m in measured(results) if m.extras.get("note")]
    return "".join([*out, *remarks, note(READING)])


def _trends(results: Results) -> str:
    figures = [_trend(m) for m in measured(results) if m.extras.get("trend")]
    if not figures:
        return ""
    words = (
        "These distances fall as videos are added, even between two samples of the same videos: compare them only "
        "at equal numbers, and with the floor."
    )
    return note(words) + f'<div class="charts">{"".join(figures)}</div>'


def _trend(metric: MetricSummary) -> str:
    steps = [s for s in metric.extras["trend"] if s.get("value") is not None]
    x, y = np.array([1 / s["videos"] for s in steps]), np.array([float(s["value"]) for s in steps])
    told = "; ".join(f"{shown(s['value'], metric.decimals)} with {counted(s['videos'], 'video')}" for s in steps)
    floor, limit = metric.extras.get("floor") or {}, metric.extras.get("limit")
    lines = [Line("value", x, y, "dots")]
    if limit is not None and len(x):
        slope = float(np.dot(x, y - limit) / np.dot(x, x))
        lines.append(Line("line in 1/N", np.array([0, x.max()]), np.array([limit, limit + slope * x.max()]), "other"))
        told += f". A line in 1/N meets 1/N = 0 at {shown(limit, metric.decimals)}"
    if floor.get("value") is not None:
        told += f". Halves of the ground truth against each other: {shown(floor['value'], metric.decimals)}, dotted"
    return chart(header(metric), lines, "1 / number of videos", told + ".", floor=floor.get("value"))


def _worst(results: Results, worst: dict[str, list[str]], numbers: dict[str, int]) -> str:
    rows = {v.video: v for v in results.videos}

    def cell(metric: MetricSummary, name: str) -> str:
        link = f'<a href="#clip-{numbers[name]}">{text(name)}</a>' if name in numbers else text(name)
        return f"{shown(rows[name].values[metric.name].value, metric.decimals)} {link}"

    out = []
    for protocol, metrics in by_protocol(m for m in measured(results) if m.name in worst).items():
        body = [[text(header(m)), *(cell(m, name) for name in worst[m.name])] for m in metrics]
        body = [row + [""] * (1 + len(ORDINALS) - len(row)) for row in body]
        out.append(
            _protocol(protocol) + table(f"Worst videos by {protocol}", ["Measure", *ORDINALS], body, words=(1, 2, 3))
        )
    return "".join(out)


def _protocol(name: str) -> str:
    return f"<h3>Protocol <code>{text(name)}</code></h3>"


def _told(films: Films, more: int) -> str:
    words = f"Small copies, up to {films.seconds:g} s of each, about the worst moment of longer ones."
    if films.left_out:
        words += f" The page may hold {films.limit >> 20} MB of them: {counted(films.left_out, 'clip')} had no room."
    if more:
        words += f" {counted(more, 'more video is', 'more videos are')} among the worst and only listed."
    return note(words)


def _every_video(results: Results) -> str:
    metrics = [m for m in measured(results) if any(m.name in v.values for v in results.videos)]
    if not metrics:
        return ""
    rows = [
        [
            text(v.video),
            text(v.identity),
            f"{v.frames:,}",
            *(shown(v.values[m.name].value, m.decimals) if m.name in v.values else NONE for m in metrics),
        ]
        for v in results.videos
    ]
    out = []
    for protocol, group in by_protocol(metrics).items():
        keep = [0, 1, 2, *(3 + metrics.index(m) for m in group)]
        head = ["Video", "Person", "Frames", *(header(m) for m in group)]
        inside = table(f"Every video by {protocol}", head, [[row[i] for i in keep] for row in rows], words=(1,))
        out.append(folded(f"{counted(len(rows), 'video')} by {protocol}", inside))
    return "".join(out)


def _mismatches(results: Results) -> str:
    if not results.mismatches:
        return ""
    kinds = [list(map(text, row)) for row in mismatch_kinds(results)]
    each = [[text(m.video), text(m.kind), text(m.detail)] for m in results.mismatches]
    return table("What did not fit, by kind", ["Kind", "Count", "What was done"], kinds, words=(2,)) + folded(
        "Each of them", table("What did not fit, by video", ["Video", "Kind", "What"], each, words=(1, 2))
    )


def _published() -> str:
    out = [note(UNLIKE)]
    for name, head, rows in published_tables():
        inside = table(f"{name} of the paper, {LABEL}", ["Method", *head], [list(map(text, row)) for row in rows])
        out.append(folded(f"{name} of the paper", inside))
    return "".join(out)


def _provenance(results: Results) -> str:
    p = results.provenance
    values = {label: text(words) for label, words in provenance(results).items()} | {
        "Command": f"<code>{text(p.command)}</code>" if p.command else ""
    }
    inputs = [[text(name), f"<code>{text(digest)}</code>"] for name, digest in p.inputs.items()]
    digests = (
        folded("Digests of the files", table("Digests of the files", ["File", "sha256"], inputs, words=(1,)))
        if inputs
        else ""
    )
    return pairs(values) + digests


def _licences(results: Results) -> str:
    rows = [
        [
            text(name),
            ", ".join(text(m.name) for m in results.metrics if name in m.weights),
            f"<code>{text(digest)}</code>",
            text(licence),
        ]
        for (name, digest, licence) in dict.fromkeys(
            (n, d, m.licence) for m in measured(results) for n, d in m.weights.items()
        )
    ]
    used = {m.licence for m in measured(results) if m.licence and not m.weights}
    extra = "".join(note(line) for line in sorted(used))
    return (table("Weights", ["Weights", "For", "sha256", "Licence"], rows, words=(1, 2, 3)) if rows else "") + extra

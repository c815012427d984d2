"""Write the report of a run: summary.md, and report.html, one page that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyberhost_model.lab.evaluation.report.cards import make_card
from cyberhost_model.lab.evaluation.report.charts import Chart, Line, layout_chart
from cyberhost_model.lab.evaluation.report.clip_copies import ClipCopies
from cyberhost_model.lab.evaluation.report.html import render
from cyberhost_model.lab.evaluation.report.selection import (
    ORDINALS,
    by_protocol,
    caution,
    ground_truth_value,
    measured,
    videos_to_show,
    worst_videos,
)
from cyberhost_model.lab.evaluation.report.summary import summary_text
from cyberhost_model.lab.evaluation.report.wording import (
    DASH,
    PUBLISHED_LABEL,
    PUBLISHED_NOTE,
    RESULTS_NOTE,
    format_count,
    format_number,
    measure_header,
    mismatch_kinds,
    provenance_lines,
    published_tables,
)
from cyberhost_model.lab.evaluation.results import Evaluation, MetricSummary, Results, write_text

SUMMARY_TEXT, PAGE = "summary.md", "report.html"
MAX_CARDS = 18


@dataclass(frozen=True)
class WorstVideo:
    """Name one of the worst videos of a measure. card: the number of its card on the page, None without one."""

    name: str
    value: float
    card: int | None


@dataclass(frozen=True)
class WeightRow:
    """Describe a file of weights and the measures that used it."""

    name: str
    sha256: str
    licence: str
    measures: list[str]


def write_report(
    evaluation: Evaluation, folder: Path, copies: ClipCopies | None = None, truth: Results | None = None
) -> list[Path]:
    """Write summary.md and report.html into a folder that exists, each whole or not at all.

    copies: limits the video material on the page. truth: the results of the same run with the ground truth in place of
    the generated videos; its row shows the values of real people. Raises OutputError.
    """
    return [
        write_text(folder / SUMMARY_TEXT, summary_text(evaluation.results, truth)),
        write_text(folder / PAGE, report_page(evaluation, copies, truth)),
    ]


def report_page(evaluation: Evaluation, copies: ClipCopies | None = None, truth: Results | None = None) -> str:
    """Return the report as HTML. truth: the same run with the ground truth in place of the generated videos."""
    results, copies = evaluation.results, copies or ClipCopies()
    worst = worst_videos(results)
    reasons = videos_to_show(worst)
    shown = list(reasons)[:MAX_CARDS]
    rows = {row.video: row for row in results.videos}
    cards = [make_card(evaluation, rows[name], reasons[name], copies) for name in shown]
    groups = by_protocol(measured(results)).items()
    trends = [_trend_chart(m) for m in measured(results) if m.extras.get("trend")]
    return render(
        "report.html.j2",
        with_players=True,
        results=results,
        protocols=list(by_protocol(results.metrics)),
        counts=_counts(results),
        dash=DASH,
        results_by_protocol=[
            (protocol, [(m, ground_truth_value(m, truth), caution(results, m)) for m in metrics])
            for protocol, metrics in groups
        ],
        results_note=RESULTS_NOTE,
        trends=[chart for chart in trends if chart is not None],
        ordinals=list(ORDINALS),
        worst_by_protocol=_worst_by_protocol(results, worst, {name: i for i, name in enumerate(shown, 1)}),
        cards=cards,
        clips_note=_clips_note(copies, len(reasons) - len(shown)),
        videos_by_protocol=list(by_protocol(_measures_of_videos(results)).items()),
        mismatch_kinds=mismatch_kinds(results),
        published_label=PUBLISHED_LABEL,
        published_note=PUBLISHED_NOTE,
        published_tables=list(published_tables()),
        provenance=provenance_lines(results),
        weights=_weight_rows(results),
        licences=sorted({m.licence for m in measured(results) if m.licence and not m.weights}),
    )


def _counts(results: Results) -> dict[str, str]:
    return {
        "videos": f"{len(results.videos):,}",
        "people": f"{len({v.identity for v in results.videos}):,}",
        "frames": f"{results.provenance.frames:,}",
        "seconds of video": f"{sum(v.frames / v.fps for v in results.videos):,.1f}",
        "measures": str(len(measured(results))),
        "not measured": str(sum(m.status == "skipped" for m in results.metrics)),
        "mismatches": str(len(results.mismatches)),
    }


def _trend_chart(metric: MetricSummary) -> Chart | None:
    """Draw the value over 1 / number of videos, with the line in 1/N and the floor."""
    steps = [s for s in metric.extras["trend"] if s.get("value") is not None]
    x, y = np.array([1 / s["videos"] for s in steps]), np.array([float(s["value"]) for s in steps])
    values = (f"{format_number(s['value'], metric.decimals)} with {format_count(s['videos'], 'video')}" for s in steps)
    words = "; ".join(values)
    floor, limit = metric.extras.get("floor") or {}, metric.extras.get("limit")
    lines = [Line(x, y, "dots")]
    if limit is not None and len(x):
        slope = float(np.dot(x, y - limit) / np.dot(x, x))
        lines.append(Line(np.array([0, x.max()]), np.array([limit, limit + slope * x.max()]), "other"))
        words += f". A line in 1/N meets 1/N = 0 at {format_number(limit, metric.decimals)}"
    if floor.get("value") is not None:
        value = format_number(floor["value"], metric.decimals)
        words += f". Halves of the ground truth against each other: {value}, dotted"
    return layout_chart(measure_header(metric), lines, "1 / number of videos", words + ".", floor=floor.get("value"))


def _worst_by_protocol(
    results: Results, worst: dict[str, list[str]], cards: dict[str, int]
) -> list[tuple[str, list[tuple[MetricSummary, list[WorstVideo]]]]]:
    rows = {v.video: v for v in results.videos}
    groups = by_protocol(m for m in measured(results) if m.name in worst)

    def videos(measure: str) -> list[WorstVideo]:
        return [WorstVideo(name, rows[name].values[measure].value, cards.get(name)) for name in worst[measure]]

    return [(protocol, [(m, videos(m.name)) for m in metrics]) for protocol, metrics in groups.items()]


def _clips_note(copies: ClipCopies, more: int) -> str:
    words = f"Small copies, up to {copies.seconds:g} s of each, about the worst moment of longer ones."
    if copies.left_out:
        words += (
            f" The page may hold {copies.limit >> 20} MB of them: {format_count(copies.left_out, 'clip')} had no room."
        )
    if more:
        words += f" {format_count(more, 'more video is', 'more videos are')} among the worst and only listed."
    return words


def _measures_of_videos(results: Results) -> list[MetricSummary]:
    """Return the measures that single videos have."""
    return [m for m in measured(results) if any(m.name in v.values for v in results.videos)]


def _weight_rows(results: Results) -> list[WeightRow]:
    files = dict.fromkeys((name, sha, m.licence) for m in measured(results) for name, sha in m.weights.items())
    return [
        WeightRow(name, sha, licence, [m.name for m in results.metrics if name in m.weights])
        for name, sha, licence in files
    ]

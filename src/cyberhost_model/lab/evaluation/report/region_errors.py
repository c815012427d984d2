"""Judge the rows of Table 1 by the error of their networks on held-out clips, region by region.

The error of a clip is that of `training.validation`; two rows see the same cuts and the same noise, so their errors are
paired clip by clip. It tells parts of a network apart long before the videos do.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cyberhost_model.lab.evaluation.bootstrap import interval_caution, paired_difference
from cyberhost_model.lab.evaluation.registry import find_measure
from cyberhost_model.lab.evaluation.report.latex import BOLD, booktabs, escape_latex
from cyberhost_model.lab.evaluation.report.wording import (
    DASH,
    FULL_MODEL,
    escape_markdown,
    format_count,
    format_interval,
    format_number,
    markdown_table,
    published_values,
)

REGIONS = ("whole", "face", "hands", "lips")
ABOUT: Mapping[str, tuple[str, ...]] = {
    "w/o Motion Codebook": ("face", "hands"),
    "w/o ID descriptor": ("face", "hands"),
    "w/o Face Codebook": ("face",),
    "w/o Hand Codebook": ("hands",),
    "w/o Body Movement": ("whole",),
    "w/o Hand Clarity": ("hands",),
    "w/o Pose-aligned Ref.": ("whole",),
    "w/o Local Enhancement": ("face", "hands"),
}
"""Row of Table 1 -> the regions that the part it leaves out is for (sections 3.2 and 3.3)."""
MEASURES: Mapping[str, tuple[str, ...]] = {"whole": ("SSIM", "FVD"), "face": ("CSIM",), "hands": ("HKC",)}
"""Region -> the measures of Table 1 that tell most of it. HKV is left out: it rises with jitter too."""

NOTHING = 0.005
"""Percent of change that is written as 0.00: surely or not, it is none."""


@dataclass(frozen=True)
class ClipError:
    """Hold the error of one network on one clip. errors: by region, NaN where the clip does not show it."""

    clip: str
    identity: str
    errors: Mapping[str, float]


Errors = Mapping[str, Sequence[Sequence[ClipError]]]
"""Row -> for each seed it was trained with the errors of all clips; the full model first."""


@dataclass(frozen=True)
class RegionChange:
    """Hold what leaving a part out does to the error of a region.

    error: mean over clips and seeds. change: of the error in percent, the geometric mean of the ratios to the full
    model's over the clips and seeds that both have, so that easy and hard clips count alike; ci95: its interval over
    people. by_seed: the change with each seed alone. about: whether the part is
    for this region. verdict: "worse" or "better" where the interval leaves out zero and all seeds have its sign,
    "seeds differ" where not all have, "no change" where the interval is within NOTHING of zero, "not told apart", or ""
    for the full model and without an interval.
    """

    row: str
    region: str
    error: float
    change: float
    ci95: tuple[float, float] | None
    clips: int
    people: int
    by_seed: tuple[float, ...]
    about: bool
    verdict: str


def region_changes(errors: Errors, seed: int) -> list[RegionChange]:
    """Compare every row with the first, region by region. seed: of the bootstrap."""
    full, *_ = errors
    return [_change(errors, full, row, region, seed) for row in errors for region in REGIONS]


def _change(errors: Errors, full: str, row: str, region: str, seed: int) -> RegionChange:
    """Compare a row with the full model trained with the same seeds."""
    differences, people, by_seed, values = [], [], [], []
    for whole, own in zip(errors[full], errors[row], strict=False):
        base = {clip.clip: clip.errors[region] for clip in whole}
        known = [c for c in own if c.errors[region] > 0 and base.get(c.clip, np.nan) > 0]  # NaN is not
        values += [c.errors[region] for c in known]
        if not known:
            continue
        found = [float(np.log(c.errors[region] / base[c.clip])) for c in known]
        by_seed.append(_percent(float(np.mean(found))))
        differences += found
        people += [c.identity for c in known]
    change, interval, n = paired_difference(np.zeros(len(differences)), np.array(differences), people, seed)
    sure = None if interval is None or row == full else (_percent(interval[0]), _percent(interval[1]))
    about = region in ABOUT.get(row, ())
    verdict = ""
    if sure is not None:
        verdict = "worse" if sure[0] > 0 else "better" if sure[1] < 0 else "not told apart"
        if max(map(abs, sure)) < NOTHING:
            verdict = "no change"
        elif verdict != "not told apart" and len({seed > 0 for seed in by_seed}) > 1:
            verdict = "seeds differ"
    error = float(np.mean(values)) if values else float("nan")
    clips = n // max(1, len(by_seed))
    seeds = tuple(by_seed) if row != full else ()
    return RegionChange(row, region, error, _percent(change), sure, clips, len(set(people)), seeds, about, verdict)


def _percent(log_ratio: float) -> float:
    return float(100 * np.expm1(log_ratio))


_HEAD = ("Without", "For", *REGIONS, "Reads as", "By seed", "In the paper")


def error_table(changes: Sequence[RegionChange], title: str) -> str:
    """Write the changes as Markdown: a row each, bold where the verdict is "worse" or "better"."""
    rows = [[escape_markdown(cells[0]), *cells[1:]] for cells in _rows(changes, "**{}**", str)]
    return f"### {title}\n\n{markdown_table(_HEAD, rows, left=2)}\n{_notes(changes)}\n"


def error_latex(changes: Sequence[RegionChange], title: str = "") -> str:
    """Write the same as a LaTeX table for the package booktabs."""
    rows = list(_rows(changes, BOLD, escape_latex))
    caption = f"{title} {_notes(changes)}".strip()
    return booktabs(_HEAD, [[[escape_latex(row[0]), *row[1:]] for row in rows]], caption)


def write_error_csv(changes: Mapping[str, Sequence[RegionChange]], file: Path) -> None:
    """Write changes as CSV, a line for each row and region; changes: by when they were measured, the first column.

    by_seed has the changes with spaces between.
    """
    names = ["row", "region", "about", "error", "change", "low", "high", "clips", "people", "by_seed", "verdict"]
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["when", *names])
        for when, found in changes.items():
            for each in error_values(found):
                low, high = each["ci95"] or (None, None)
                each |= {"low": low, "high": high, "about": int(each["about"])}
                each["by_seed"] = " ".join(f"{seed:.6g}" for seed in each["by_seed"])
                writer.writerow([when, *(each[name] for name in names)])


def paper_changes(row: str) -> str:
    """Write what the paper's Table 1 loses in a row, by the MEASURES of the regions its part is for.

    As in "CSIM −0.089 (worse)".
    """
    table, words = published_values()["Table 1"], []
    for name in (name for region in ABOUT.get(row, ()) for name in MEASURES[region]):
        measure = find_measure(name)
        change = float(table[row][name]) - float(table[FULL_MODEL][name])
        decimals = len(table[row][name].partition(".")[2])
        if measure is not None:
            worse = (change < 0) == (measure.direction == "up")
            verdict = "worse" if worse and change else "better" if change else "the same"
            words.append(f"{name} {format_number(change, decimals, sign=True)} ({verdict})")
    return ", ".join(words)


def error_values(changes: Sequence[RegionChange]) -> list[dict[str, Any]]:
    """Return the changes as JSON can hold them; numbers that are none are None."""
    return [
        {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(change).items()}
        for change in changes
    ]


def _rows(changes: Sequence[RegionChange], bold: str, text: Any) -> Iterator[list[str]]:
    by_row: dict[str, list[RegionChange]] = {}
    for change in changes:
        by_row.setdefault(change.row, []).append(change)
    for number, (row, found) in enumerate(by_row.items()):
        if number == 0:
            yield ["full model", "", *(text(format_number(c.error, 4)) for c in found), "", "", ""]
            continue
        cells = []
        for c in found:
            sure = f" ({format_interval(c.ci95, 2, sign=True)})" if c.ci95 else ""
            words = text(f"{format_number(c.change, 2, sign=True)}%{sure}")
            cells.append(bold.format(words) if c.verdict in ("worse", "better") else words)
        about = [c for c in found if c.about]
        verdicts = ", ".join(f"{c.region} {c.verdict}" for c in about if c.verdict) or "no interval"
        seeds = "; ".join(", ".join(format_number(s, 2, sign=True) for s in c.by_seed) for c in about) or DASH
        name, regions = row.removeprefix("w/o "), ", ".join(c.region for c in about)
        yield [name, regions, *cells, verdicts, text(seeds), text(paper_changes(row))]


def _notes(changes: Sequence[RegionChange]) -> str:
    clips, people = max(c.clips for c in changes), max(c.people for c in changes)
    fewer = {c.region: c for c in changes if c.clips < clips}
    shown = "".join(
        f" {region.capitalize()}: {format_count(c.clips, 'clip')} of {format_count(c.people, 'person', 'people')}."
        for region, c in fewer.items()
    )
    seeds = max((len(c.by_seed) for c in changes), default=0) or 1
    words = (
        "Mean squared error of the prediction; full model: the error itself, others: its "
        "change in percent (geometric mean over the clips) with a 95% interval over people. "
        f"{format_count(clips, 'clip')} of {format_count(people, 'person', 'people')}, {format_count(seeds, 'seed')}, "
        f"paired clip by clip on the same noise.{shown} More than the full model's is worse. "
        "By seed: the change in the region the part is for. "
        "In the paper: Table 1, other measures of videos; compare the sign."
    )
    caution = interval_caution(people)
    return f"{words} {caution.capitalize()}: the intervals are too narrow." if caution else words

"""Lay measured runs out in the form of the paper's Tables 1 to 3, as Markdown or LaTeX.

The paper's rows and ours follow other protocols on other videos: a rule parts them, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.metric import Measure
from cyberhost_model.lab.evaluation.registry import find_measure
from cyberhost_model.lab.evaluation.report.latex import ARROWS, BOLD, booktabs, escape_latex
from cyberhost_model.lab.evaluation.report.selection import check_comparable, measured_summary
from cyberhost_model.lab.evaluation.report.wording import (
    DASH,
    PUBLISHED_LABEL,
    escape_markdown,
    format_number,
    markdown_table,
    measure_header,
    published_values,
)
from cyberhost_model.lab.evaluation.results import Results, read_results, read_truth

TRUTH_ROW = "Ground truth"


@dataclass(frozen=True)
class PaperTable:
    """Rows of one table: the paper's with the figures as printed, and ours, of which the best are marked."""

    name: str
    """"Table 1"."""
    measures: tuple[Measure, ...]
    """Columns, in the paper's order."""
    printed: Mapping[str, Mapping[str, str]]
    """Row -> measure -> figure."""
    own: Mapping[str, Results]
    """Row -> run."""
    truth: Results | None = None
    """The ground truth itself, as far as the first run that was measured against it has it."""

    def value(self, row: str, measure: Measure) -> float | None:
        """Look up a value of a run of ours."""
        found = measured_summary(self.own[row], measure.name)
        return None if found is None else found.value

    def rows(self) -> Iterator[tuple[str, Results]]:
        """Yield our rows: the ground truth first, where it has a value, then the runs."""
        if self.truth is not None and any(measured_summary(self.truth, m.name) for m in self.measures):
            yield TRUTH_ROW, self.truth
        yield from self.own.items()

    def best(self, measure: Measure) -> set[str]:
        """List the rows of ours with the best value, where there are several to choose from."""
        values = {row: v for row in self.own if (v := self.value(row, measure)) is not None}
        if len(values) < 2:
            return set()
        most = (max if measure.direction == "up" else min)(values.values())
        return {row for row, value in values.items() if value == most}

    def notes(self) -> list[str]:
        """Say what the figures are of."""
        names = {measure.name for measure in self.measures}
        protocols = sorted({m.protocol for run in self.own.values() for m in run.metrics if m.name in names})
        counts = sorted({len(run.videos) for run in self.own.values()})
        videos = " or ".join(map(str, counts))
        return [
            f"The paper's rows: {PUBLISHED_LABEL}.",
            f"The others: protocol {', '.join(protocols)}, {videos} videos. Not to be compared with the paper's.",
        ]


def paper_table(number: int, reports: Sequence[str | Path]) -> PaperTable:
    """Read runs as rows of the paper's table 1, 2 or 3; a row is called as the run is.

    reports: folders that `cyberhost eval ... -o` wrote. Raises InputError for one that cannot be read, two runs of one
    name, and runs that do not follow one protocol with one set of weights.
    """
    name = f"Table {number}"
    printed = published_values().get(name)
    if printed is None:
        raise InputError(f"the paper has no results in a {name}; choose 1, 2 or 3")
    own: dict[str, Results] = {}
    truths: list[Results] = []
    for folder in reports:
        run = read_results(folder)
        if run.name in own:
            raise InputError(f"{folder}: another run is called {run.name!r} too; measure it again with another --name")
        own[run.name] = run
        truths += [truth] if (truth := read_truth(folder)) is not None else []
    names = dict.fromkeys(measure for row in printed.values() for measure in row)
    measures = tuple(measure for each in names if (measure := find_measure(each)) is not None)
    first, *others = own.items()
    for other, run in others:
        for measure in measures:
            check_comparable(measure.name, first[1], run, (repr(first[0]), repr(other)))
    return PaperTable(name, measures, printed, own, truths[0] if truths else None)


def markdown(table: PaperTable) -> str:
    """Write a table as Markdown; the best of our rows are bold."""
    head = ["Method", *map(measure_header, table.measures)]
    rows = [
        [escape_markdown(f"{row} (paper)"), *(cells.get(measure.name, DASH) for measure in table.measures)]
        for row, cells in table.printed.items()
    ]
    for row, run in table.rows():
        cells = [_cell(table, row, run, measure, "**{}**") for measure in table.measures]
        rows.append([escape_markdown(row), *cells])
    return f"## {table.name}\n\n{markdown_table(head, rows)}\n" + "\n".join(table.notes()) + "\n"


def latex(table: PaperTable) -> str:
    """Write a table as a LaTeX `table` for the package booktabs; the best of our rows are bold."""
    head = ["Method", *(f"{escape_latex(measure.name)}{ARROWS[measure.direction]}" for measure in table.measures)]
    printed = [
        [escape_latex(f"{row} (paper)"), *(escape_latex(cells.get(m.name, DASH)) for m in table.measures)]
        for row, cells in table.printed.items()
    ]
    own = [
        [escape_latex(row), *(_cell(table, row, run, m, BOLD, escape_latex) for m in table.measures)]
        for row, run in table.rows()
    ]
    return booktabs(head, [printed, own], " ".join(table.notes()))


def _cell(
    table: PaperTable,
    row: str,
    run: Results,
    measure: Measure,
    bold: str,
    text: Callable[[str], str] = lambda words: words,
) -> str:
    """Write a value of ours, bold where it is the best of the runs."""
    found = measured_summary(run, measure.name)
    words = text(DASH if found is None else format_number(found.value, found.decimals))
    return bold.format(words) if run is not table.truth and row in table.best(measure) else words

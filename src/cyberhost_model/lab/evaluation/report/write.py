"""The files of a report, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from cyberhost_model.lab.evaluation.report.films import Films
from cyberhost_model.lab.evaluation.report.page import report_page
from cyberhost_model.lab.evaluation.report.summary import summary_text
from cyberhost_model.lab.evaluation.results import Evaluation, Results
from cyberhost_model.media.files import written_whole

SUMMARY_TEXT, PAGE = "summary.md", "report.html"


def write_report(
    evaluation: Evaluation, folder: Path, films: Films | None = None, truth: Results | None = None
) -> list[Path]:
    """Write summary.md and report.html into a folder that is there.

    Raises OutputError.

    films: how much film the page may hold. truth: the results of the same run with the ground truth in the place of the
    generated videos, for the row that shows what these numbers are for real people.
    """
    return [
        write_text(folder / SUMMARY_TEXT, summary_text(evaluation.results, truth)),
        write_text(folder / PAGE, report_page(evaluation, films, truth)),
    ]


def write_text(path: Path, text: str) -> Path:
    """Write a text file. Raises OutputError."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="")
    return path

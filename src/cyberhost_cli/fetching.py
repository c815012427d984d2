"""What a command says while weights are fetched: a bar in bytes, with speed and time left, and the licence."""

from __future__ import annotations

import sys
from typing import Any


class FetchBar:
    """A bar for each model that is fetched; it is drawn when the first bytes come and stays when the last have come."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._of = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """`done` of `total` bytes of `what` are there."""
        if self._bar is None or self._of != what:
            self._start(what, total)
        self._bar.update(self._task, completed=done)
        if done >= total:
            self._bar.stop()
            self._bar = None

    def _start(self, what: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        if self._bar is not None:
            self._bar.stop()
        columns = (TextColumn("Fetching {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task, self._of = self._bar.add_task(what, total=total), what
        self._bar.start()


def report_fetches(quiet: bool) -> None:
    """From now on fetches report on stderr: the bar where it is a terminal, lines unless `quiet`."""
    from cyberhost_model.hub.progress import Report, report_to

    if quiet:
        report_to(Report(tell=None))
        return
    bar = FetchBar() if sys.stderr.isatty() else _no_bar
    report_to(Report(progress=bar, tell=lambda line: print(line, file=sys.stderr, flush=True)))


def _no_bar(what: str, done: int, total: int) -> None:
    """Where stderr is a file, a bar would fill it."""

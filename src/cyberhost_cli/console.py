"""What a command says while weights are fetched: a bar in bytes, with speed and time left, and the licence."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# What a command says: progress and words on stderr, data (one JSON object) on stdout.


Tick = Callable[..., None]  # tick(done), tick(done, total) or tick(done, total, words)


@dataclass(frozen=True)
class Console:
    """`quiet`: errors alone. `as_json`: one object on stdout. `debug`: the libraries may speak too."""

    quiet: bool = False
    as_json: bool = False
    debug: bool = False

    def note(self, line: str) -> None:
        """A line of information on stderr."""
        if not self.quiet and not self.as_json:
            print(line, file=sys.stderr, flush=True)

    def warn(self, line: str) -> None:
        """A warning on stderr; with --json it is in the object as well."""
        if not self.quiet:
            print(f"cyberhost: warning: {line}", file=sys.stderr, flush=True)

    def data(self, values: dict[str, Any]) -> None:
        """The result, printed only with --json."""
        if self.as_json:
            print(json.dumps(values, ensure_ascii=False), flush=True)

    @contextlib.contextmanager
    def progress(self, label: str, total: int | None, unit: str = "frames") -> Iterator[Tick]:
        """A bar with ETA that counts `unit`, where stderr is a terminal; elsewhere nothing is drawn."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda *_: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Eta

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
        columns += (TimeElapsedColumn(), TextColumn("left"), Eta(), TextColumn("{task.fields[words]}"))  # type: ignore[assignment]
        # Frames come a clip at a time, so the speed is averaged over minutes.
        with Progress(*columns, console=Console(stderr=True), speed_estimate_period=300) as bar:
            task = bar.add_task(label, total=total, words="")

            def tick(done: int, of: int | None = None, words: str = "") -> None:
                bar.update(task, completed=done, total=of if of is not None else total, words=words)

            yield tick

    def silence_libraries(self) -> None:
        """Keep the warnings and bars of the libraries off stderr, before they are imported; --debug lets them speak.

        Weights that have to be fetched report through this program's own bar.
        """
        report_fetches(self.quiet)
        if self.debug:
            return
        warnings.filterwarnings("ignore")
        for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "HF_HUB_VERBOSITY"):
            os.environ.setdefault(name, "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        logging.getLogger().setLevel(logging.ERROR)


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
        columns = (
            TextColumn("Fetching {task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task, self._of = self._bar.add_task(what, total=total), what
        self._bar.start()


def report_fetches(quiet: bool) -> None:
    """From now on fetches report on stderr: the bar where it is a terminal, lines unless `quiet`."""
    from cyberhost_model.hub.progress import Reporter, set_reporter

    if quiet:
        set_reporter(Reporter(tell=None))
        return
    bar = FetchBar() if sys.stderr.isatty() else _no_bar
    set_reporter(Reporter(progress=bar, tell=lambda line: print(line, file=sys.stderr, flush=True)))


def _no_bar(what: str, done: int, total: int) -> None:
    """Where stderr is a file, a bar would fill it."""

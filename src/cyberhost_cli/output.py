"""What a command says: progress and words on stderr, data (one JSON object) on stdout."""

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

from cyberhost_cli.fetching import report_fetches

Tick = Callable[..., None]  # tick(done), tick(done, total) or tick(done, total, words)


@dataclass(frozen=True)
class Sink:
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

    def hush_libraries(self) -> None:
        """Keep the warnings and bars of the libraries off stderr, before they are imported; --debug lets them speak.
        Weights that have to be fetched report through this program's own bar."""
        report_fetches(self.quiet)
        if self.debug:
            return
        warnings.filterwarnings("ignore")
        for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "HF_HUB_VERBOSITY"):
            os.environ.setdefault(name, "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        logging.getLogger().setLevel(logging.ERROR)

"""What a command prints: progress and words on stderr, data (one JSON object) on stdout."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from cyberhost_cli.estimate import Estimate, clock_words
from cyberhost_cli.terminal import clear, on_terminal, tell
from cyberhost_model.errors import printable
from cyberhost_model.options import option

_LOG_SECONDS = 60.0  # between lines of progress in a log
Tick = Callable[..., None]  # tick(done), tick(done, total) or tick(done, total, words)


@dataclass(frozen=True)
class Console:
    """The options --quiet, --json and --debug of every command, and what follows from them."""

    quiet: bool = option(False, "Print only errors.", "--quiet", "-q")
    as_json: bool = option(False, "Print one JSON object on stdout.", "--json")
    debug: bool = option(False, "Show the traceback of an error.")

    def note(self, line: str) -> None:
        """Print a line of information on stderr; not with --quiet or --json."""
        if not self.quiet and not self.as_json:
            tell(line)

    def warn(self, line: str) -> None:
        """Print a warning on stderr; with --json it is in the object as well."""
        if not self.quiet:
            tell(f"cyberhost: warning: {' '.join(line.split())}")

    def text(self, lines: Iterable[str]) -> None:
        """Print the result in words on stdout; not with --quiet or --json."""
        if not self.quiet and not self.as_json:
            for line in lines:
                _put(line, sys.stdout)

    def data(self, values: dict[str, Any]) -> None:
        """Print the result as one JSON object on stdout; only with --json."""
        if self.as_json:
            _put(_escape(json.dumps(values, ensure_ascii=False)), sys.stdout)

    def for_this_process(self) -> Console:
        """Keep the processes that torchrun starts quiet, all but the first."""
        if os.environ.get("RANK", "0") == "0":
            return self
        return dataclasses.replace(self, quiet=True, as_json=False)

    @contextlib.contextmanager
    def progress(self, label: str, total: int | None, unit: str = "frames", clip: int | None = None) -> Iterator[Tick]:
        """Draw a bar that counts `unit`, with the time elapsed and left, where stderr is a terminal.

        clip: how many come at a time; the time left is then told after the first clip (`estimate.Estimate`), and
        elsewhere than on a terminal a line a minute is printed instead of the bar.
        """
        estimate = Estimate(total, clip) if clip is not None and total is not None else None
        if self.quiet or not on_terminal():
            lines = estimate is not None and not self.quiet and not self.as_json
            yield _minute_lines(label, unit, estimate) if estimate is not None and lines else lambda *_: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = [
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("elapsed"),
        ]
        columns += [TextColumn("{task.fields[left]}")] if estimate else [TimeRemainingColumn(), TextColumn("left")]
        columns += [TextColumn("{task.fields[words]}", markup=False)]
        with _new_bar(*columns) as bar:
            task = bar.add_task(printable(label), total=total, words="", left="")

            def tick(done: int, of: int | None = None, words: str = "") -> None:
                left = ""
                if estimate is not None:
                    estimate.update(done)
                    left = left_words(estimate)
                bar.update(
                    task, completed=done, total=of if of is not None else total, words=printable(words), left=left
                )

            yield tick

    def silence_libraries(self) -> None:
        """Keep the warnings and bars of the libraries off stderr, before they are imported; --debug lets them speak.

        Weights that have to be fetched report through this program's own bar.
        """
        self._report_fetches()
        if self.debug:
            return
        warnings.filterwarnings("ignore")
        for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "HF_HUB_VERBOSITY"):
            os.environ.setdefault(name, "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns where a batch uses every parameter
        logging.getLogger().setLevel(logging.ERROR)

    def _report_fetches(self) -> None:
        """Report fetches on stderr: a bar where it is a terminal, lines unless --quiet."""
        from cyberhost_model.hub.progress import Reporter, set_reporter

        if self.quiet:
            set_reporter(Reporter(tell=None))
            return
        bar = FetchBar() if on_terminal() else _no_bar
        set_reporter(Reporter(progress=bar, tell=tell))


def left_words(estimate: Estimate) -> str:
    """Say how long it still takes: "about 1:30 left"; nothing before that is known."""
    left = estimate.left()
    return "" if left is None else f"about {clock_words(left)} left"


def _minute_lines(label: str, unit: str, estimate: Estimate) -> Tick:
    """Make a tick that prints a line a minute, for logs."""
    told = 0.0

    def tick(done: int, of: int | None = None, words: str = "") -> None:
        nonlocal told
        estimate.update(done)
        if estimate.elapsed - told >= _LOG_SECONDS:
            told = estimate.elapsed
            parts = (
                f"{done} of {estimate.total} {unit}",
                words,
                f"{clock_words(told)} elapsed",
                left_words(estimate),
            )
            tell(f"cyberhost: {label}: {', '.join(part for part in parts if part)}")

    return tick


def _put(line: str, stream: TextIO) -> None:
    """Print a line without the escapes and broken letters that names of files may hold.

    Letters that the stream's encoding does not have are printed as their codes.
    """
    encoding = stream.encoding or "utf-8"
    print(printable(line).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def _escape(text: str) -> str:
    """Write what `printable` would replace, in JSON that stays the same for its reader."""
    return "".join(c if printable(c) == c else f"\\u{ord(c):04x}" for c in text) if printable(text) != text else text


class FetchBar:
    """A bar for each model that is fetched; it is drawn when the first bytes come and stays when the last have come."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._name = ""

    def __call__(self, name: str, done: int, total: int) -> None:
        """Show that `done` of `total` bytes of `name` are there."""
        if self._bar is None or self._name != name:
            self._start(name, total)
        self._bar.update(self._task, completed=done)
        if done >= total:
            self._bar.stop()
            self._bar = None

    def _start(self, name: str, total: int) -> None:
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        if self._bar is not None:
            self._bar.stop()
        columns = (
            TextColumn("Fetching {task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = _new_bar(*columns)
        self._task, self._name = self._bar.add_task(name, total=total), name
        self._bar.start()


def _new_bar(*columns: Any, **settings: Any) -> Any:
    from rich.console import Console as RichConsole
    from rich.progress import Progress

    clear()
    return Progress(*columns, console=RichConsole(stderr=True), **settings)


def _no_bar(name: str, done: int, total: int) -> None:
    """Draw nothing: where stderr is a file, a bar would fill it."""

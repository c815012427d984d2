"""Progress and lines of a fetch, and sizes in words.

The program that starts sets once where they go (`reporting`); the code that needs weights need not know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_log = logging.getLogger("cyberhost_model.hub")


def _say_nothing(what: str, done: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Reporter:
    """Where progress and lines of a fetch go.

    `progress(what, done, total)` counts bytes of the file or model `what`; `tell(line)` shows a line, such as a
    licence, to the user; None: nobody reads it.
    """

    progress: Callable[[str, int, int], None] = _say_nothing
    tell: Callable[[str], None] | None = _log.warning


_current: ContextVar[Reporter] = ContextVar("report", default=Reporter())  # noqa: B039  (frozen)


def current_reporter() -> Reporter:
    """Return the reporter in use; by default lines go to the log `cyberhost_model.hub`, and progress nowhere."""
    return _current.get()


def advance(what: str, before: int, total: int, there: int) -> None:
    """Report that of `total` bytes of `what` there are `before + there`."""
    current_reporter().progress(what, before + there, total)


def set_reporter(report: Reporter) -> None:
    """Use `report` from now on, for a program that starts."""
    _current.set(report)


@contextmanager
def reporting(report: Reporter) -> Iterator[None]:
    """Use `report` inside the block."""
    token = _current.set(report)
    try:
        yield
    finally:
        _current.reset(token)


def format_size(size: float) -> str:
    """Format bytes as "999 B", "262 KB", "3.4 GB": as disks are sold, in powers of ten."""
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"

"""Sizes in words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

# How a fetch tells of itself: bytes as they come, and lines such as a licence.
#
# Whoever starts the program says once where to (`reporting`); the code that needs weights need not know.


_log = logging.getLogger("cyberhost_model.hub")


def _say_nothing(what: str, done: int, total: int) -> None:
    """No progress."""


@dataclass(frozen=True)
class Report:
    """`progress(what, done, total)` counts bytes of the file or model `what`; `tell(line)` is for people, None where
    nobody listens.
    """

    progress: Callable[[str, int, int], None] = _say_nothing
    tell: Callable[[str], None] | None = _log.warning


_current: ContextVar[Report] = ContextVar("report", default=Report())  # noqa: B039  (frozen)


def current() -> Report:
    """Where to report now: by default lines go to the log `cyberhost_model.hub`, and progress nowhere."""
    return _current.get()


def advance(what: str, before: int, total: int, there: int) -> None:
    """Tell that of `total` bytes of `what` there are `before + there`."""
    current().progress(what, before + there, total)


def report_to(report: Report) -> None:
    """Report to `report` from now on, for a program that starts."""
    _current.set(report)


@contextmanager
def reporting(report: Report) -> Iterator[None]:
    """Report to `report` inside."""
    token = _current.set(report)
    try:
        yield
    finally:
        _current.reset(token)


def human(size: float) -> str:
    """ "999 B", "262 KB", "3.4 GB": as disks are sold, in powers of ten."""
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"

"""Lines on stderr that cannot stop a job: whatever stderr is, closed, full or without a reader.

Little is imported, so that the first line of a long command comes at once.
"""

from __future__ import annotations

import contextlib
import os
import sys

from cyberhost_model.errors import printable

LONG = dict.fromkeys(("animate", "reenact", "multimodal", "dub", "live", "batch", "serve", "ui"), "loading")
"""Commands that begin with a line, before anything is imported."""
_ERASE = "\r\033[K"
_line_stands = False  # whether the last thing on the terminal is a line that the next one takes the place of


def open_standard_streams() -> None:
    """Put the null device in the place of standard streams that the caller closed.

    Otherwise the next file that is opened would take the number of stderr, and messages would be written into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)


def on_terminal() -> bool:
    """Return whether stderr is a terminal."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError, OSError):
        return False


def tell(line: str) -> None:
    """Print a line on stderr, where that can be written to.

    Escapes and broken letters, which names of files may hold, are printed as their codes.
    """
    clear()
    _write(f"{printable(line)}\n")


def announce(arguments: list[str]) -> None:
    """Say on a terminal that a long command has begun; the next line takes this one's place."""
    global _line_stands
    word = next((word for word in arguments if not word.startswith("-")), "")
    quiet = {"--quiet", "-q", "--json", "--help", "-h", "--version"}.intersection(arguments)
    if word in LONG and not quiet and on_terminal():
        _write(f"cyberhost: {LONG[word]} ...")
        _line_stands = True


def clear() -> None:
    """Take the announcement off the terminal."""
    global _line_stands
    if _line_stands:
        _write(_ERASE)
        _line_stands = False


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        encoding = sys.stderr.encoding or "utf-8"
        sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stderr.flush()

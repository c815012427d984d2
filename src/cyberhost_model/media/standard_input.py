"""Standard input as a file, for readers that must go back and forth in what they read."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cyberhost_model.errors import InputError, ResourceError

STANDARD_INPUT = Path("-")
LIMIT = 16 << 30  # bytes
_BLOCK = 1 << 20


@contextlib.contextmanager
def as_file(path: Path) -> Iterator[Path]:
    """Yield `path` itself, or for "-" a temporary file with all that standard input gives.

    Messages of InputErrors that the block raises name standard input in the place of that file. Raises InputError where
    nothing is given, and ResourceError where the disk has no room.
    """
    if path != STANDARD_INPUT:
        yield path
        return
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise InputError("-: nothing is given on standard input; pipe a file into it, or give its name")
    with tempfile.TemporaryDirectory(prefix="cyberhost-") as folder:
        file = Path(folder) / "standard-input"
        try:
            size = _copy(file)
        except OSError as error:
            raise ResourceError(
                f"standard input cannot be kept in {tempfile.gettempdir()} ({error.strerror or error}); free some "
                "space or set TMPDIR to another folder"
            ) from None
        if size == 0:
            raise InputError("standard input: is empty (0 bytes)")
        try:
            yield file
        except InputError as error:
            raise type(error)(str(error).replace(os.fspath(file), "standard input")) from None


def _copy(file: Path) -> int:
    """Copy standard input to `file`; returns how many bytes. Raises InputError above `LIMIT`."""
    size = 0
    with file.open("wb") as out:
        while block := sys.stdin.buffer.read(_BLOCK):
            size += len(block)
            if size > LIMIT:
                raise InputError(f"standard input: gives more than {LIMIT >> 30} GiB; give a file")
            out.write(block)
    return size

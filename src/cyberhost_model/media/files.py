"""Digests of files."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cyberhost_model.errors import OutputError

# Where an output is to go: looked at before any work is done for it.


def check_target(out: str | os.PathLike[str], suffixes: Sequence[str], overwrite: bool = False) -> Path:
    """Check that a file whose name ends in one of `suffixes` can be written to `out`.

    Returns it as a Path; raises OutputError.
    """
    out = Path(out)
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; give the name of a file, for example {out / f'out{suffixes[0]}'}")
    if out.suffix.lower() not in suffixes:
        raise OutputError(
            f"{out}: the name must end in {' or '.join(filter(None, [', '.join(suffixes[:-1]), suffixes[-1]]))}"
        )
    if out.exists() and not overwrite:
        raise OutputError(f"{out}: exists already; give --overwrite (overwrite=True) or another name")
    check_parent(out)
    return out


def check_parent(out: Path) -> None:
    """Check that something can be made beside the name `out`. Raises OutputError."""
    if not out.parent.is_dir():
        raise OutputError(f"{out}: the folder {out.parent} does not exist; create it first")
    try:  # trying is the only check that also sees read-only file systems, quotas and rights given to root
        handle, probe = tempfile.mkstemp(prefix=".cyberhost-", suffix=".part", dir=out.parent)
        os.close(handle)
        Path(probe).unlink()
    except OSError as error:
        raise OutputError(f"{out}: the folder {out.parent} cannot be written to ({error.strerror})") from None


_BLOCK = 1 << 22


def hexdigest(path: Path, state: Any) -> str:
    """The hex digest of a file's content, read in blocks into a hash of `hashlib`, which may have been fed before."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block ends well.

    Raises OutputError where the disk does not let it.
    """
    part = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.part{path.suffix}")  # numpy wants its own suffix
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); check space and rights") from None
    finally:
        part.unlink(missing_ok=True)

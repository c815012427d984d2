"""Where an output is to go: looked at before any work is done for it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .errors import OutputError


def check_target(out: str | os.PathLike[str], suffixes: Sequence[str], overwrite: bool = False) -> Path:
    """Check that a file whose name ends in one of `suffixes` can be written to `out`. Returns it as a Path; raises OutputError."""
    out = Path(out)
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; give the name of a file, for example {out / f'out{suffixes[0]}'}")
    if out.suffix.lower() not in suffixes:
        raise OutputError(f"{out}: the name must end in {' or '.join(filter(None, [', '.join(suffixes[:-1]), suffixes[-1]]))}")
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

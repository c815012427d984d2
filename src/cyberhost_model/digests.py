"""Digests of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_BLOCK = 1 << 22


def hexdigest(path: Path, state: Any) -> str:
    """The hex digest of a file's content, read in blocks into a hash of `hashlib`, which may have been fed before."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()

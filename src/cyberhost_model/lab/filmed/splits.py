"""Whose video it is, and what is kept out of training: a tenth of the identities and of the speakers, by a hash of
their names.

No face recognition network comes with this package, so identities are taken from where the video lies (its file or its
folder), not from the face.
"""

from __future__ import annotations

from pathlib import Path
from zlib import crc32


def identity_of(path: Path, by: str) -> str:
    """The name of the identity in a video: its folder's path for `by` "folder", its own path for "video"."""
    return str(path.parent if by == "folder" else path.with_suffix(""))


def split_of(identity: str) -> str:
    """ "train" or "held_out" (a tenth, by a hash of the name)."""
    return "held_out" if held_out(identity) else "train"


def held_out(name: str) -> bool:
    """True when the identity or speaker called `name` is never trained on."""
    return crc32(name.encode()) % 10 == 0

"""One file from the network: resumed, checked before it gets its name, safe against a second process.

The file grows under a name of its own and is moved to its place when its digest is right, so whatever lies in its
place is whole. A download that stopped goes on where it was, in another process too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from cyberhost_model.errors import NetworkError, OutputError
from cyberhost_model.hub.cache import file_lock, http_get
from cyberhost_model.hub.errors import is_interrupted
from cyberhost_model.hub.progress import format_size
from cyberhost_model.media.files import hexdigest

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TRIES = 5  # a second apart, of connections that bring nothing


def download(
    url: str,
    target: Path,
    *,
    size: int,
    digest: str,
    lock: Path,
    headers: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Fetch `url` to `target`, unless it is there.

    size: bytes; digest: hex, sha256 or git's sha1 of a blob (40 digits), as the Hub states them; lock: file that keeps
    other processes out meanwhile. `progress` is called with the bytes there are so far. Raises NetworkError for a
    wrong checksum (nothing is left behind), OutputError where the disk does not take it, and huggingface_hub's errors
    for what the server says (`errors.translated_errors`).
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(lock):
            if not target.exists():
                _fetch(url, target, size, digest, dict(headers or {}), progress or (lambda done: None))
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(
                f"the disk of {target.parent} is full; free {format_size(size)} and run it again (it goes on where it "
                "stopped), or set HF_HOME"
            ) from None
        if isinstance(error, PermissionError):
            raise OutputError(
                f"{error.filename or target.parent}: may not be written; set HF_HOME to a folder of yours"
            ) from None
        raise


def need_space(folder: Path, size: int) -> None:
    """Check that the disk of `folder`, which need not exist yet, has `size` bytes free. Raises OutputError."""
    free = free_space(folder)
    if free < size:
        raise OutputError(
            f"{format_size(size)} are needed in {folder}, and its disk has {format_size(free)} free; free some, or set "
            "HF_HOME to a folder on another disk"
        )


def free_space(folder: Path) -> int:
    """Measure the bytes free on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(_nearest(folder)).free


def device_of(folder: Path) -> int:
    """Return the number of the disk a folder lies on, or would."""
    return _nearest(folder).stat().st_dev


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def digest_of(path: Path, like: str) -> str:
    """Compute the digest of a file, of the kind of `like`: sha256, or for 40 digits git's sha1 of a blob."""
    if len(like) == 40:
        return hexdigest(path, hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False))
    return hexdigest(path, hashlib.sha256())


def partial_path(target: Path) -> Path:
    """Return where a file grows."""
    return target.with_name(f"{target.name}.incomplete")


def partial_size(target: Path) -> int:
    """Measure the bytes that a download which stopped has brought of a file."""
    part = partial_path(target)
    return part.stat().st_size if part.exists() else 0


def _fetch(
    url: str, target: Path, size: int, digest: str, headers: dict[str, str], progress: Callable[[int], None]
) -> None:
    part, there = partial_path(target), partial_size(target)
    if there > size:
        part.unlink()
        there = 0
    need_space(target.parent, size - there)
    _grow(url, part, size, headers, progress)
    if (found := digest_of(part, digest)) != digest and (there or part.stat().st_size != size):
        part.unlink()  # what was there before was of another file, or the server cannot resume
        _grow(url, part, size, headers, progress)
        found = digest_of(part, digest)
    if found != digest:
        part.unlink()
        raise NetworkError(
            f"{url}: what came is not the file (checksum {found[:12]}, expected {digest[:12]}); it was removed, try "
            "again later"
        )
    os.replace(part, target)


def _grow(url: str, part: Path, size: int, headers: dict[str, str], progress: Callable[[int], None]) -> None:
    """Append what is missing of `part`.

    A connection that breaks is taken up again where it broke, as often as connections bring something, and a few times
    where they bring nothing.
    """
    part.touch()
    idle = 0
    while (there := part.stat().st_size) < size:  # more than that: another file, and the digest will tell
        broken: Exception | None = None
        try:
            with part.open("ab") as file:
                http_get(url, _CountingFile(file, progress), there, headers)
        except Exception as error:
            if not is_interrupted(error):
                raise
            broken = error
        idle = 0 if part.stat().st_size > there else idle + 1
        if idle > _TRIES:
            raise broken or ConnectionError("the server ends before the file does")
        if idle:
            time.sleep(1)
    progress(size)


class _CountingFile:
    """A file that reports its length after every write."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], None]):
        self._file, self._progress = file, progress

    def write(self, block: bytes) -> int:
        written = self._file.write(block)
        self._progress(self._file.tell())
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

"""One file from the network: resumed, checked before it gets its name, safe against a second process.

The file grows under a name of its own and is moved to its place when its digest is right, so whatever lies in its place
is whole. A download that stopped goes on where it was, in another process too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from cyberhost_model.errors import NetworkError, OutputError
from cyberhost_model.hub.errors import broken_off
from cyberhost_model.hub.progress import human
from cyberhost_model.media.files import hexdigest

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
    other processes out meanwhile. `progress` is told the bytes there are so far. Raises NetworkError for a wrong
    checksum (nothing is left behind), OutputError where the disk does not take it, and huggingface_hub's errors for
    what the server says (`failures.explained`).
    """
    from huggingface_hub.utils import WeakFileLock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not target.exists():
                _fetch(url, target, size, digest, dict(headers or {}), progress or (lambda done: None))
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(
                f"the disk of {target.parent} is full; free {human(size)} and run it again (it goes on where it "
                "stopped), or set HF_HOME"
            ) from None
        if isinstance(error, PermissionError):
            raise OutputError(
                f"{error.filename or target.parent}: may not be written; set HF_HOME to a folder of yours"
            ) from None
        raise


def need_space(folder: Path, size: int) -> None:
    """Raises OutputError where the disk of `folder`, which need not exist yet, has less than `size` bytes free."""
    free = free_space(folder)
    if free < size:
        raise OutputError(
            f"{human(size)} are needed in {folder}, and its disk has {human(free)} free; free some, or set HF_HOME to "
            "a folder on another disk"
        )


def free_space(folder: Path) -> int:
    """Bytes free on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(_nearest(folder)).free


def device_of(folder: Path) -> int:
    """Which disk a folder lies on, or would."""
    return _nearest(folder).stat().st_dev


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def digest_of(path: Path, like: str) -> str:
    """The digest of a file, of the kind of `like`: sha256, or for 40 digits git's sha1 of a blob."""
    if len(like) == 40:
        return hexdigest(path, hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False))
    return hexdigest(path, hashlib.sha256())


def growing(target: Path) -> Path:
    """Where a file grows."""
    return target.with_name(f"{target.name}.incomplete")


def grown(target: Path) -> int:
    """Bytes of a file that has not its place yet, from a download that stopped."""
    part = growing(target)
    return part.stat().st_size if part.exists() else 0


def _fetch(
    url: str, target: Path, size: int, digest: str, headers: dict[str, str], progress: Callable[[int], None]
) -> None:
    part, there = growing(target), grown(target)
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

    A connection that breaks is taken up again as long as every one brings something.
    """
    from huggingface_hub.file_download import http_get

    headers = {**headers, "Accept-Encoding": "identity"}  # or sizes and ranges would be those of the compressed file
    while True:
        there = part.stat().st_size if part.exists() else 0
        if there >= size:  # more: the server could not resume, and the digest will tell
            progress(size)
            return
        try:
            with part.open("ab") as file:
                counted: Any = _Counted(file, progress)
                http_get(
                    url, counted, resume_size=there, headers=headers, expected_size=size, displayed_filename=part.name
                )
        except Exception as error:
            if not broken_off(error) or part.stat().st_size <= there:
                raise


class _Counted:
    """A file that tells how long it is after every write."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], None]):
        self._file, self._progress = file, progress

    def write(self, block: bytes) -> int:
        written = self._file.write(block)
        self._progress(self._file.tell())
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

"""The samples of one sound in a temporary file: decoded once, read as often as they are asked for, on disk only."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cyberhost_model.errors import ResourceError

_BLOCK = 1 << 17  # samples of each channel that are read at once
_UNNAMED = os.name != "nt"  # elsewhere a file lives on without a name, and nothing is left of a process that is killed


class SampleFile:
    """Samples float32 (length, channels) in a file that goes with this object, 4 bytes each."""

    def __init__(self, blocks: Iterable[np.ndarray], channels: int) -> None:
        """Write `blocks`, float32 (n, channels). Raises ResourceError where the disk has no room."""
        self.channels, self.length = channels, 0
        try:
            self._file: Any = tempfile.TemporaryFile(prefix="cyberhost-") if _UNNAMED else _named_file()
            for block in blocks:
                self._file.write(np.ascontiguousarray(block, dtype="<f4").data)
                self.length += len(block)
            self._file.flush()
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            hint = "free some space or set TMPDIR to another folder" if full else "check the folder"
            raise ResourceError(
                f"the sound's samples cannot be kept in {tempfile.gettempdir()} ({error.strerror or error}); {hint}"
            ) from None
        if not _UNNAMED:
            self._file.close()
            weakref.finalize(self, _remove, self._file.name)

    def blocks(self) -> Iterator[np.ndarray]:
        """Read the samples in order: float32 (n, channels)."""
        width, place, end = 4 * self.channels, 0, 4 * self.channels * self.length
        with contextlib.nullcontext() if _UNNAMED else open(self._file.name, "rb") as file:
            while place < end:
                count = min(_BLOCK * width, end - place)
                data = os.pread(self._file.fileno(), count, place) if file is None else file.read(count)
                data = data[: len(data) // width * width]
                if not data:
                    raise ResourceError("the file with the sound's samples was cut off; run again")
                place += len(data)
                yield np.frombuffer(data, "<f4").reshape(-1, self.channels)

    def input_arguments(self, rate: int) -> tuple[list[str], dict[str, Any]]:
        """Build ffmpeg's arguments that read the samples at `rate` Hz, and what `Popen` needs for them."""
        name, settings = self._file.name, {}
        if _UNNAMED:
            os.lseek(self._file.fileno(), 0, os.SEEK_SET)  # on macOS /dev/fd shares the position
            name, settings = f"/dev/fd/{self._file.fileno()}", {"pass_fds": (self._file.fileno(),)}
        layout = ["-f", "f32le", "-ar", str(rate), "-ac", str(self.channels)]
        return ["-protocol_whitelist", "file", *layout, "-i", f"file:{name}"], settings


def _named_file() -> Any:
    return tempfile.NamedTemporaryFile(prefix="cyberhost-", suffix=".f32", delete=False)


def _remove(name: str) -> None:
    with contextlib.suppress(OSError):
        Path(name).unlink()

"""The ffmpeg that videos are read and written with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from ..errors import ResourceError
from ..inputs.media import ffmpeg_binary

ENCODERS = ("libx264", "aac")
"""What `video/writer.py` writes with."""
_PATIENCE = 20.0  # seconds


@dataclass(frozen=True)
class Ffmpeg:
    """path of the binary; encoders: those of ENCODERS it has."""

    path: str
    version: str
    encoders: tuple[str, ...]


def find_ffmpeg() -> Ffmpeg:
    """Raises ResourceError where there is none, it does not run, or it lacks an encoder."""
    path = ffmpeg_binary()
    first = _said(path, "-version").split("\n", 1)[0]
    names = {words[1] for words in map(str.split, _said(path, "-encoders").splitlines()) if len(words) > 1}
    found = Ffmpeg(path, first.removeprefix("ffmpeg version ").split(" ", 1)[0], tuple(name for name in ENCODERS if name in names))
    if missing := set(ENCODERS) - set(found.encoders):
        raise ResourceError(f"{path} cannot write {' and '.join(sorted(missing))}: unset IMAGEIO_FFMPEG_EXE, or reinstall imageio-ffmpeg")
    return found


def _said(path: str, argument: str) -> str:
    try:
        run = subprocess.run([path, "-hide_banner", argument], capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ResourceError(f"{path} does not run ({str(error).splitlines()[0]}): reinstall imageio-ffmpeg") from None
    return run.stdout

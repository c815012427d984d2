"""The ffmpeg binary that imageio-ffmpeg brings: found once, and given only local files of known containers."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cyberhost_model.errors import InputError, ResourceError

# Containers that carry sound. Playlists, scripts and subtitles are left out on purpose: a text file must not be
# taken for sound, and no file may make ffmpeg open another one.
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,loas,matroska,webm,mov,mp4,m4a,3gp,mp3,mpeg,mpegts,"
    "mxf,nut,ogg,rm,tak,tta,voc,w64,wav,wv"
)


@functools.lru_cache(maxsize=1)
def ffmpeg_binary() -> str:
    """Find the ffmpeg executable. Raises ResourceError where there is none that runs."""
    import imageio_ffmpeg  # late: it looks the binary up

    try:
        path = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise ResourceError(f"no ffmpeg was found ({error}); reinstall imageio-ffmpeg") from None
    try:
        subprocess.run(
            [path, "-version"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            timeout=20,
            check=True,
        )
    except (
        OSError,
        subprocess.SubprocessError,
    ) as error:  # not there, or for another processor, or without its libraries
        raise ResourceError(
            f"{path} does not run ({error}): unset IMAGEIO_FFMPEG_EXE, or reinstall imageio-ffmpeg"
        ) from None
    return path


def start_ffmpeg(arguments: list[str], **settings: Any) -> subprocess.Popen[bytes]:
    """Start ffmpeg. Raises ResourceError where there is none that runs."""
    return subprocess.Popen([ffmpeg_binary(), "-nostdin", *arguments], **settings, **child_settings())


def check_file(path: Path, what: str, give: str) -> None:
    """Check that a file can be read. Raises InputError where it is missing, a folder, empty or protected.

    what: "video", "sound file". give: what to give in place of a folder.
    """
    if not path.exists():
        raise InputError(f"{path}: no such {what}; check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give {give}")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); record or export it again")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read; check the file's permissions")


def input_arguments(path: str | os.PathLike[str]) -> list[str]:
    """Build the arguments that open a local media file and nothing else."""
    # An absolute path behind "file:" cannot be read as an option or a protocol.
    return ["-protocol_whitelist", "file", "-format_whitelist", DEMUXERS, "-i", f"file:{Path(path).absolute()}"]


def child_settings() -> dict[str, Any]:
    """Build the Popen settings of a child that this process ends.

    A Ctrl-C typed at the terminal then goes to this process alone.
    """
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]
    return {"start_new_session": True}


@dataclass
class Decoder:
    """A running ffmpeg: its standard output and its error messages."""

    stdout: IO[bytes]
    _process: subprocess.Popen[bytes]
    _errors: IO[bytes]

    def end(self) -> tuple[int, str]:
        """Wait for its end, its output read. Returns its code and up to 20 KB of what it wrote to stderr."""
        self._process.wait()
        self._errors.seek(0)
        return self._process.returncode, self._errors.read(20_000).decode(errors="replace")


@contextlib.contextmanager
def ffmpeg(arguments: list[str]) -> Iterator[Decoder]:
    """Run ffmpeg with its standard output on a pipe; it is ended with the block."""
    with tempfile.TemporaryFile() as errors:  # a file, not a pipe: a broken input can fill a pipe with complaints
        process = start_ffmpeg(arguments, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        try:
            yield Decoder(process.stdout, process, errors)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def ppm_size(pipe: IO[bytes]) -> tuple[int, int] | None:
    """Read the three header lines of the next picture in a stream of PPM files.

    Returns its (width, height), None at the end of the stream.
    """
    if pipe.readline() != b"P6\n":
        return None
    width, height = pipe.readline().split()
    pipe.readline()  # the largest value, 255
    return int(width), int(height)


def end_reason(returncode: int, stderr: str) -> str:
    """Say in one line why ffmpeg ended: the most specific line it wrote, or the signal that killed it."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for line in lines:
        for known in (
            "No space left on device",
            "File too large",
            "Permission denied",
            "Disk quota exceeded",
            "Cannot allocate memory",
        ):
            if known in line:
                return known.lower()
    if returncode < 0:
        try:
            return f"ffmpeg was ended by {signal.Signals(-returncode).name}"
        except ValueError:
            return f"ffmpeg was ended by signal {-returncode}"
    return lines[-1] if lines else f"ffmpeg ended with code {returncode}"

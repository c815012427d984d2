"""The ffmpeg binary that imageio-ffmpeg brings: found once, and given only local files of known containers."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cyberhost_model.errors import InputError, ResourceError
from cyberhost_model.media.files import check_regular
from cyberhost_model.media.watchdog import IDLE_SECONDS, Watchdog

# Containers that carry sound. Playlists, scripts and subtitles are left out on purpose: a text file must not be
# taken for sound, and no file may make ffmpeg open another one.
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,iff,ircam,loas,matroska,webm,mov,mp4,m4a,3gp,mp3,"
    "mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,rm,sox,tak,tta,voc,w64,wav,wv,xwma"
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
    """Check that a file can be read. Raises InputError where it is missing, a folder, empty, protected or no file.

    what: "video", "sound file". give: what to give in place of a folder.
    """
    check_regular(path, what, give)
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); record or export it again")


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


class WatchedPipe:
    """Standard output of a decoder. Reading raises InputError where the decoder stops without ending."""

    def __init__(self, pipe: IO[bytes], watchdog: Watchdog, name: str) -> None:
        self._pipe, self._watchdog, self._name = pipe, watchdog, name

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, fewer at the end."""
        with self._watchdog.waiting():
            data = self._pipe.read(size)
        return self._checked(data)

    def readline(self) -> bytes:
        """Read up to the end of the line."""
        with self._watchdog.waiting():
            data = self._pipe.readline()
        return self._checked(data)

    def close(self) -> None:
        """Close it; a decoder that still writes is ended by that."""
        self._pipe.close()

    def _checked(self, data: bytes) -> bytes:
        check_watchdog(self._watchdog, self._name)
        return data


def check_watchdog(watchdog: Watchdog, name: str) -> None:
    """Raise InputError where the watchdog has ended the ffmpeg that reads the file `name`."""
    if watchdog.bit:
        raise InputError(
            f"{name}: ffmpeg stopped while it read this (nothing came for {IDLE_SECONDS:.0f} s and more); try again, "
            "or convert the file"
        )


@dataclass
class Decoder:
    """A running ffmpeg: its standard output and its error messages."""

    stdout: WatchedPipe
    name: str
    """The file that it reads."""
    _process: subprocess.Popen[bytes]
    _errors: IO[bytes]
    _watchdog: Watchdog

    def end(self) -> tuple[int, str]:
        """Wait for its end; what was not read of its output is lost.

        Returns its code and up to 20 KB of what it wrote to stderr. Raises InputError where it stops without ending.
        """
        self.stdout.close()
        with self._watchdog.waiting(limit=float("inf")):
            self._process.wait()
        check_watchdog(self._watchdog, self.name)
        self._errors.seek(0)
        return self._process.returncode, self._errors.read(20_000).decode(errors="replace")


@contextlib.contextmanager
def ffmpeg(arguments: list[str]) -> Iterator[Decoder]:
    """Run ffmpeg with its standard output on a pipe; it is ended with the block."""
    name = next((b for a, b in zip(arguments, arguments[1:], strict=False) if a == "-i"), "the input")
    name = name.removeprefix("file:")
    with tempfile.TemporaryFile() as errors:  # a file, not a pipe: a broken input can fill a pipe with complaints
        process = start_ffmpeg(arguments, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        watchdog = Watchdog(process)
        try:
            yield Decoder(WatchedPipe(process.stdout, watchdog, name), name, process, errors, watchdog)
        finally:
            watchdog.stop()
            process.kill()
            process.stdout.close()
            process.wait()


@dataclass(frozen=True)
class Header:
    """What ffmpeg says of a file before it decodes anything."""

    text: str

    @property
    def has_sound(self) -> bool:
        """Whether there is a stream of sound."""
        return bool(re.search(r"^\s*Stream #.*: Audio: ", self.text, re.MULTILINE))

    @property
    def pictures(self) -> list[str]:
        """The lines on its moving pictures; a cover picture in a sound file is none."""
        lines = re.findall(r"^\s*Stream #.*: Video: .*$", self.text, re.MULTILINE)
        return [line for line in lines if "attached pic" not in line]

    @property
    def seconds(self) -> float | None:
        """The length that the file states itself; None where it states none and ffmpeg can only guess."""
        found = re.search(r"^\s*Duration: (\d+):(\d\d):(\d\d\.\d+)", self.text, re.MULTILINE)
        if found is None or "Estimating duration" in self.text:
            return None
        return 3600.0 * int(found[1]) + 60.0 * int(found[2]) + float(found[3])


def read_header(path: Path) -> Header:
    """Read what ffmpeg says of a file without decoding it; nothing where it cannot be opened."""
    with ffmpeg(["-hide_banner", "-v", "info", *input_arguments(path)]) as decoder:
        return Header(decoder.end()[1])


def ppm_size(pipe: WatchedPipe) -> tuple[int, int] | None:
    """Read the three header lines of the next picture in a stream of PPM files.

    Returns its (width, height), None at the end of the stream.
    """
    if pipe.readline() != b"P6\n":
        return None
    width, height = pipe.readline().split()
    if pipe.readline() != b"255\n":  # the largest value; a deeper picture has two bytes a value
        return None
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

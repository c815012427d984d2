"""Frames and their sound -> MP4 while both are made: in fragments on a stream, or a file that appears when it is whole.

A player can show the fragments as they come. Video and sound go to ffmpeg through a pipe each, fed by a thread each, so
that neither waits for the other. Where a child inherits no second pipe (Windows), the sound goes to it over a
connection inside this machine.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from cyberhost_model.errors import OutputError
from cyberhost_model.media.ffmpeg import end_reason, start_ffmpeg
from cyberhost_model.media.file_kinds import AAC_RATES, CRF, encoded_rate, h264_arguments
from cyberhost_model.media.files import atomic_path, check_target
from cyberhost_model.media.video_writer import AHEAD
from cyberhost_model.media.watchdog import Watchdog

SUFFIXES = (".mp4", ".m4v", ".mov")

_CONNECTS = os.name == "nt"
"""Whether the sound goes over a connection: a child of Windows inherits no second pipe by its number."""
_LOOK_SECONDS = 0.2  # between two looks whether a wait for ffmpeg is worth it
_FRAGMENT = 40_000  # microseconds of a fragment: each frame goes out as soon as its sound has
# The header waits for the first fragment (delay_moov): it then tells players to cut off what AAC begins with, 1,024
# samples by which the sound would be late.
_FLAGS = "empty_moov+delay_moov+default_base_moof"
_FRAGMENTED = ["-movflags", _FLAGS, "-frag_duration", str(_FRAGMENT), "-flush_packets", "1"]
_STREAM_RATE = 44_100
"""Hz of a stream's sound at least: 1,024 samples go out together, at 16 kHz more than a frame of the video lasts."""


class LiveWriter:
    """Context manager that encodes frames with their sound as they come.

    out: a path for an MP4 that appears when it is whole, or a binary stream with a file number (standard output, a
    pipe) for fragments. size: (W, H), both even. rate, channels: of the sound. tags, finish: see `VideoWriter`; a
    stream cannot be finished. Raises OutputError.
    """

    def __init__(
        self,
        out: Path | IO[bytes],
        size: tuple[int, int],
        fps: float,
        rate: int,
        channels: int = 1,
        tags: Mapping[str, str] | None = None,
        overwrite: bool = False,
        finish: Callable[[Path], None] | None = None,
    ) -> None:
        self.out = check_target(out, SUFFIXES, overwrite) if isinstance(out, Path) else out
        self.size, self.rate, self.channels = size, rate, channels
        self.fps = Fraction(fps).limit_denominator(1001)
        self.tags, self.overwrite, self.finish = dict(tags or {}), overwrite, finish
        self._clean = contextlib.ExitStack()

    def __enter__(self) -> LiveWriter:
        with contextlib.ExitStack() as clean:
            self._errors = clean.enter_context(tempfile.TemporaryFile())
            self._part: Path | None = None
            target, container, output = "pipe:1", [*_FRAGMENTED, "-f", "mp4"], self.out
            if isinstance(self.out, Path):
                self._part = clean.enter_context(atomic_path(self.out, self.overwrite))
                target, container = f"file:{self._part.absolute()}", ["-movflags", "+faststart"]
                output = subprocess.DEVNULL  # type: ignore[assignment]
            sound: Any
            if _CONNECTS:
                sound = clean.enter_context(contextlib.closing(_Connection()))
                sound.process = self._process = self._start(sound.address, container, target, stdout=output)
            else:
                hearing, speaking = os.pipe()
                sound = clean.enter_context(os.fdopen(speaking, "wb", buffering=0))
                with os.fdopen(hearing, "rb") as heard:  # the child has a copy
                    number = heard.fileno()
                    self._process = self._start(f"pipe:{number}", container, target, stdout=output, pass_fds=(number,))
            clean.callback(self._end)
            assert self._process.stdin is not None
            self._video, self._sound = (self._feeder(pipe) for pipe in (self._process.stdin, sound))
            self._clean = clean.pop_all()
        return self

    def add(self, frame: np.ndarray, sound: np.ndarray) -> None:
        """Append a frame, uint8 (H, W, 3) RGB, and the sound of its time, float32 (n, channels)."""
        self._sound.put(np.ascontiguousarray(sound, dtype="<f4").tobytes(), self._check)
        self._video.put(frame.tobytes(), self._check)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._clean.__exit__(kind, value, trace)
            return
        with self._clean:
            self._video.close(self._check)
            self._sound.close(self._check)
            if self._process.wait() != 0 or self._video.failed or self._sound.failed:
                raise self._failure()
            if self._part is not None and self.finish is not None:
                self.finish(self._part)

    def _start(self, hearing: str, container: list[str], target: str, **settings: Any) -> subprocess.Popen[bytes]:
        arguments = self._arguments(hearing, container, target)
        return start_ffmpeg(arguments, stdin=subprocess.PIPE, stderr=self._errors, **settings)

    def _arguments(self, hearing: str, container: list[str], target: str) -> list[str]:
        rate = encoded_rate(self.rate if self._part is not None else max(self.rate, _STREAM_RATE), AAC_RATES)
        at_once = ["-probesize", "32", "-analyzeduration", "0", "-thread_queue_size", str(AHEAD)]
        video = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{self.size[0]}x{self.size[1]}", "-r", str(self.fps)]
        sound = ["-f", "f32le", "-ar", str(self.rate), "-ac", str(self.channels)]
        arguments = ["-y", "-v", "error", *at_once, *video, "-i", "pipe:0", *at_once, *sound, "-i", hearing]
        arguments += ["-map", "0:v:0", "-map", "1:a:0", *h264_arguments(CRF, "veryfast")]
        arguments += ["-tune", "zerolatency", "-g", str(max(1, round(self.fps)))]
        arguments += ["-c:a", "aac", "-b:a", "192k", "-ar", str(rate), "-map_metadata", "-1"]
        for name, text in self.tags.items():
            arguments += ["-metadata", f"{name}={text}"]
        return [*arguments, *container, target]

    def _feeder(self, pipe: Any) -> _Feeder:
        # Who reads a stream may pause as long as they like; a file takes what comes.
        return _Feeder(pipe, None if self._part is None else Watchdog(self._process))

    def _check(self) -> None:
        """Raise OutputError where waiting for ffmpeg is in vain.

        After an error it ends when it has read from both pipes once more: it may wait for sound while frames wait for
        it. So it is not relied on to tell that nobody reads the stream any more.
        """
        if self._video.failed or self._sound.failed or self._reader_is_gone():
            raise self._failure()

    def _reader_is_gone(self) -> bool:
        if isinstance(self.out, Path) or self.out.closed or not hasattr(select, "poll"):
            return False  # without it a reader that is gone is noticed when ffmpeg ends
        poll = select.poll()
        poll.register(self.out.fileno(), 0)  # errors and hang-ups are told unasked
        return bool(poll.poll(0))

    def _failure(self) -> OutputError:
        self._process.kill()
        self._errors.seek(0)
        reason = end_reason(self._process.wait(), self._errors.read().decode(errors="replace"))
        if self._video.stopped or self._sound.stopped:
            reason = "ffmpeg stopped taking frames"
        name = self.out if isinstance(self.out, Path) else "standard output"
        return OutputError(f"{name}: the video cannot be written ({reason})")

    def _end(self) -> None:
        """End ffmpeg and the threads, whatever they are doing."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for feeder in (self._video, self._sound):
            feeder.close(lambda: None)


class _Connection:
    """A connection inside this machine, which ffmpeg opens when it comes to the sound; it is written as a pipe is."""

    process: subprocess.Popen[bytes] | None = None
    """The ffmpeg that is waited for."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._listener.settimeout(_LOOK_SECONDS)
        self._open: socket.socket | None = None

    @property
    def address(self) -> str:
        """What ffmpeg opens."""
        return f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def write(self, data: memoryview) -> int:
        """Send a part of `data` -> its bytes. Raises OSError where nobody reads."""
        while self._open is None:
            try:
                self._open, _ = self._listener.accept()
                self._open.settimeout(None)
            except TimeoutError:
                if self.process is None or self.process.poll() is not None:
                    raise
        return self._open.send(data)

    def close(self) -> None:
        """Say that no more sound comes."""
        for end in (self._open, self._listener):
            if end is not None:
                end.close()


class _Feeder:
    """Writes to a pipe in a thread; after an error it goes on emptying its queue, so that nobody waits for room."""

    def __init__(self, pipe: Any, watchdog: Watchdog | None) -> None:
        """Begin. watchdog: ends the process at the other end when it stops."""
        self.failed = False
        self._pipe, self._watchdog = pipe, watchdog
        self._waiting: queue.Queue[bytes | None] = queue.Queue(AHEAD)
        self._thread = threading.Thread(target=self._feed, name="live to ffmpeg", daemon=True)
        self._thread.start()

    @property
    def stopped(self) -> bool:
        """Whether the watchdog has ended the process."""
        return self._watchdog is not None and self._watchdog.bit

    def put(self, data: bytes | None, check: Callable[[], None]) -> None:
        """Append data, None as the last. check: called now and while there is no room; may raise to end the wait."""
        while True:
            check()
            with contextlib.suppress(queue.Full):
                return self._waiting.put(data, timeout=_LOOK_SECONDS)

    def close(self, check: Callable[[], None]) -> None:
        """Write what waits, and close the pipe. check: see `put`."""
        if self._thread.is_alive():
            self.put(None, check)
        while self._thread.is_alive():
            check()
            self._thread.join(_LOOK_SECONDS)
        if self._watchdog is not None:
            self._watchdog.stop()
        with contextlib.suppress(OSError):
            self._pipe.close()

    def _feed(self) -> None:
        while (data := self._waiting.get()) is not None:
            if self.failed:
                continue
            try:
                view = memoryview(data)
                while view:
                    with self._watchdog.waiting() if self._watchdog else contextlib.nullcontext():
                        view = view[self._pipe.write(view) :]
            except (OSError, ValueError):
                self.failed = True

"""Frames + sound -> a video file: usually H.264 yuv420p with AAC in MP4, tagged BT.709 (other kinds: `file_kinds`).

The file takes its name when it is whole, unless another file has taken that meanwhile (`atomic_path`); on any error,
Ctrl-C or SIGTERM (raised as an exception) ffmpeg is ended and nothing stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from cyberhost_model.errors import OutputError, ResourceError
from cyberhost_model.media.audio import Sound, load_audio
from cyberhost_model.media.ffmpeg import end_reason, ffmpeg_binary, start_ffmpeg
from cyberhost_model.media.file_kinds import CRF, KINDS, encoded_rate, video_arguments
from cyberhost_model.media.files import atomic_path, check_target
from cyberhost_model.media.subtitles import Subtitles
from cyberhost_model.media.watchdog import Watchdog

AHEAD = 16  # frames that may wait for the encoder, so that a clip's burst of them does not hold up the next clip


def check_output(out: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Check, before any work, that a video can be written to `out`. Returns it as a Path; raises OutputError."""
    return check_target(out, tuple(KINDS), overwrite)


class VideoWriter:
    """Context manager that encodes frames one by one.

    A thread hands them to the encoder; `add` waits only while `AHEAD` of them are waiting.

    ```
    with VideoWriter("out.mp4", size=(256, 256), fps=25, sound=load_audio("speech.wav")) as writer:
        for frame in frames:            # uint8 (H, W, 3), RGB
            writer.add(frame)
    ```

    size: (W, H), both even. sound: its samples are muxed whole, from the first one, at its own rate where the codec has
    that rate; None for a silent film. sound_seconds: cut it, or let silence follow, to this length. tags: the
    container's (title, comment ...). finish: called with the path of the whole file before it takes its name; it may
    replace it. subtitles: kept as a track; those after the sound are dropped. alpha: frames are uint8 (H, W, 4), RGBA,
    not premultiplied; the kind of file must have it. Raises OutputError when the file cannot be written (folder,
    rights, disk full, an encoder that stops), and where another one appeared in its place meanwhile: then this one has
    a name beside it.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        size: tuple[int, int],
        fps: float = 25,
        sound: Sound | None = None,
        overwrite: bool = False,
        crf: int = CRF,
        sound_seconds: float | None = None,
        tags: Mapping[str, str] | None = None,
        finish: Callable[[Path], None] | None = None,
        subtitles: Subtitles | None = None,
        alpha: bool = False,
    ) -> None:
        if size[0] % 2 or size[1] % 2 or min(size) < 2:
            raise ValueError(f"H.264 in yuv420p needs even sides, not {size[0]}x{size[1]}")
        self.out = check_output(out, overwrite)
        self.overwrite = overwrite
        self.size = size
        self.fps = Fraction(fps).limit_denominator(1001)
        self.sound = sound
        self.crf = crf
        self.sound_seconds = sound_seconds
        self.tags = dict(tags or {})
        self.finish = finish
        self.subtitles = subtitles
        self.alpha = alpha
        self.kind = KINDS[self.out.suffix.lower()]
        self.frames = 0
        self._part = self.out  # a temporary path while the writer is open
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None
        self._waiting: queue.Queue[bytes | None] = queue.Queue(AHEAD)
        self._feeder = threading.Thread(target=self._feed, name="frames to ffmpeg", daemon=True)
        self._error: OSError | None = None
        self._clean = contextlib.ExitStack()

    def __enter__(self) -> VideoWriter:
        with contextlib.ExitStack() as clean:  # whatever fails in here is undone at once
            try:
                self._part = clean.enter_context(atomic_path(self.out, self.overwrite))
            except OSError as error:
                raise self._failure(error) from None
            self._errors = clean.enter_context(tempfile.TemporaryFile())
            arguments = ["-y", "-v", "error", *self._video_input()]
            settings: dict[str, Any] = {}
            if self.sound is not None:
                self._samples = self.sound.sample_file()
                sound_input, settings = self._samples.input_arguments(self.sound.rate)
                arguments += sound_input
            arguments += [*self._subtitle_input(), *self._encoding()]
            self._process = start_ffmpeg(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors, **settings
            )
            clean.callback(self._kill)
            self._watchdog = Watchdog(self._process)
            clean.callback(self._watchdog.stop)
            self._feeder.start()
            self._clean = clean.pop_all()
        return self

    def add(self, frame: np.ndarray) -> None:
        """Append one frame, uint8 (H, W, 3), RGB; with `alpha` (H, W, 4), RGBA."""
        expected = (self.size[1], self.size[0], 4 if self.alpha else 3)
        if frame.dtype != np.uint8 or frame.shape != expected:
            raise ValueError(f"a frame must be uint8 {expected}, not {frame.dtype} {tuple(frame.shape)}")
        if self._error is not None:
            raise self._failure(self._error)
        self._waiting.put(frame.tobytes())
        self.frames += 1

    def _feed(self) -> None:
        """In the thread. After an error it goes on emptying the queue, so that nobody waits for room in it."""
        assert self._process is not None and self._process.stdin is not None and self._watchdog is not None
        while (frame := self._waiting.get()) is not None:
            if self._error is not None:
                continue
            try:
                with self._watchdog.waiting():
                    self._process.stdin.write(frame)
            except OSError as error:
                self._error = error

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._clean.__exit__(kind, value, trace)
            return
        try:
            with self._clean:
                self._finish()
        except OSError as error:  # from putting the whole file into its place
            raise self._failure(error) from None

    def _finish(self) -> None:
        process, watchdog = self._process, self._watchdog
        assert process is not None and process.stdin is not None and watchdog is not None
        if self.frames == 0:
            raise ValueError("a video needs at least one frame")
        self._waiting.put(None)
        self._feeder.join()
        if self._error is not None:
            raise self._failure(self._error)
        try:
            process.stdin.close()
        except OSError as error:
            raise self._failure(error) from None
        with watchdog.waiting(limit=float("inf")):  # the longer the video, the longer the index takes
            code = process.wait()
        if code != 0 or not self._part.is_file() or self._complaint("No space left", "File too large"):
            raise self._failure(None)
        if self.finish is not None:
            self.finish(self._part)

    def _complaint(self, *known: str) -> bool:
        """Whether ffmpeg wrote one of these lines, even where it ended with code 0."""
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        return any(line in text for line in known)

    def _failure(self, error: OSError | None) -> OutputError | ResourceError:
        if self._watchdog is not None and self._watchdog.bit:
            return OutputError(f"{self.out}: the video cannot be written (ffmpeg stopped taking frames); run again")
        if error is not None and error.errno not in (errno.EPIPE, errno.EINVAL):
            reason = error.strerror or str(error)
        else:
            assert self._process is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)  # a broken pipe: ffmpeg is about to end and to say why
            self._errors.seek(0)
            reason = end_reason(self._process.returncode or 0, self._errors.read().decode(errors="replace"))
        if "cannot allocate memory" in reason.lower():
            return ResourceError(f"{self.out}: not enough memory to write the video; end other programs")
        hint = (
            "; free some space and run again" if "space" in reason or "large" in reason or "SIGXFSZ" in reason else ""
        )
        return OutputError(f"{self.out}: the video cannot be written ({reason}){hint}")

    def _kill(self) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.kill()
        if self._feeder.is_alive():  # what waits is dropped: writing to a dead process fails at once
            self._error = self._error or OSError(errno.EPIPE, "ended")
            self._waiting.put(None)
            self._feeder.join()
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        process.wait()

    def _video_input(self) -> list[str]:
        size = f"{self.size[0]}x{self.size[1]}"
        rate = f"{self.fps.numerator}/{self.fps.denominator}"
        pixels = "rgba" if self.alpha else "rgb24"
        return ["-f", "rawvideo", "-pix_fmt", pixels, "-s", size, "-r", rate, "-i", "pipe:0"]

    def _subtitle_input(self) -> list[str]:
        if self.subtitles is None:
            return []
        path = f"file:{self.subtitles.path.absolute()}"
        return ["-protocol_whitelist", "file", "-f", self.subtitles.format, "-i", path]

    def _encoding(self) -> list[str]:
        arguments = ["-map", "0:v:0", *self._video_encoding()]
        if self.sound is not None:
            rate = encoded_rate(self.sound.rate, self.kind.rates)
            arguments += ["-map", "1:a:0"]
            if self.sound_seconds is not None:
                end = f"{self.sound_seconds:.6f}"
                arguments += ["-af", f"atrim=end={end},apad=whole_dur={end}"]
            arguments += ["-c:a", *self.kind.sound, "-ar", str(rate)]
        if self.subtitles is not None:
            number = 1 if self.sound is None else 2
            arguments += ["-map", f"{number}:s:0", "-c:s", self.kind.subtitles[self.subtitles.format]]
            if self.subtitles.language is not None:
                arguments += ["-metadata:s:s:0", f"language={self.subtitles.language}"]
            seconds = self.sound_seconds if self.sound is None else self.sound_seconds or self.sound.duration
            if seconds is not None:  # or a later subtitle would make the video longer; no frame begins so late
                arguments += ["-t", f"{seconds + 1 / self.fps:.6f}"]
        arguments += ["-map_metadata", "-1"]  # what an input says of itself is not true of this video
        for name, text in self.tags.items():
            arguments += ["-metadata", f"{name}={text}"]
        return [*arguments, *self.kind.at_end, f"file:{self._part.absolute()}"]

    def _video_encoding(self) -> list[str]:
        return video_arguments(self.out.suffix.lower(), self.alpha, self.crf)


def write_video(
    frames: Iterable[np.ndarray],
    out: str | os.PathLike[str],
    fps: float = 25,
    sound: Sound | str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    crf: int = CRF,
    total: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    sound_seconds: float | None = None,
    tags: Mapping[str, str] | None = None,
    finish: Callable[[Path], None] | None = None,
    subtitles: Subtitles | None = None,
) -> Path:
    """Write frames, uint8 (H, W, 3) RGB or (H, W, 4) RGBA with even sides, to `out`. Returns its path.

    The first frame gives the size; frames are taken one at a time, so memory does not grow with the length. sound: a
    Sound or a file; sound_seconds: cut it, or let silence follow, to this length. progress: called as `progress(frames
    done, total)` after every frame. tags, finish, subtitles: see `VideoWriter`. Raises OutputError and ResourceError
    (also before the first frame is made) and what the iterable raises.
    """
    out = check_output(out, overwrite)
    ffmpeg_binary()  # a first frame may be long in the making
    if sound is not None and not isinstance(sound, Sound):
        sound = load_audio(sound)
    iterator = iter(frames)
    try:
        first = next(iterator)
    except StopIteration:
        raise ValueError("a video needs at least one frame") from None
    size = (first.shape[1], first.shape[0])
    alpha = first.shape[2] == 4
    with VideoWriter(out, size, fps, sound, overwrite, crf, sound_seconds, tags, finish, subtitles, alpha) as writer:
        frame: np.ndarray | None = first
        while frame is not None:
            writer.add(frame)
            if progress is not None:
                progress(writer.frames, total)
            frame = next(iterator, None)
    return out

"""Video file -> frames, through the ffmpeg that imageio-ffmpeg brings.

Only a batch of frames is in memory.

Colours are converted as the file is tagged, BT.601 where it is not tagged (ffmpeg's own rule, and what most writers of
untagged files took).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.media.ffmpeg import end_reason, ffmpeg, input_arguments, ppm_size

# Which frames belong together when rates differ: a frame stands for what is on the screen in the middle of its time.


def partner(frame: int, fps: float, other: float) -> int:
    """Index of the frame at rate `other` that is on the screen in the middle of frame `frame` at rate `fps`.

    The same index for equal rates.
    """
    return frame if fps == other else int((frame + 0.5) * other / fps)


def aligned(frames: int, fps: float, other_frames: int, other_fps: float) -> np.ndarray:
    """Pairs (i, j) of frames that belong together, int (n, 2): for every frame i its partner j, as far as there is
    one.
    """
    i = np.arange(frames)
    j = i if fps == other_fps else ((i + 0.5) * other_fps / fps).astype(int)
    return np.stack([i, j], 1)[j < other_frames]


class Resampler:
    """How often each frame is shown on a grid of another rate, frame by frame: repeats and drops, no mixing."""

    def __init__(self, fps: float, target: float) -> None:
        self.fps, self.target, self.given = fps, target, 0

    def times(self, frame: int) -> Iterator[int]:
        """The places on the grid that frame number `frame` takes, in order; none where it is dropped.

        Frames must come in order.
        """
        while partner(self.given, self.target, self.fps) == frame:
            yield self.given
            self.given += 1

    def total(self, frames: int) -> int:
        """How many places `frames` frames take."""
        return frames if self.fps == self.target else round(frames * self.target / self.fps)


BATCH = 16
SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
_BATCH_BYTES = 96 << 20  # large frames come in smaller batches
_UNEVEN = 0.01  # a stream whose mean rate is further from its nominal one has a variable rate
_TAKEN = "give an MP4, MOV, MKV, WebM or AVI file"


@dataclass(frozen=True)
class Stream:
    """The pictures of a file. packets: how many frames it should hold. variable: the rate is not constant."""

    path: Path
    fps: Fraction
    packets: int
    variable: bool
    has_sound: bool


def probe(path: Path) -> Stream:
    """Rate and number of the frames, read from the packets; nothing is decoded. Raises InputError."""
    _check_file(path)
    command = [
        "-v",
        "info",
        "-nostats",
        "-progress",
        "pipe:1",
        *input_arguments(path),
        "-map",
        "0:V:0",
        "-c",
        "copy",
        "-f",
        "null",
        "-",
    ]
    with ffmpeg(command) as decoder:
        progress = decoder.stdout.read().decode()
        code, told = decoder.end()
    header = told.split("Stream mapping:")[0].split("Output #0")[0]
    lines = [
        line
        for line in header.splitlines()
        if re.search(r"Stream #\d+:\d+.*: Video: ", line) and "attached pic" not in line
    ]
    packets = _last(progress, "frame")
    if not lines or not packets:
        what = (
            "holds no video"
            if "matches no streams" in told
            else f"not a video that can be read ({end_reason(code, told)})"
        )
        raise InputError(f"{path}: {what}; {_TAKEN}")
    mean, nominal = _rate(lines[0], "fps"), _rate(lines[0], "tbr")
    fps = mean or nominal or Fraction(25)
    variable = bool(mean and nominal and abs(nominal / mean - 1) > _UNEVEN)
    # Some containers tell a nominal rate alone: then the time of the last packet does. Its place is only known to a few
    # frames.
    seconds = _last(progress, "out_time_us") / 1e6
    if seconds > 0 and packets > 20 and abs(packets / seconds / fps - 1) > 0.02 + 4 / packets:
        fps, variable = Fraction(packets / seconds).limit_denominator(1000), True
    return Stream(path, fps, packets, variable, ": Audio: " in header)


def read_frames(stream: Stream) -> Iterator[np.ndarray]:
    """The frames in order, uint8 (n, H, W, 3) RGB, turned upright, n up to BATCH; the array is used again for the next
    batch.

    No frame is repeated or dropped, except where the rate is variable: then they are put on a constant grid of the mean
    rate. A damaged file gives what can be decoded. Raises InputError where that is nothing.
    """
    grid = ["-vf", f"fps={stream.fps}"] if stream.variable else []
    convert = ["-sws_flags", "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"]
    # PPM, because each picture tells its size: that of a turned video is not the header's.
    command = ["-v", "error", *input_arguments(stream.path), "-map", "0:V:0", *grid, *_every_frame(), *convert]
    with ffmpeg([*command, "-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "-"]) as decoder:
        head = ppm_size(decoder.stdout)
        if head is None:
            raise InputError(f"{stream.path}: no frame can be decoded ({end_reason(*decoder.end())}); {_TAKEN}")
        width, height = head
        batch = np.empty((batch_for((width, height)), height, width, 3), np.uint8)
        filled = 0
        while head is not None and decoder.stdout.readinto(batch[filled].data) == batch[filled].nbytes:  # type: ignore[attr-defined]
            filled += 1
            if filled == len(batch):
                yield batch
                filled = 0
            head = ppm_size(decoder.stdout)
        if filled:
            yield batch[:filled]


def batch_for(size: tuple[int, int]) -> int:
    """How many frames of (W, H) a batch holds."""
    return max(1, min(BATCH, _BATCH_BYTES // (size[0] * size[1] * 3)))


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such video; check the path")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); make it again")


def _last(progress: str, name: str) -> int:
    """The last value of a number in ffmpeg's progress, 0 where there is none."""
    found = re.findall(rf"^{name}=\s*(\d+)", progress, re.MULTILINE)
    return int(found[-1]) if found else 0


def _rate(line: str, word: str) -> Fraction | None:
    """The number before a word in ffmpeg's line on a stream; 29.97 is 30000/1001."""
    found = re.search(rf"([\d.]+)(k?) {word}\b", line)
    if not found:
        return None
    value = float(found[1]) * (1000 if found[2] else 1)
    if value <= 0:
        return None
    ntsc = Fraction(round(value * 1.001) * 1000, 1001)
    return (
        ntsc if abs(float(ntsc) - value) < 0.005 and value != round(value) else Fraction(value).limit_denominator(1000)
    )


@functools.lru_cache(maxsize=1)
def _every_frame() -> list[str]:
    """The option that keeps frames as they are; it was renamed in ffmpeg 5.1 and the old name went later."""
    import imageio_ffmpeg

    version = re.match(r"\D*(\d+)", imageio_ffmpeg.get_ffmpeg_version() or "")
    return ["-fps_mode", "passthrough"] if version is None or int(version[1]) >= 6 else ["-vsync", "passthrough"]

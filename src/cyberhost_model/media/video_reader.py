"""Read frames of video files, streamed through the ffmpeg that imageio-ffmpeg brings.

`stream_frames` gives upright frames at a constant rate, one at a time (driving videos). `probe_video` and `read_frames`
give every decoded frame of a file in batches (evaluation). Neither holds more than a batch in memory.

`read_frames` converts colours as the file is tagged, and by BT.601 where it is not tagged: that is ffmpeg's own rule
and what most writers of untagged files assumed. Any depth becomes 8 bits, and HDR (PQ, HLG) is tone-mapped to BT.709.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from cyberhost_model.config import FPS
from cyberhost_model.errors import InputError
from cyberhost_model.media.ffmpeg import (
    Header,
    WatchedPipe,
    check_file,
    end_reason,
    ffmpeg,
    input_arguments,
    ppm_size,
    read_header,
)

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
LONGEST = 1280  # pixels of a frame's longer side; `stream_frames` reduces larger ones while it decodes
MAX_BATCH = 16  # frames that `read_frames` gives at once
_BATCH_BYTES = 96 << 20  # large frames come in smaller batches
_RATE_TOLERANCE = 0.01  # a stream whose mean rate differs more from its nominal one has a variable rate
_ADVICE = "give MP4, MOV, MKV, WebM, AVI or another video"
# Each picture carries its size, known only once it is upright. Without the format a deep film would give 16 bits.
_PPM_OUTPUT = ["-pix_fmt", "rgb24", "-f", "image2pipe", "-c:v", "ppm", "-"]
_HDR = ("smpte2084", "arib-std-b67")  # ffmpeg's names of PQ and HLG
_WHITE = 203  # candela per square metre of diffuse white in HDR (ITU-R BT.2408)


def stream_frames(
    path: str | os.PathLike[str],
    fps: float = FPS,
    longest: int = LONGEST,
    max_seconds: float | None = None,
    faults: list[str] | None = None,
) -> Iterator[np.ndarray]:
    """Stream the frames of a video as uint8 (H, W, 3) RGB, upright, with square pixels, at `fps` frames a second.

    Frame i is the one on the screen i / fps seconds after the file's beginning: any rate, also a variable one, is
    brought to `fps` by its time stamps, and a picture that begins after the sound is shown from the start. Raises
    InputError, at the first frame, for a file that is missing, no video or without a picture. Of a damaged file what
    can be decoded is given, and `faults` gets a line.
    """
    path = Path(path)
    check_file(path, "video", "one video file")
    shrink = f"min(1,{longest}/max(iw*sar,ih))"
    square = f"scale=w='max(2,round(iw*sar*{shrink}))':h='max(2,round(ih*{shrink}))':flags=area"
    # Capital V: a cover picture in a sound file is no video.
    command = ["-v", "error", *input_arguments(path), "-map", "0:V:0"]
    command += ["-vf", ",".join([f"fps={fps:.6f}:start_time=0", square, *tone_mapping(read_header(path)), "setsar=1"])]
    if max_seconds is not None:
        command += ["-t", f"{max_seconds:.6f}"]
    with ffmpeg([*command, *_PPM_OUTPUT]) as decoder:
        count = 0
        while (frame := _read_ppm(decoder.stdout)) is not None:
            count += 1
            yield frame
        code, complaints = decoder.end()
        if not count:
            raise InputError(_why_no_video(path, code, complaints))
        if faults is not None and complaints.strip():
            # Without the name of ffmpeg's part.
            faults.append(re.sub(r"^\[[^\]]*\]\s*", "", end_reason(code, complaints)))


def tone_mapping(header: Header) -> list[str]:
    """Filters that bring HDR pictures (PQ, HLG) to BT.709; none where a file has none."""
    line = next(iter(header.pictures), "")
    transfer = next((name for name in _HDR if name in line), None)
    if transfer is None:
        return []
    full = "full" if re.search(r"\(pc\b", line) else "limited"
    linear = f"zscale=tin={transfer}:pin=bt2020:min=bt2020nc:rin={full}:p=bt2020:t=linear:npl={_WHITE}"
    return [linear, "format=gbrpf32le", "zscale=p=bt709", "tonemap=mobius:desat=0", "zscale=t=bt709:m=gbr:r=full"]


def _read_ppm(pipe: WatchedPipe) -> np.ndarray | None:
    """Read the next picture of a stream of PPM files, uint8 (H, W, 3); None at its end."""
    size = ppm_size(pipe)
    if size is None:
        return None
    width, height = size
    data = pipe.read(3 * width * height)
    return np.frombuffer(data, np.uint8).reshape(height, width, 3) if len(data) == 3 * width * height else None


def _why_no_video(path: Path, returncode: int, errors: str) -> str:
    if "matches no streams" in errors:
        return f"{path}: holds no picture; {_ADVICE}"
    if "Invalid data" in errors or "received no packets" in errors or "Error opening input" in errors:
        return f"{path}: not a video that can be read; {_ADVICE}"
    return f"{path}: no frame can be read ({end_reason(returncode, errors)}); {_ADVICE}"


@dataclass(frozen=True)
class VideoStream:
    """The video stream of a file.

    fps: frames a second, the mean where the rate is not constant (`variable`). packets: how many frames it should hold.
    """

    path: Path
    fps: Fraction
    packets: int
    variable: bool
    has_sound: bool
    to_sdr: tuple[str, ...] = ()
    """Filters that its pictures need (`tone_mapping`)."""


def probe_video(path: Path) -> VideoStream:
    """Read rate and number of the frames from a file's packets, without decoding.

    Raises InputError for a file that is missing, empty or no video.
    """
    check_file(path, "video", "one video file")
    command = ["-v", "info", "-nostats", "-progress", "pipe:1", *input_arguments(path), "-map", "0:V:0"]
    with ffmpeg([*command, "-c", "copy", "-f", "null", "-"]) as decoder:
        progress = decoder.stdout.read().decode()
        code, log = decoder.end()
    header = log.split("Stream mapping:")[0].split("Output #0")[0]
    streams = Header(header).pictures
    packets = _last_progress_value(progress, "frame")
    if not streams or not packets:
        no_stream = "matches no streams" in log
        reason = "holds no video" if no_stream else f"not a video that can be read ({end_reason(code, log)})"
        raise InputError(f"{path}: {reason}; {_ADVICE}")
    mean, nominal = _rate_before(streams[0], "fps"), _rate_before(streams[0], "tbr")
    fps = mean or nominal or Fraction(25)
    variable = bool(mean and nominal and abs(nominal / mean - 1) > _RATE_TOLERANCE)
    # Some containers give a nominal rate alone. Then the time of the last packet gives the mean rate, to a few frames.
    seconds = _last_progress_value(progress, "out_time_us") / 1e6
    if seconds > 0 and packets > 20 and abs(packets / seconds / fps - 1) > 0.02 + 4 / packets:
        fps, variable = Fraction(packets / seconds).limit_denominator(1000), True
    return VideoStream(path, fps, packets, variable, Header(header).has_sound, tuple(tone_mapping(Header(header))))


def read_frames(stream: VideoStream) -> Iterator[np.ndarray]:
    """Read every frame in order: batches uint8 (n, H, W, 3) RGB, upright, n at most `frames_per_batch`.

    The array of a batch is used again for the next one. No frame is repeated or dropped, except where the rate is
    variable: then frames are put on a constant grid of the mean rate. A damaged file gives what can be decoded. Raises
    InputError where that is nothing.
    """
    filters = [*([f"fps={stream.fps}"] if stream.variable else []), *stream.to_sdr]
    grid = ["-vf", ",".join(filters)] if filters else []
    convert = ["-sws_flags", "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"]
    command = ["-v", "error", *input_arguments(stream.path), "-map", "0:V:0", *grid, *_keep_every_frame(), *convert]
    with ffmpeg([*command, *_PPM_OUTPUT]) as decoder:
        batch: np.ndarray | None = None
        filled = 0
        while (frame := _read_ppm(decoder.stdout)) is not None:
            if batch is None:
                batch = np.empty((frames_per_batch((frame.shape[1], frame.shape[0])), *frame.shape), np.uint8)
            batch[filled] = frame
            filled += 1
            if filled == len(batch):
                yield batch
                filled = 0
        if batch is None:
            raise InputError(f"{stream.path}: no frame can be decoded ({end_reason(*decoder.end())}); {_ADVICE}")
        if filled:
            yield batch[:filled]


def frames_per_batch(size: tuple[int, int]) -> int:
    """Return how many frames of `size` (W, H) a batch holds, 1 to `MAX_BATCH`."""
    return max(1, min(MAX_BATCH, _BATCH_BYTES // (size[0] * size[1] * 3)))


def _last_progress_value(progress: str, name: str) -> int:
    """Return the last value of a number in ffmpeg's progress report, 0 where there is none."""
    found = re.findall(rf"^{name}=\s*(\d+)", progress, re.MULTILINE)
    return int(found[-1]) if found else 0


def _rate_before(line: str, word: str) -> Fraction | None:
    """Return the number before a word in ffmpeg's line on a stream; 29.97 is 30000/1001."""
    found = re.search(rf"([\d.]+)(k?) {word}\b", line)
    if not found:
        return None
    value = float(found[1]) * (1000 if found[2] else 1)
    if value <= 0:
        return None
    ntsc = Fraction(round(value * 1.001) * 1000, 1001)
    if abs(float(ntsc) - value) < 0.005 and value != round(value):
        return ntsc
    return Fraction(value).limit_denominator(1000)


@functools.lru_cache(maxsize=1)
def _keep_every_frame() -> list[str]:
    """Return the option that keeps frames as they are. ffmpeg 5.1 renamed it, and later dropped the old name."""
    import imageio_ffmpeg

    version = re.match(r"\D*(\d+)", imageio_ffmpeg.get_ffmpeg_version() or "")
    return ["-fps_mode", "passthrough"] if version is None or int(version[1]) >= 6 else ["-vsync", "passthrough"]

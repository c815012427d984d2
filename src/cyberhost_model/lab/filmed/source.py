"""Read raw videos with PyAV: frames by their time stamps and sound, streamed.

Times are seconds on the file's own clock. A broken file never raises from the middle of a stream: what cannot be read
is noted in `DecodeErrors`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from cyberhost_model.config import FPS
from cyberhost_model.errors import need
from cyberhost_model.lab.filmed.manifest import Reason
from cyberhost_model.media import hdr
from cyberhost_model.media.audio import SPEECH_RATE, resample_stream
from cyberhost_model.media.ffmpeg import DEMUXERS

_UNTAGGED = 2  # ffmpeg's "unspecified" colour space
_HD = 720  # lines; untagged pictures of that height are BT.709 by convention, smaller ones BT.601
_MAX_DRIFT = 0.03  # seconds that sound may differ from its time stamps, which containers round


class UnusableVideo(Exception):
    """Raised for a file of which nothing can be used, with the reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass
class DecodeErrors:
    """Count the packets that could not be decoded, and keep the decoder's first message."""

    packets: int = 0
    first: str = ""

    def add(self, error: Exception) -> None:
        """Count a packet and its error."""
        self.packets += 1
        self.first = self.first or " ".join(str(error).split())[:120]


class TimedFrame(NamedTuple):
    """Hold a decoded frame (PyAV's), the time it is shown at, and whether parts of it could not be decoded."""

    time: float
    frame: Any
    broken: bool


@dataclass
class OpenVideo:
    """Hold an open video file.

    declared: the length in its header, seconds or None. declares_longest: whether that is the length of the longest
    stream rather than the picture's. start: the time of the first frame.
    """

    container: Any
    stream: Any
    path: Path
    declared: float | None
    declares_longest: bool
    start: float
    errors: DecodeErrors = field(default_factory=DecodeErrors)

    @property
    def aspect(self) -> float:
        """Width of a pixel over its height."""
        ratio = self.stream.sample_aspect_ratio
        return float(ratio) if ratio and 0.1 < ratio < 10 else 1.0

    def frames(self, start: float | None = None) -> Iterator[TimedFrame]:
        """Yield decoded frames in the order they are shown; with `start` from a key frame at or before it on."""
        decoded = _decode(self.container, self.stream, self.errors)
        if start is not None and start > self.start + 1:
            decoded = self._decode_from(start)
        last, lost, damaged = -math.inf, self.errors.packets, False
        for frame in decoded:
            if frame.pts is None:
                continue
            # Frames after a lost packet depend on it, up to the next key frame.
            damaged = (damaged and not frame.key_frame) or self.errors.packets > lost
            lost = self.errors.packets
            time = float(frame.pts * frame.time_base)
            if time <= last:  # a time stamp that goes back
                continue
            last = time
            yield TimedFrame(time, frame, damaged or bool(frame.is_corrupt))

    def _decode_from(self, start: float) -> Iterator[Any]:
        """Decode from a key frame before `start` on; from the beginning where the file cannot be sought."""
        seek_errors = need("av").FFmpegError
        with contextlib.suppress(seek_errors):
            self.container.seek(int(start / self.stream.time_base), stream=self.stream, backward=True)
            decoded = _decode(self.container, self.stream, self.errors)
            first = next((f for f in decoded if f.pts is not None), None)
            if first is not None and first.pts * first.time_base <= start:
                return itertools.chain([first], decoded)
        with contextlib.suppress(seek_errors):
            self.container.seek(0, backward=True)
        return _decode(self.container, self.stream, self.errors)


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[OpenVideo]:
    """Open a local media file of a known container. Raises Unusable (undecodable, no_video)."""
    with _container(path) as container:
        # A cover picture in a sound file is a video stream of one frame.
        streams = [s for s in container.streams.video if not _is_cover(s)]
        if not streams:
            raise UnusableVideo(Reason.NO_VIDEO, "no video stream")
        stream = max(streams, key=lambda s: s.codec_context.width * s.codec_context.height)
        stream.codec_context.thread_count = 1  # the engines run one video a core
        declared, declares_longest = _declared_length(container, stream)
        yield OpenVideo(container, stream, path, declared, declares_longest, _start_time(stream))


@contextlib.contextmanager
def _container(path: Path) -> Iterator[Any]:
    av = need("av")
    av.logging.set_level(None)
    try:
        # As in `media.ffmpeg`: a text file must not be taken for a playlist, and no file may make ffmpeg open another.
        options = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
        container = av.open(f"file:{path.absolute()}", container_options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UnusableVideo(Reason.UNDECODABLE, f"cannot be opened: {_message(error)}") from None
    with container:
        yield container


def _message(error: Exception) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error)).split())[:120]


def _is_cover(stream: Any) -> bool:
    disposition = getattr(stream, "disposition", None)
    flag = getattr(type(disposition), "attached_pic", None)
    return bool(flag is not None and disposition & flag)


def _start_time(stream: Any) -> float:
    return float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0


def _declared_length(container: Any, stream: Any) -> tuple[float | None, bool]:
    whole = container.duration / 1e6 if container.duration else None
    if stream.duration:
        own = float(stream.duration * stream.time_base)
        return (min(own, whole) if whole else own), False  # an edit list may show less than the stream holds
    return whole, True


def _decode(container: Any, stream: Any, noted: DecodeErrors) -> Iterator[Any]:
    """Decode one stream; damaged packets are noted and left out."""
    errors = (need("av").FFmpegError, EOFError)
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except errors as error:  # the file ends here: only frames inside the decoder are left
            noted.add(error)
            with contextlib.suppress(*errors):
                yield from stream.codec_context.decode(None)
            return
        try:
            yield from packet.decode()
        except errors as error:
            noted.add(error)


def frames_at_rate(frames: Iterable[TimedFrame], start: float, count: int, fps: float = FPS) -> Iterator[TimedFrame]:
    """Yield `count` frames at start, start + 1 / fps, ...: the frame on the screen at each time.

    A frame may be due up to half a step early. This turns any frame rate, also a variable one, into a constant one that
    is off by at most half a step (20 ms at 25 fps). A frame that is shown for long is repeated; times before the first
    frame get the first.
    """
    shown: TimedFrame | None = None
    given = 0
    for frame in frames:
        while shown is not None and given < count and frame.time > start + (given + 0.5) / fps:
            yield shown
            given += 1
        if given == count:
            return
        shown = frame
    while shown is not None and given < count:
        yield shown
        given += 1


def to_rgb(frame: Any, aspect: float = 1.0, longest: int | None = None) -> np.ndarray:
    """Convert a decoded frame to uint8 (H, W, 3) RGB: upright, with square pixels, HDR tone-mapped.

    aspect: width of a pixel over its height. longest: the most pixels of the longer side.
    """
    av = need("av")
    width, height = max(2, round(frame.width * aspect)), frame.height
    if longest and max(width, height) > longest:
        ratio = longest / max(width, height)
        width, height = max(2, round(width * ratio)), max(2, round(height * ratio))
    transfer = int(frame.color_trc)
    bright = transfer in (hdr.PQ, hdr.HLG)
    options: dict[str, Any] = {"width": width, "height": height, "format": "rgb48le" if bright else "rgb24"}
    if (width, height) != (frame.width, frame.height):
        options["interpolation"] = "AREA"
    if frame.colorspace == _UNTAGGED and frame.height >= _HD:
        options["src_colorspace"] = av.video.reformatter.Colorspace.ITU709
    picture = frame.reformat(**options).to_ndarray()
    if bright:
        picture = hdr.tone_map(picture, transfer)
    turns = round(frame.rotation / 90) % 4  # how the phone was held
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def thumbnail(frame: Any, size: tuple[int, int] = (64, 36)) -> np.ndarray:
    """Return a small blurred picture for comparing frames: float32 (h, w, 3), 0..255."""
    small = frame.reformat(width=size[0], height=size[1], format="rgb24", interpolation="AREA").to_ndarray()
    return cv2.GaussianBlur(small, (3, 3), 0).astype(np.float32)


def has_sound(path: Path) -> bool:
    """Return whether the file has a sound stream."""
    with _container(path) as container:
        return bool(container.streams.audio)


def sound_blocks(path: Path, start: float | None = None, stop: float = math.inf) -> Iterator[np.ndarray]:
    """Yield the sound as mono 16 kHz blocks, float32 (n,) in -1..1, placed by its time stamps; gaps are silence.

    With `start` the first sample is that of that time, and the blocks end at `stop` or where the sound does. A file
    without sound gives no block.
    """
    with _container(path) as container:
        stream = container.streams.best("audio")
        if stream is None:
            return
        rate = stream.codec_context.sample_rate
        if not rate:
            return
        if start is not None and start > 1:
            with contextlib.suppress(need("av").FFmpegError):
                container.seek(int((start - 0.5) / stream.time_base), stream=stream, backward=True)
        yield from resample_stream(_without_gaps(container, stream, rate, start, stop), rate, SPEECH_RATE, 10.0)


def _without_gaps(container: Any, stream: Any, rate: int, start: float | None, stop: float) -> Iterator[np.ndarray]:
    """Yield mono float32 (n, 1) blocks at the file's own rate, with silence in the gaps."""
    av = need("av")
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    given = 0  # samples yielded so far
    origin = start
    for frame in _decode(container, stream, DecodeErrors()):
        if frame.pts is None or frame.sample_rate != rate:
            continue
        time = float(frame.pts * frame.time_base)
        origin = time if origin is None else origin
        frame.pts = None  # the resampler needs no time stamps, and rejects gaps
        block = np.concatenate([f.to_ndarray()[0] for f in resampler.resample(frame)] or [np.zeros(0, np.float32)])
        place = round((time - origin) * rate)
        if abs(place - given) <= _MAX_DRIFT * rate and given:
            place = given
        if place > given:
            gap = min(place, round((stop - origin) * rate) if stop < math.inf else place) - given
            if gap > 0:
                yield np.zeros((gap, 1), np.float32)
                given += gap
        block = block[max(0, given - place) :]
        if stop < math.inf:
            block = block[: max(0, round((stop - origin) * rate) - given)]
        if len(block):
            yield block[:, None].astype(np.float32, copy=False)
            given += len(block)
        if time >= stop:
            return


def sound_between(path: Path, start: float, stop: float) -> np.ndarray:
    """Return the sound from `start` to `stop` seconds: float32 (n,) at 16 kHz, shorter where the sound ends before."""
    blocks = list(sound_blocks(path, start, stop))
    return np.concatenate(blocks)[: round((stop - start) * SPEECH_RATE)] if blocks else np.zeros(0, np.float32)

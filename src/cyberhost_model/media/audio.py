"""Sound files, and the sound of video files -> samples, as a stream of blocks. Memory does not grow with their length.

libsndfile (soundfile) reads WAV, FLAC, OGG and MP3; the ffmpeg of imageio-ffmpeg reads everything else.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.media.ffmpeg import check_file, end_reason, ffmpeg, input_arguments

SPEECH_RATE = 16_000  # Hz, what the speech encoders hear
SILENT_PEAK = 1e-3  # -60 dB of full scale: no speech is below it
CLIPPED_LEVEL = 0.999
CLIPPED_SHARE = 1e-3  # of all samples
BLOCK_SAMPLES = 1 << 17  # for each channel: about 3 s at 44.1 kHz
MAX_CHANNELS = 64
TAKEN = "give WAV, FLAC, OGG, MP3, M4A or a video with sound"

Block = np.ndarray
"""float32 (n, channels) in [-1, 1]."""


@dataclass(frozen=True)
class Sound:
    """A checked sound. Its samples stay in the file until they are asked for.

    `rate` in Hz; `length` in samples for each channel; `warnings`: lines for the user ("the sound is silent ...").
    `path` is None for a sound made from an array.
    """

    path: Path | None
    rate: int
    channels: int
    length: int
    warnings: tuple[str, ...] = ()
    _array: np.ndarray | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_samples(cls, samples: np.ndarray, rate: int) -> Sound:
        """Make a sound from an array, (n,) or (n, channels), values in [-1, 1].

        Raises InputError as `load_audio` does.
        """
        array = np.asarray(samples, dtype=np.float32)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or array.shape[1] == 0 or rate < 1:
            raise InputError(f"a sound must be (n,) or (n, channels) with a rate in Hz, not {np.shape(samples)}")
        return _check("the sound", iter([array]), rate, array.shape[1], path=None, array=array)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.length / self.rate

    @property
    def samples(self) -> np.ndarray:
        """All samples, float32 (n, channels), at the file's own rate. For long files prefer `blocks`."""
        return np.concatenate(list(self.blocks()))

    def n_frames(self, fps: float) -> int:
        """Count the video frames that cover the sound: ceil(duration * fps).

        So every sample falls into a frame.
        """
        rate = Fraction(fps).limit_denominator(1001)
        return max(1, math.ceil(Fraction(self.length, self.rate) * rate))

    def blocks(self) -> Iterator[Block]:
        """Read the samples in order, float32 (n, channels) blocks of a few seconds."""
        if self._array is not None:
            yield self._array
            return
        assert self.path is not None
        with open_blocks(self.path) as (_, _, blocks):
            yield from blocks

    def stream_mono16k(self, seconds: float = 10.0) -> Iterator[np.ndarray]:
        """Read the mean of the channels at 16 kHz in order: float32 (n,) blocks of about `seconds`.

        Values are in [-1, 1].
        """
        yield from resample_stream(self.blocks(), self.rate, SPEECH_RATE, seconds)

    def mono16k(self) -> np.ndarray:
        """Read the whole sound, mono at 16 kHz: float32 (n,), n = ceil(duration * 16000), values in [-1, 1]."""
        return np.concatenate(list(self.stream_mono16k()))


def load_audio(path: str | os.PathLike[str]) -> Sound:
    """Open and check a sound file (WAV, FLAC, OGG, MP3, M4A, AAC, ...) or the sound of a video file.

    The file is read through once. Any length above zero is taken, 0.05 s too: it gives at least one video frame.
    Raises InputError for a file that is missing, empty, corrupt, without sound, or holds values that are no numbers.
    Silence and clipping are no errors; they are noted in `Sound.warnings`.
    """
    path = Path(path)
    check_file(path, "sound file", "one sound file (WAV, FLAC, MP3, M4A, OGG) or a video")
    with open_blocks(path) as (rate, channels, blocks):
        return _check(str(path), blocks, rate, channels, path=path)


def _check(
    name: str, blocks: Iterator[Block], rate: int, channels: int, path: Path | None, array: np.ndarray | None = None
) -> Sound:
    length, clipped, peak = 0, 0, 0.0
    for block in blocks:
        level = np.abs(block)
        if not np.isfinite(level).all():
            raise InputError(f"{name}: holds samples that are not numbers (NaN or infinity); export it again")
        length += len(block)
        peak = max(peak, float(level.max(initial=0.0)))
        clipped += int((level >= CLIPPED_LEVEL).sum())
    if length == 0:
        raise InputError(f"{name}: holds no sound (0 samples); record or export it again")
    notes = []
    if peak < SILENT_PEAK:
        notes.append("the sound is silent: the mouth will rest")
    if clipped > CLIPPED_SHARE * length * channels:
        notes.append(f"the sound is clipped ({clipped / (length * channels):.1%} of its samples): lower the gain")
    return Sound(path, rate, channels, length, tuple(notes), array)


def resample_stream(blocks: Iterator[Block], rate: int, target: int, seconds: float) -> Iterator[np.ndarray]:
    """Average the channels and resample from `rate` to `target` Hz piece by piece.

    Equal to `scipy.signal.resample_poly` on the whole sound: each piece is resampled with as much of its neighbours as
    the filter reaches, and starts on a sample that both rates share.
    """
    common = math.gcd(rate, target)
    up, down = target // common, rate // common
    if up == down:
        yield from (np.clip(block.mean(axis=1), -1.0, 1.0) for block in blocks if len(block))
        return
    from scipy.signal import resample_poly  # late: it takes a quarter of a second to import

    # resample_poly's default filter reaches 10 * max(up, down) samples of the upsampled signal to either side.
    reach = math.ceil((10 * max(up, down) / up + 1) / down) * down
    piece = math.ceil(max(seconds, 0.1) * rate / down) * down
    buffer = np.zeros(0, dtype=np.float32)  # `before` samples already used as context, then new ones
    before = 0

    def emit(last: bool) -> np.ndarray:
        new = len(buffer) - before if last else piece
        end = before + new if last else before + new + reach
        made = resample_poly(buffer[:end].astype(np.float64), up, down)
        start = before * up // down
        stop = start + math.ceil(new * up / down)
        return np.clip(made[start:stop], -1.0, 1.0).astype(np.float32)

    for block in blocks:
        buffer = np.concatenate([buffer, block.mean(axis=1, dtype=np.float32)])
        while len(buffer) - before >= piece + reach:
            yield emit(last=False)
            keep = min(reach, before + piece)
            buffer = buffer[before + piece - keep :]
            before = keep
    if len(buffer) > before:
        yield emit(last=True)


@contextlib.contextmanager
def open_blocks(path: Path) -> Iterator[tuple[int, int, Iterator[Block]]]:
    """Open a sound file: yields (rate in Hz, channels, iterator of float32 (n, channels) blocks). Raises InputError."""
    import soundfile

    try:
        file = soundfile.SoundFile(str(path))
    except (soundfile.LibsndfileError, RuntimeError, OSError):
        with _open_ffmpeg(path) as opened:  # a format of its own, or no sound at all: ffmpeg decides
            yield opened
        return
    with file:
        _check_layout(path, file.samplerate, file.channels)
        yield file.samplerate, file.channels, _sndfile_blocks(path, file)


def _sndfile_blocks(path: Path, file: Any) -> Iterator[Block]:
    import soundfile

    while True:
        try:
            block = file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise InputError(f"{path}: the sound is damaged ({error}); export it again") from None
        if len(block) == 0:
            return
        yield block


@contextlib.contextmanager
def _open_ffmpeg(path: Path) -> Iterator[tuple[int, int, Iterator[Block]]]:
    # WAV on the pipe, because its header tells rate and channels; float, so that nothing is clipped on the way.
    command = ["-v", "error", *input_arguments(path), "-map", "0:a:0"]
    command += ["-c:a", "pcm_f32le", "-bitexact", "-f", "wav", "-"]
    with ffmpeg(command) as decoder:
        layout = _read_wav_header(decoder.stdout)
        if layout is None:
            raise InputError(_why_not_sound(path, *decoder.end()))
        rate, channels = layout
        _check_layout(path, rate, channels)
        yield rate, channels, _pipe_blocks(decoder.stdout, channels)


def _why_not_sound(path: Path, returncode: int, errors: str) -> str:
    if "matches no streams" in errors:
        return f"{path}: holds no sound; {TAKEN}"
    reason = end_reason(returncode, errors)
    if "Invalid data" in errors or "received no packets" in errors or "Error opening input" in errors:
        return f"{path}: not a sound file that can be read; {TAKEN}"
    return f"{path}: the sound cannot be read ({reason}); {TAKEN}"


def _read_wav_header(pipe: IO[bytes]) -> tuple[int, int] | None:
    """Read up to the first sample. Returns (rate, channels), or None where the stream ends before it."""
    if pipe.read(12)[:4] != b"RIFF":
        return None
    layout = None
    while len(head := pipe.read(8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            return layout
        body = pipe.read(size + size % 2)
        if name == b"fmt ":
            layout = int.from_bytes(body[4:8], "little"), int.from_bytes(body[2:4], "little")
    return None


def _pipe_blocks(pipe: IO[bytes], channels: int) -> Iterator[Block]:
    width = 4 * channels
    rest = b""
    while data := pipe.read(BLOCK_SAMPLES * width):
        data = rest + data
        whole = len(data) // width * width
        rest = data[whole:]
        if whole:
            yield np.frombuffer(data[:whole], dtype="<f4").reshape(-1, channels)


def _check_layout(path: Path, rate: int, channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS or not 1000 <= rate <= 768_000:
        raise InputError(f"{path}: {channels} channels at {rate} Hz cannot be used; export it as 48 kHz stereo")

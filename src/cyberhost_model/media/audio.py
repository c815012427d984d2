"""A sound: decoded once, checked, and read as often as it is asked for. Memory does not grow with its length.

What the network hears and what the film plays are the samples of one `Sound`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.media.ffmpeg import check_file
from cyberhost_model.media.sample_file import SampleFile
from cyberhost_model.media.sound_decoder import open_sound_file
from cyberhost_model.media.standard_input import as_file

SPEECH_RATE = 16_000  # Hz, what the speech encoders hear
SILENT_PEAK = 1e-3  # -60 dB of full scale: no speech is below it
CLIPPED_LEVEL = 0.999
CLIPPED_SHARE = 1e-3  # of all samples
CANCELLED_SHARE = 0.05  # of the channels' power that their mean keeps where they cancel out; music keeps more
CANCELLED_PARTS = 0.1  # of the sound's power, in parts where the channels cancel out

_LONGEST_SILENCE = 3600
_SILENCE = re.compile(r"silence:(\d{1,5}(?:\.\d{1,3})?)")  # seconds

Block = np.ndarray
"""float32 (n, channels) in [-1, 1]."""


@dataclass(frozen=True)
class Sound:
    """A checked sound. Its samples lie in a temporary file until they are asked for.

    `rate` in Hz; `channels`: 1 or 2, for the film; `length` in samples for each channel; `warnings`: lines for the user
    ("the sound is silent ..."). `path` is the file it comes from, None for a sound made from an array. `heard`: the
    channel that the network hears, None for the mean of all.
    """

    path: Path | None
    rate: int
    channels: int
    length: int
    warnings: tuple[str, ...] = ()
    heard: int | None = None
    _store: SampleFile | np.ndarray | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_samples(cls, samples: np.ndarray, rate: int) -> Sound:
        """Make a sound from an array, (n,) or (n, channels), values in [-1, 1].

        More than two channels become the mean of all. Raises InputError as `load_audio` does.
        """
        array = np.asarray(samples, dtype=np.float32)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or array.shape[1] == 0 or rate < 1:
            raise InputError(f"a sound must be (n,) or (n, channels) with a rate in Hz, not {np.shape(samples)}")
        if array.shape[1] > 2:
            array = array.mean(axis=1, keepdims=True, dtype=np.float32)
        levels = Levels(array.shape[1])
        array = levels.take(array)
        return levels.sound("the sound", None, rate, array)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.length / self.rate

    @property
    def samples(self) -> np.ndarray:
        """All samples, float32 (n, channels), at the sound's own rate. For long sounds prefer `blocks`."""
        return np.concatenate(list(self.blocks()))

    def n_frames(self, fps: float) -> int:
        """Count the video frames that cover the sound: ceil(duration * fps).

        So every sample falls into a frame.
        """
        rate = Fraction(fps).limit_denominator(1001)
        return max(1, math.ceil(Fraction(self.length, self.rate) * rate))

    def blocks(self) -> Iterator[Block]:
        """Read the samples in order, float32 (n, channels) blocks of a few seconds."""
        if isinstance(self._store, SampleFile):
            yield from self._store.blocks()
        elif self._store is not None:
            yield self._store

    def sample_file(self) -> SampleFile:
        """Return the file with the samples, for a film; of a sound made from an array one is written."""
        return self._store if isinstance(self._store, SampleFile) else SampleFile(self.blocks(), self.channels)

    def stream_mono16k(self, seconds: float = 10.0) -> Iterator[np.ndarray]:
        """Read what the network hears in order, at 16 kHz: float32 (n,) blocks of about `seconds`.

        It is the mean of the channels, or one of them where they cancel out (`heard`). Values are in [-1, 1].
        """
        blocks = self.blocks()
        if self.heard is not None:
            blocks = (block[:, self.heard : self.heard + 1] for block in blocks)
        yield from resample_stream(blocks, self.rate, SPEECH_RATE, seconds)

    def mono16k(self) -> np.ndarray:
        """Read the whole sound, mono at 16 kHz: float32 (n,), n = ceil(duration * 16000), values in [-1, 1]."""
        return np.concatenate(list(self.stream_mono16k()))


def load_audio(path: str | os.PathLike[str]) -> Sound:
    """Decode and check a sound file (WAV, FLAC, OGG, MP3, M4A, AAC, ...) or the sound of a video file.

    "-" is standard input, and "silence:6" six seconds in which nobody speaks, at most an hour. A file is decoded once,
    into a temporary file of 4 bytes a sample; more than two channels are mixed to stereo. Any length above zero is
    taken, 0.05 s too: it gives at least one video frame. Raises InputError for a file that is missing, empty, corrupt,
    without sound, or of which most samples are no numbers, and ResourceError where there is no room for the samples.
    Silence, clipping, channels that cancel out, a missing end and damage are no errors; they are noted in
    `Sound.warnings`.
    """
    if (silence := _SILENCE.fullmatch(Path(path).name)) and not Path(path).exists():
        length = round(float(silence[1]) * SPEECH_RATE)
        if not 0 < length <= _LONGEST_SILENCE * SPEECH_RATE:
            raise InputError(f"{path}: silence must last more than 0 and at most {_LONGEST_SILENCE} seconds")
        return Sound(None, SPEECH_RATE, 1, length, _store=np.zeros((length, 1), np.float32))
    with as_file(Path(path)) as file:
        check_file(file, "sound file", "one sound file (WAV, FLAC, MP3, M4A, OGG) or a video")
        with open_sound_file(file) as opened:
            levels = Levels(opened.channels)
            samples = SampleFile(map(levels.take, opened.blocks), opened.channels)
            return levels.sound(str(file), Path(path), opened.rate, samples, opened.remarks)


class Levels:
    """Measures a sound while its blocks go by, and keeps its samples usable."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.length = self.clipped = self.invalid = 0
        self.peak = 0.0
        self.power = np.zeros(channels)
        self.cancelled = 0.0  # power of the parts in which the channels cancel out

    def take(self, block: Block) -> Block:
        """Measure a block, float32 (n, channels); what is returned is finite and in [-1, 1]."""
        valid = np.isfinite(block)
        if not valid.all():
            self.invalid += int((~valid).sum())
            block = np.where(valid, block, np.float32(0))
        level = np.abs(block)
        self.length += len(block)
        self.peak = max(self.peak, float(level.max(initial=0.0)))
        self.clipped += int((level >= CLIPPED_LEVEL).sum())
        if self.peak > 1:
            block = np.clip(block, -1.0, 1.0)
        power = np.square(block, dtype=np.float64).sum(0)
        self.power += power
        if self.channels > 1:
            mixed = float(np.square(block.mean(1), dtype=np.float64).sum())
            self.cancelled += float(power.sum()) if mixed < CANCELLED_SHARE * float(power.mean()) else 0.0
        return block

    def sound(
        self, name: str, path: Path | None, rate: int, store: SampleFile | np.ndarray, remarks: Iterable[str] = ()
    ) -> Sound:
        """Make the sound, with what was noticed in its warnings. Raises InputError where nothing of it can be used."""
        count = self.length * self.channels
        if count == 0:
            raise InputError(f"{name}: holds no sound (0 samples); record or export it again")
        if 2 * self.invalid > count or (self.invalid and self.peak == 0):
            raise InputError(f"{name}: holds samples that are not numbers (NaN or infinity); export it again")
        notes, heard = list(remarks), None
        if self.invalid:
            notes.append(f"{self.invalid} of the sound's samples are not numbers (NaN or infinity): they are silent")
        if self.peak < SILENT_PEAK:
            notes.append("the sound is silent: the mouth will rest")
        elif self.cancelled > CANCELLED_PARTS * float(self.power.sum()):
            heard = int(self.power.argmax())
            side = ("left", "right")[heard]
            notes.append(f"the sound's channels cancel out when they are mixed: the {side} one alone moves the lips")
        if self.clipped > CLIPPED_SHARE * count:
            notes.append(f"the sound is clipped ({self.clipped / count:.1%} of its samples): lower the gain")
        return Sound(path, rate, self.channels, self.length, tuple(notes), heard, store)


def resample_stream(blocks: Iterator[Block], rate: int, target: int, seconds: float) -> Iterator[np.ndarray]:
    """Average the channels and resample from `rate` to `target` Hz piece by piece, see `Resampler`."""
    resampler = Resampler(rate, target, max(seconds, 0.1))
    for block in blocks:
        yield from resampler.push(block)
    yield from resampler.end()


class Resampler:
    """Averages the channels of a sound that comes in blocks, and resamples it from `rate` to `target` Hz.

    Equal to `scipy.signal.resample_poly` on the whole sound, however it is cut into blocks: each piece is resampled
    with as much of its neighbours as the filter reaches, and starts on a sample that both rates share.
    """

    def __init__(self, rate: int, target: int, seconds: float) -> None:
        """Resample pieces of about `seconds`; what is pushed comes out later by that and the filter's reach."""
        common = math.gcd(rate, target)
        self.up, self.down = target // common, rate // common
        # resample_poly's default filter reaches 10 * max(up, down) samples of the upsampled signal to either side.
        self.reach = math.ceil((10 * max(self.up, self.down) / self.up + 1) / self.down) * self.down
        self.piece = max(1, math.ceil(seconds * rate / self.down)) * self.down
        self._buffer = np.zeros(0, dtype=np.float32)  # `_before` samples already used as context, then new ones
        self._before = 0

    def push(self, block: Block) -> Iterator[np.ndarray]:
        """Take a block, float32 (n, channels), and yield the pieces that are certain: float32 (n,) in [-1, 1]."""
        if self.up == self.down:
            if len(block):
                yield np.clip(block.mean(axis=1), -1.0, 1.0)
            return
        self._buffer = np.concatenate([self._buffer, block.mean(axis=1, dtype=np.float32)])
        while len(self._buffer) - self._before >= self.piece + self.reach:
            yield self._resample(self.piece)
            keep = min(self.reach, self._before + self.piece)
            self._buffer = self._buffer[self._before + self.piece - keep :]
            self._before = keep

    def end(self) -> Iterator[np.ndarray]:
        """Yield the rest; nothing may be pushed after it."""
        new = len(self._buffer) - self._before
        if new > 0:
            yield self._resample(new)

    def _resample(self, new: int) -> np.ndarray:
        """Resample `new` samples with what is there of their neighbours."""
        from scipy.signal import resample_poly  # late: it takes a quarter of a second to import

        around = self._buffer[: self._before + new + self.reach].astype(np.float64)
        made = resample_poly(around, self.up, self.down)
        start = self._before * self.up // self.down
        stop = start + math.ceil(new * self.up / self.down)
        return np.clip(made[start:stop], -1.0, 1.0).astype(np.float32)

"""How loud a recording's speech is: brings every recording to one level before the speech encoder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_PIECE = 320  # samples, 20 ms
_RANGE = 100.0  # power ratio: speech is what lies within 20 dB of the loud pieces
_STEADY = 10 ** (5 / 10)  # power ratio of loud to quiet pieces; speech has more, even at 10 dB of noise
_STEADY_PIECES = 50  # 1 s: less says little about steadiness
_BEGINNING = 25  # pieces, 0.5 s, that a usual level stands for
_BELOW = 10 ** (30 / 20)  # how far under speech steady noise is put
_QUIETEST = 10 ** (-50 / 20)  # RMS; a recording whose speech is below -50 dBFS is not lifted to the common level


@dataclass(frozen=True)
class SpeechLevel:
    """Offset and loudness of a whole recording."""

    offset: float
    """Mean of the samples (a microphone's DC)."""
    rms: float
    """Root mean square of the active speech; 0 for digital silence, and 30 dB above the noise for steady noise alone,
    so that it is not taken for speech.
    """
    loudest: float | None = None
    """Largest log-mel value of the recording, for encoders whose spectrogram reaches so far below it (Whisper)."""

    def normalise(self, samples: np.ndarray, target: float) -> np.ndarray:
        """Remove the offset of `samples` (n,) and bring active speech to an RMS of `target`.

        The gain stops at what lifts -50 dBFS to the target, so that silence stays silence.
        """
        gain = target / max(self.rms, _QUIETEST)
        return ((samples - np.float32(self.offset)) * np.float32(gain)).astype(np.float32)


def speech_level(blocks: Iterable[np.ndarray]) -> SpeechLevel:
    """Measure the level of a recording given as float (n,) blocks in order, at 16 kHz."""
    levels = RunningLevel()
    for block in blocks:
        levels.take(block)
    return levels.level()


class RunningLevel:
    """Level of a sound while its blocks go by.

    It is the power mean of the 20 ms pieces within 20 dB of the 95th percentile. Keeps 4 bytes for a piece (0.7 MB an
    hour), or no more than `most` pieces, the latest.
    """

    def __init__(self, most: int | None = None, usual: SpeechLevel | None = None) -> None:
        """Begin without a block. usual: a level that stands for the first half second, before there is any."""
        self.most = most
        self._rest = np.zeros(0, np.float32)
        self._powers: list[np.ndarray] = [] if usual is None else [np.full(_BEGINNING, usual.rms**2, np.float32)]
        self._total, self._count = 0.0, 0

    def take(self, block: np.ndarray) -> None:
        """Measure the next block, float (n,) at 16 kHz."""
        self._total, self._count = self._total + float(block.sum(dtype=np.float64)), self._count + len(block)
        rest = np.concatenate([self._rest, block.astype(np.float32, copy=False)])
        whole = len(rest) // _PIECE * _PIECE
        self._powers.append(rest[:whole].reshape(-1, _PIECE).var(1))
        self._rest = rest[whole:]
        if self.most is not None:
            self._powers = [np.concatenate(self._powers)[-self.most :]]

    def level(self) -> SpeechLevel:
        """Compute the level of all that was taken."""
        powers, offset = list(self._powers), self._total / max(self._count, 1)
        if len(self._rest) and not any(len(p) for p in powers):
            powers.append(self._rest.var(keepdims=True))  # shorter than one piece
        power = np.concatenate(powers) if powers else np.zeros(0, np.float32)
        power = power[power > 1e-10]  # digital silence says nothing about the speech
        if not len(power):
            return SpeechLevel(offset, 0.0)
        quiet, loud = np.percentile(power, [10, 95])
        rms = float(np.sqrt(power[power > loud / _RANGE].mean(dtype=np.float64)))
        steady = len(power) >= _STEADY_PIECES and loud < _STEADY * quiet
        return SpeechLevel(offset, rms * _BELOW if steady else rms)

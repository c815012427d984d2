"""How loud a recording's speech is: brings every recording to one level before the speech encoder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_PIECE = 320  # samples, 20 ms
_RANGE = 100.0  # power ratio: speech is what lies within 20 dB of the loud pieces
_STEADY = 10 ** (5 / 10)  # power ratio of loud to quiet pieces; speech has more, even at 10 dB of noise
_STEADY_PIECES = 50  # 1 s: less says little about steadiness
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
    """Measure the level of a recording given as float (n,) blocks in order, at 16 kHz.

    It is the power mean of the 20 ms pieces within 20 dB of the 95th percentile. Keeps 4 bytes for a piece (0.7 MB an
    hour).
    """
    buffer = np.zeros(0, np.float32)
    powers: list[np.ndarray] = []
    total, count = 0.0, 0
    for block in blocks:
        total, count = total + float(block.sum(dtype=np.float64)), count + len(block)
        buffer = np.concatenate([buffer, block.astype(np.float32, copy=False)])
        whole = len(buffer) // _PIECE * _PIECE
        powers.append(buffer[:whole].reshape(-1, _PIECE).var(1))
        buffer = buffer[whole:]
    if len(buffer) and not any(len(p) for p in powers):
        powers.append(buffer.var(keepdims=True))  # shorter than one piece
    power = np.concatenate(powers) if powers else np.zeros(0, np.float32)
    power = power[power > 1e-10]  # digital silence says nothing about the speech
    if not len(power):
        return SpeechLevel(total / max(count, 1), 0.0)
    quiet, loud = np.percentile(power, [10, 95])
    rms = float(np.sqrt(power[power > loud / _RANGE].mean(dtype=np.float64)))
    steady = len(power) >= _STEADY_PIECES and loud < _STEADY * quiet
    return SpeechLevel(total / count, rms * _BELOW if steady else rms)

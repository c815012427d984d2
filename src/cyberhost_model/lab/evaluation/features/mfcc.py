"""The sound as SyncNet hears it: 13 mel cepstra at 100 Hz, with the defaults of python_speech_features 0.6.

Written here because that package is an unkept source archive that wants the whole recording at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from scipy.fft import dct

RATE = 16_000  # Hz
CEPSTRA = 13
_FRAME, _STEP = 400, 160  # samples: 25 ms every 10 ms, no window function
_FFT, _BANDS = 512, 26
_EMPHASIS = 0.97
_LIFTER = 22
_EPS = np.finfo(float).eps  # stands for zero energy, whose logarithm there is not


@lru_cache(maxsize=1)
def _mel_bands() -> np.ndarray:
    """(257, 26): triangles between FFT bins, their corners evenly spaced on the mel scale from 0 to 8 kHz."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, _BANDS + 2) / 2595) - 1)
    bins = np.floor((_FFT + 1) * corners / RATE)
    at = np.arange(_FFT // 2 + 1)[:, None]
    low, middle, high = bins[:-2], bins[1:-1], bins[2:]
    rising = (at - low) / np.maximum(middle - low, 1)
    falling = (high - at) / np.maximum(high - middle, 1)
    return np.where((at >= low) & (at < middle), rising, 0) + np.where((at >= middle) & (at < high), falling, 0)


def _cepstra(frames: np.ndarray) -> np.ndarray:
    """(n, 400) emphasised samples -> (n, 13); the first is the logarithm of the frame's energy."""
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2 / _FFT
    bands = power @ _mel_bands()
    out = dct(np.log(np.where(bands == 0, _EPS, bands)), type=2, axis=1, norm="ortho")[:, :CEPSTRA]
    out *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(CEPSTRA) / _LIFTER)
    energy = power.sum(1)
    out[:, 0] = np.log(np.where(energy == 0, _EPS, energy))
    return out


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Samples in -1..1 as the whole numbers a 16-bit WAV holds: SyncNet's energies are of that scale."""
    return np.clip(np.rint(np.asarray(samples, np.float64) * 32768), -32768, 32767)


def mfcc_stream(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The cepstra of `blocks` of mono 16 kHz samples in -1..1, in order: pieces float64 (n, 13).

    Together 1 + ceil((samples - 400) / 160) rows, one at least; the last frame is filled up with zeros. Nothing without
    samples.
    """
    held, last, given = np.zeros(0), None, 0
    for block in blocks:
        if not len(block):
            continue
        samples = as_int16(block)
        before = np.concatenate([[0.0 if last is None else last], samples[:-1]])
        held, last = np.concatenate([held, samples - _EMPHASIS * before]), samples[-1]
        ready = (len(held) - _FRAME) // _STEP + 1
        # The last whole frame may be the very last one, which needs no filling up: it waits for what follows.
        if ready > 1:
            yield _cepstra(_framed(held, ready - 1))
            held, given = held[(ready - 1) * _STEP :], given + ready - 1
    if last is not None:
        left = 1 + max(0, -(-(len(held) - _FRAME) // _STEP))
        yield _cepstra(_framed(np.pad(held, (0, max(0, (left - 1) * _STEP + _FRAME - len(held)))), left))


def _framed(samples: np.ndarray, count: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[: count * _STEP : _STEP][:count]


def mfcc(samples: np.ndarray) -> np.ndarray:
    """All cepstra of `samples` (n,) in -1..1 at 16 kHz: float64 (frames, 13)."""
    pieces = list(mfcc_stream([samples]))
    return np.concatenate(pieces) if pieces else np.zeros((0, CEPSTRA))

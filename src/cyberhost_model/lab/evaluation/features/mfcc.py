"""Compute SyncNet's audio features: 13 MFCC at 100 Hz, with the defaults of python_speech_features 0.6.

Written here because that package is no longer maintained and needs the whole recording at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from scipy.fft import dct

from cyberhost_model.media.audio import SPEECH_RATE

COEFFICIENTS = 13
_FRAME, _STEP = 400, 160  # samples: 25 ms every 10 ms, no window function
_FFT, _BANDS = 512, 26
_EMPHASIS = 0.97
_LIFTER = 22
_EPS = np.finfo(float).eps  # replaces zero energy, which has no logarithm


@lru_cache(maxsize=1)
def _mel_bands() -> np.ndarray:
    """Return triangular mel filters (257, 26): corners evenly spaced on the mel scale from 0 to 8 kHz."""
    top = 2595 * np.log10(1 + SPEECH_RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, _BANDS + 2) / 2595) - 1)
    bins = np.floor((_FFT + 1) * corners / SPEECH_RATE)
    at = np.arange(_FFT // 2 + 1)[:, None]
    low, middle, high = bins[:-2], bins[1:-1], bins[2:]
    rising = (at - low) / np.maximum(middle - low, 1)
    falling = (high - at) / np.maximum(high - middle, 1)
    return np.where((at >= low) & (at < middle), rising, 0) + np.where((at >= middle) & (at < high), falling, 0)


def _cepstra(frames: np.ndarray) -> np.ndarray:
    """Turn emphasised samples (n, 400) into MFCC (n, 13); the first is the logarithm of the frame's energy."""
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2 / _FFT
    bands = power @ _mel_bands()
    out = dct(np.log(np.where(bands == 0, _EPS, bands)), type=2, axis=1, norm="ortho")[:, :COEFFICIENTS]
    out *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / _LIFTER)
    energy = power.sum(1)
    out[:, 0] = np.log(np.where(energy == 0, _EPS, energy))
    return out


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Scale samples in -1..1 to the integers of a 16-bit WAV: SyncNet was trained on energies of that scale."""
    return np.clip(np.rint(np.asarray(samples, np.float64) * 32768), -32768, 32767)


def mfcc_stream(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Compute the MFCC of `blocks` of mono 16 kHz samples in -1..1, in order: pieces float64 (n, 13).

    Together 1 + ceil((samples - 400) / 160) rows, at least one; the last frame is padded with zeros. Without samples
    there are no rows.
    """
    rest, last = np.zeros(0), None
    for block in blocks:
        if not len(block):
            continue
        samples = as_int16(block)
        before = np.concatenate([[0.0 if last is None else last], samples[:-1]])
        rest, last = np.concatenate([rest, samples - _EMPHASIS * before]), samples[-1]
        ready = (len(rest) - _FRAME) // _STEP + 1
        # The last whole frame may be the final one, which needs no padding: it waits for the next block.
        if ready > 1:
            yield _cepstra(_framed(rest, ready - 1))
            rest = rest[(ready - 1) * _STEP :]
    if last is not None:
        left = 1 + max(0, -(-(len(rest) - _FRAME) // _STEP))
        yield _cepstra(_framed(np.pad(rest, (0, max(0, (left - 1) * _STEP + _FRAME - len(rest)))), left))


def _framed(samples: np.ndarray, count: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[: count * _STEP : _STEP][:count]


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Compute the MFCC of `samples` (n,) in -1..1 at 16 kHz: float64 (frames, 13)."""
    pieces = list(mfcc_stream([samples]))
    return np.concatenate(pieces) if pieces else np.zeros((0, COEFFICIENTS))

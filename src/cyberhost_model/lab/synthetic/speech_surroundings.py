"""Sounds around speech that lips do not follow: rooms, music, hum."""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve, lfilter

from cyberhost_model.media.audio import SPEECH_RATE

_PERIOD = 2048  # samples of a timbre's one period


def reverberated(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put samples (n,) at 16 kHz in a random room: float32 (n,), the direct sound where it was.

    The tail behind it falls by 60 dB in 0.15 to 0.7 s.
    """
    seconds = rng.uniform(0.15, 0.7)
    t = np.arange(round(seconds * SPEECH_RATE)) / SPEECH_RATE
    tail = rng.standard_normal(len(t)) * 10 ** (-3 * t / seconds)
    tail[: round(rng.uniform(0.001, 0.008) * SPEECH_RATE)] = 0
    tail *= 10 ** (-rng.uniform(0, 10) / 20) / (np.sqrt((tail**2).sum()) + 1e-9)
    tail[0] = 1
    return fftconvolve(samples, tail)[: len(samples)].astype(np.float32)


def music(n: int, rng: np.random.Generator) -> np.ndarray:
    """Make n samples of music, float32, with a mean square of 1.

    Chords and a melody of one random timbre, a bass and mostly a beat.
    """
    beat = rng.uniform(0.25, 0.7)  # seconds
    root = rng.uniform(40, 58)
    scale = np.array([0, 2, 4, 5, 7, 9, 11] if rng.random() < 0.5 else [0, 2, 3, 5, 7, 8, 10])
    strength = rng.uniform(0.3, 1.0, 8) * rng.uniform(0.45, 0.95) ** np.arange(8)
    turn = 2 * np.pi * np.arange(_PERIOD) / _PERIOD
    timbre = np.sum([loud * np.sin(k * turn) for k, loud in enumerate(strength, 1)], axis=0).astype(np.float32)
    decay, vibrato = rng.uniform(0.5, 6), rng.uniform(0, 0.006)
    out = np.zeros(n, np.float32)
    at = 0
    while at < n:
        length = round(beat * SPEECH_RATE * rng.choice([1, 1, 2, 0.5]))
        degree = int(rng.integers(7))
        notes = [
            root + scale[(degree + k) % 7] + 12 * ((degree + k) // 7) for k in (0, 2, 4)[: int(rng.integers(1, 4))]
        ]
        notes += [root + 12 + rng.choice(scale) + 12 * int(rng.integers(2)), root - 12 + scale[degree]]
        held = min(n - at, round(length * rng.uniform(0.8, 1.6)))
        t = np.arange(held) / SPEECH_RATE
        shape = np.exp(-decay * t) * np.minimum(1, t / 0.01) * np.minimum(1, (held / SPEECH_RATE - t) / 0.03)
        for note in notes:
            turns = 440 * 2 ** ((note - 69) / 12) * (t + vibrato * np.sin(2 * np.pi * 5.5 * t) / 30)
            out[at : at + held] += timbre[(turns * _PERIOD).astype(int) % _PERIOD] * shape
        at += length
    if rng.random() < 0.7:
        for hit in range(0, n, round(beat * SPEECH_RATE)):
            held = min(n - hit, 3200)
            burst = rng.standard_normal(held) * np.exp(-np.arange(held) / SPEECH_RATE * rng.uniform(15, 60))
            out[hit : hit + held] += rng.uniform(0.3, 1.5) * lfilter([1, rng.uniform(-0.9, 0.9)], [1], burst).astype(
                np.float32
            )
    return out / (np.sqrt(np.mean(out**2)) + 1e-9)


def hum(n: int, rng: np.random.Generator) -> np.ndarray:
    """Make n samples of mains hum or of a machine, float32, with a mean square of 1."""
    t = np.arange(n) / SPEECH_RATE
    base = rng.choice([50.0, 60.0, float(rng.uniform(80, 300))])
    tones = (rng.uniform(0.1, 1) / k * np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6)) for k in range(1, 12))
    out = np.sum(list(tones), axis=0) + 0.1 * rng.standard_normal(n)
    return (out / np.sqrt(np.mean(out**2))).astype(np.float32)

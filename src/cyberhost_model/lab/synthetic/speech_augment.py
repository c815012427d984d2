"""Random recording conditions for clean speech: pauses, noise, microphones that the speech corpus does not have.

The sound changes and the mouth does not: labels are computed on the clean speech with the same pauses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from cyberhost_model.media.audio import SPEECH_RATE

Response = Callable[[np.ndarray], np.ndarray]
"""Frequencies in Hz -> gains."""


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities and ranges of the recording conditions; values are uniform within a range."""

    gain_db: tuple[float, float] = (-20.0, 6.0)
    noise: float = 0.7
    """Share of items with noise."""
    snr_db: tuple[float, float] = (10.0, 40.0)
    pause: float = 0.5
    """Chance of a pause; another one follows with the same chance, three at most."""
    pause_seconds: tuple[float, float] = (0.3, 2.0)
    tone: float = 0.5
    """Share of items with another frequency response, up to +-6 dB."""
    band: float = 0.12
    """Share of items with a narrow band: telephone, or a low sampling rate."""
    silence: float = 0.04
    """Share of items in which nobody speaks at all: digital silence, or noise alone."""


@dataclass(frozen=True)
class AugmentedSpeech:
    """Clean and degraded speech, float32 (n,) in [-1, 1] at 16 kHz, n >= the length of the input."""

    clean: np.ndarray
    """The input with pauses: label it with `speech_motion`."""
    heard: np.ndarray
    """With pauses, frequency response, noise and gain."""


def augment_speech(
    samples: np.ndarray, rng: np.random.Generator, config: AugmentConfig | None = None
) -> AugmentedSpeech:
    """Degrade clean speech (n,) at 16 kHz by random recording conditions, which depend on `rng` alone."""
    config = config or AugmentConfig()
    clean, dead = _with_pauses(samples.astype(np.float32), rng, config)
    if rng.random() < config.silence:
        clean = np.zeros_like(clean)
    heard = clean
    if rng.random() < config.tone:
        heard = _shaped(heard, _tone(rng))
    if rng.random() < config.band:
        heard = _shaped(heard, _band(rng))
    if rng.random() < config.noise:
        loudness = _loudness(heard)
        level = 10 ** (rng.uniform(-60, -30) / 20) if loudness < 1e-4 else loudness
        heard = heard + coloured_noise(len(heard), rng) * np.float32(level * 10 ** (-rng.uniform(*config.snr_db) / 20))
    heard = np.where(dead, np.float32(0), heard)
    heard = heard * np.float32(10 ** (rng.uniform(*config.gain_db) / 20))
    return AugmentedSpeech(clean, np.clip(heard, -1, 1).astype(np.float32))


def coloured_noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """Make n samples of noise, float32, with a mean square of 1: white, pink or babble.

    Babble has the spectrum of speech and comes and goes like syllables.
    """
    kind = rng.integers(3)
    white = rng.standard_normal(n).astype(np.float32)
    out: np.ndarray
    if kind == 0:
        out = white
    elif kind == 1:
        out = _shaped(white, lambda hertz: 1 / np.sqrt(np.maximum(hertz, 30)))
    else:  # the long-term spectrum of speech falls above 500 Hz; three bands of it come and go at syllable rate
        out = np.zeros_like(white)
        for low, high in ((0, 700), (700, 2000), (2000, 8001)):
            knots = rng.gamma(2.0, 0.5, max(2, int(n / SPEECH_RATE * rng.uniform(4, 8)) + 2))
            envelope = np.interp(np.linspace(0, len(knots) - 1, n), np.arange(len(knots)), knots)
            out = out + _shaped(white, _babble_band(low, high)) * envelope
    return (out / (np.sqrt(np.mean(out**2)) + 1e-12)).astype(np.float32)


def _loudness(samples: np.ndarray) -> float:
    """Compute the root mean square of the louder half of 20 ms pieces: of the speech, not of its pauses."""
    pieces = np.sort((samples[: len(samples) // 320 * 320].reshape(-1, 320) ** 2).mean(1))
    return float(np.sqrt(pieces[len(pieces) // 2 :].mean())) if len(pieces) else 0.0


def _with_pauses(samples: np.ndarray, rng: np.random.Generator, config: AugmentConfig) -> tuple[np.ndarray, np.ndarray]:
    """Insert pauses; returns the samples, and True where the recording is digitally silent."""
    dead = np.zeros(len(samples), bool)
    fade = np.linspace(0, 1, 80, dtype=np.float32)  # 5 ms, no click
    for _ in range(3):
        if rng.random() >= config.pause:
            break
        at = int(rng.integers(0, len(samples) + 1))
        length = int(rng.uniform(*config.pause_seconds) * SPEECH_RATE)
        before, after = samples[:at].copy(), samples[at:].copy()
        before[-80:] *= fade[::-1][-len(before) :] if len(before) < 80 else fade[::-1]
        after[:80] *= fade[: len(after)]
        samples = np.concatenate([before, np.zeros(length, np.float32), after])
        dead = np.concatenate([dead[:at], np.full(length, rng.random() < 0.4), dead[at:]])
    return samples, dead


def _babble_band(low: float, high: float) -> Response:
    """Make the response of low..high Hz of the long-term spectrum of speech."""
    return lambda hertz: ((hertz >= low) & (hertz < high) & (hertz > 80)) / np.maximum(hertz, 500)


def _tone(rng: np.random.Generator) -> Response:
    """Draw a smooth random frequency response."""
    decibel = rng.uniform(-6, 6, 5)
    knots = np.log([60, 250, 1000, 3500, 8000])
    return lambda hertz: 10 ** (np.interp(np.log(np.maximum(hertz, 60)), knots, decibel) / 20)


def _band(rng: np.random.Generator) -> Response:
    """Draw the response of a telephone (300-3400 Hz) or of a narrow recording (up to 4 kHz), with soft edges."""
    low, high = (300.0, 3400.0) if rng.random() < 0.5 else (0.0, 4000.0)
    return lambda hertz: np.clip((hertz - low) / 60 + 1, 0, 1) * np.clip((high - hertz) / 200 + 1, 0, 1)


def _shaped(samples: np.ndarray, response: Response) -> np.ndarray:
    """Filter samples with linear phase."""
    n = next_fast_len(len(samples) + SPEECH_RATE // 50, real=True)  # with room for the filter's ringing; a fast length
    gain = response(rfftfreq(n, 1 / SPEECH_RATE)).astype(np.float32)
    return irfft(rfft(samples, n) * gain, n)[: len(samples)]

"""Mouth motion estimated from speech: the exact labels of synthetic training data.

No phonemes are recognised; two quantities of the spectrum stand for the lips. The energy of the first formants,
relative to the speaker's active level, and the height of the first formant (high for open vowels) give the opening. The
second formant (low when the lips are rounded, high when they are spread) gives the width. Everything is relative to the
recording, so its gain does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

import numpy as np
from scipy.fft import rfft
from scipy.ndimage import binary_closing, binary_opening

from cyberhost_model.config import FPS
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.speech.lip_head import PredictedLips

_HOP = 160  # samples, 10 ms: step k is centred on (k + 0.5) * 10 ms
_WINDOW = 400  # samples, 25 ms
_FFT = 512
_ACTIVE_FLOOR = -55.0  # dBFS; a recording whose loudest tenth is below it holds no speech
_STEP_FLOOR = -100.0  # dBFS; quieter steps are digital silence, whatever the other steps are
_RANGE = 26.0  # dB from a closed mouth to the active level
# dB between loud and quiet steps: below the first a recording is steady noise, above the second it may be speech
_STEADY = (7.0, 11.0)
_SUBTRACT = 1.6  # times the noise, because noise varies around its mean
_WIDER, _CONTRAST = 1.75, 1.2
"""A listener is unsure and understates gaps: they are widened to what people show, open vowels most."""
_ROUNDER = 1.6


class LipListener(Protocol):
    """A speech encoder that tells how lips move (`speech.wav2vec2.Wav2Vec2Encoder`)."""

    def predict_lips(self, samples: np.ndarray, fps: float = FPS) -> PredictedLips:
        """Predict lips of ceil(n / 16000 * fps) frames."""
        ...


def spoken_motion(samples: np.ndarray, listener: LipListener, fps: float = FPS) -> SpeechMotion:
    """Estimate the mouth motion of speech as `listener` hears it; energy and voice are those of `speech_motion`.

    samples as for `speech_motion`.
    """
    loud, lips = speech_motion(samples, fps), listener.predict_lips(samples, fps)
    opening = np.clip(_WIDER * lips.gap**_CONTRAST, 0, 1).astype(np.float32)
    width = np.clip(_ROUNDER * lips.width, -1, 1).astype(np.float32)
    return replace(loud, opening=opening, width=width, closure=lips.closure.astype(np.float32))


@dataclass(frozen=True)
class SpeechMotion:
    """Motion of T video frames, arrays of length T; frame f is centred on (f + 0.5) / fps seconds."""

    opening: np.ndarray
    """Float32 0..1, lips closed .. wide open; 0 in silence and pauses."""
    width: np.ndarray
    """Float32 -1..1, rounded .. spread; 0 where nobody speaks."""
    closure: np.ndarray
    """Float32 0..1: lips touch, as at m, b and p."""
    voiced: np.ndarray
    """Float32 0..1, a voice sounds (vowels, nasals) rather than noise (s, f) or nothing."""
    energy: np.ndarray
    """Float32 0..1, loudness relative to the recording's active level, smooth over 0.3 s: what gestures follow."""
    speech: np.ndarray
    """Bool, voice activity: pauses of less than 0.2 s inside speech count as speech."""

    def __len__(self) -> int:
        return len(self.opening)


def motion_length(n: int, fps: float = FPS) -> int:
    """Count the video frames that cover n samples at 16 kHz: ceil(n / 16000 * fps), at least 1.

    The same count as `media.audio.Sound.n_frames`.
    """
    return max(1, math.ceil(Fraction(n, SPEECH_RATE) * Fraction(fps).limit_denominator(1001)))


def speech_motion(samples: np.ndarray, fps: float = FPS) -> SpeechMotion:
    """Estimate the mouth motion of speech as `motion_length(n, fps)` frames.

    samples: float (n,) in [-1, 1] at 16 kHz. Digital silence, a recording below about -55 dBFS and steady noise alone
    keep the mouth closed. Raises ValueError if `samples` is not (n,).
    """
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1:
        raise ValueError(f"speech_motion needs mono samples (n,), not {samples.shape}")
    length = motion_length(len(samples), fps)
    power = step_power(samples)
    level = _db(_band(power, 100, 5000))
    alive = level > _STEP_FLOOR
    if not alive.any() or np.percentile(level[alive], 90) < _ACTIVE_FLOOR:
        zero = np.zeros(length, np.float32)
        return SpeechMotion(zero, zero.copy(), zero.copy(), zero.copy(), zero.copy(), np.zeros(length, bool))
    quiet, loud = np.percentile(level[alive], [10, 90])
    is_speech = float(np.clip((loud - quiet - _STEADY[0]) / (_STEADY[1] - _STEADY[0]), 0, 1))
    noise = power[alive & (level <= quiet + 0.5)].mean(0)
    power = np.maximum(power - _SUBTRACT * noise, 0.01 * power)

    # 350 Hz leaves out the murmur of a closed mouth (m, n, b), 3000 Hz the hiss of closed teeth (s).
    lips = _db(_band(power, 350, 3000))
    full = _db(_band(power, 100, 5000))
    top_lips, top = np.percentile(lips[alive], 93), np.percentile(full[alive], 93)
    loudness = np.clip((full - top + _RANGE) / _RANGE, 0, 1) * alive * is_speech
    gate = _smoothstep((lips - top_lips + _RANGE) / _RANGE / 0.9) * alive * is_speech

    weight = gate * np.maximum(_band(power, 200, 3000), 0) ** 0.3  # vowels count, noise hardly
    first = _relative(_centroid(power, 250, 1000), weight)
    second = _relative(_centroid(power, 800, 2800), weight)
    opening = _smooth(gate * (0.55 + 0.45 * np.clip(first, -1, 1)), 6, 9)
    scale = np.percentile(opening[gate > 0.1], 96) if (gate > 0.1).any() else 1.0
    opening = _contrast(opening / max(float(scale), 0.2))
    width = _smooth(np.clip(second, -1.5, 1.5) * np.sqrt(gate), 8, 10) * np.minimum(1, 4 * opening + 0.2)

    hiss = _db(_band(power, 3000, 7500)) - _db(_band(power, 100, 1000))
    voiced = _smooth(loudness * np.clip(0.5 - hiss / 12, 0, 1), 5, 5)
    active = binary_opening(binary_closing(np.pad(loudness > 0.25, 20), np.ones(20, bool)), np.ones(6, bool))[20:-20]
    energy = _smooth(loudness, 20, 30)

    at = (np.arange(length) + 0.5) / fps * 100 - 0.5  # in steps

    def frames(curve: np.ndarray, low: float = 0.0) -> np.ndarray:
        return np.clip(np.interp(at, np.arange(len(curve)), curve), low, 1).astype(np.float32)

    speech = frames(active.astype(np.float32)) > 0.5
    none = np.zeros(length, np.float32)
    return SpeechMotion(frames(opening), frames(width, -1.0), none, frames(voiced), frames(energy), speech)


def step_power(samples: np.ndarray) -> np.ndarray:
    """Compute the power spectrum of every 10 ms step, (steps, 257); a row's sum is the step's mean square."""
    steps = max(1, math.ceil(len(samples) / _HOP))
    before = (_WINDOW - _HOP) // 2
    padded = np.pad(samples, (before, steps * _HOP - len(samples) + _WINDOW - _HOP - before))
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    out = np.empty((steps, _FFT // 2 + 1), np.float32)
    for i in range(0, steps, 4096):  # keeps the working set small for long recordings
        spectrum = rfft(windows[i : i + 4096] * window, _FFT, axis=1)
        out[i : i + 4096] = spectrum.real**2 + spectrum.imag**2
    return out * np.float32(2 / (_FFT * (window**2).sum()))


def _bins(low: float, high: float) -> slice:
    return slice(round(low * _FFT / SPEECH_RATE), round(high * _FFT / SPEECH_RATE) + 1)


def _band(power: np.ndarray, low: float, high: float) -> np.ndarray:
    return power[:, _bins(low, high)].sum(1)


def _db(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power + 1e-12)


def _centroid(power: np.ndarray, low: float, high: float) -> np.ndarray:
    """Compute the centre of gravity of the band, in Hz.

    Of the amplitude, so that one strong harmonic does not decide it.
    """
    bins = _bins(low, high)
    amplitude = np.sqrt(power[:, bins])
    hertz = np.arange(bins.start, bins.stop, dtype=np.float32) * (SPEECH_RATE / _FFT)
    return (amplitude @ hertz + 1e-9 * hertz.mean()) / (amplitude.sum(1) + 1e-9)


def _relative(curve: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Subtract the weighted mean and divide by 1.5 weighted deviations: -1..1 whatever the speaker's formants."""
    total = weight.sum() + 1e-9
    centred = curve - (weight * curve).sum() / total
    return centred / (1.5 * math.sqrt(float((weight * centred**2).sum() / total)) + 1e-3)


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _contrast(x: np.ndarray) -> np.ndarray:
    """Make small openings smaller (lips meet) and let large ones saturate below 1."""
    x = np.clip(x, 0, 1.4)
    return np.tanh(1.25 * x**1.3) / math.tanh(1.5)


def _smooth(curve: np.ndarray, attack: int, release: int) -> np.ndarray:
    """Smooth with a rise `attack` steps before a sound and a fall `release` steps after it.

    Lips move ahead of the sound and do not lag.
    """
    kernel = np.concatenate([np.arange(1, attack + 1) / attack, np.arange(release - 1, 0, -1) / release])
    kernel = np.concatenate([np.zeros(max(0, release - attack)), kernel, np.zeros(max(0, attack - release))])
    padded = np.pad(curve, len(kernel) // 2, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), "valid")[: len(curve)]

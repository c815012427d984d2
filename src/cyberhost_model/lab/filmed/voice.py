"""The audio check: is there sound, is it loud enough, is it speech."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cyberhost_model.lab.filmed.manifest import FPS, Reason
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.media.audio import SILENT_PEAK, SPEECH_RATE
from cyberhost_model.speech.level import SpeechLevel
from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

_LEAST = 0.9  # of a clip's length must be covered by sound


@dataclass
class Voice:
    """The sound of a clip, float32 (n,) at 16 kHz, and what was measured on it."""

    samples: np.ndarray
    loudness: float | None = None
    """RMS, dB of full scale."""
    speech_share: float | None = None
    opening: np.ndarray | None = None
    """The mouth opening heard, float32 (frames,) in 0..1."""
    reason: Reason | None = None
    detail: str | None = None


def hear(
    samples: np.ndarray, seconds: float, level: SpeechLevel, encoder: Wav2Vec2Encoder, settings: Settings
) -> Voice:
    """Judge the sound of a clip of `seconds`.

    Speech is what the encoder's motion head says it is, at the level of the whole recording.
    """
    count = round(seconds * SPEECH_RATE)
    voice = Voice(np.pad(samples[:count], (0, max(0, count - len(samples)))))
    if len(samples) < _LEAST * count:
        voice.reason, voice.detail = Reason.NO_AUDIO, f"{len(samples) / SPEECH_RATE:.2f} of {seconds:.2f} s have sound"
        return voice
    voice.loudness = float(
        20 * np.log10(max(float(np.sqrt(np.mean(np.square(voice.samples, dtype=np.float64)))), 1e-6))
    )
    if float(np.abs(voice.samples).max()) < SILENT_PEAK:
        voice.reason, voice.detail, voice.speech_share = Reason.SILENT, f"{voice.loudness:.0f} dB", 0.0
        return voice
    motion = encoder.predict_motion(voice.samples, FPS, level)
    voice.opening, voice.speech_share = motion.opening, float((motion.speech > 0.5).mean())
    if voice.speech_share < settings.min_speech:
        voice.reason, voice.detail = Reason.NO_SPEECH, f"speech in {voice.speech_share:.0%} of the frames"
    return voice

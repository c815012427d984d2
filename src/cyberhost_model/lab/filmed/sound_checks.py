"""Check the sound of a clip: is there speech, and are the lips in sync with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyberhost_model.config import FPS
from cyberhost_model.hub.locate import locate
from cyberhost_model.lab.evaluation.features.extractor import VideoInfo
from cyberhost_model.lab.evaluation.features.sync import SyncFeatures, score_sync
from cyberhost_model.lab.evaluation.metrics.sync import WEIGHTS
from cyberhost_model.lab.evaluation.networks.s3fd import FaceFinder
from cyberhost_model.lab.evaluation.networks.syncnet import load_syncnet
from cyberhost_model.lab.filmed.manifest import Reason
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.media.audio import SILENT_PEAK, SPEECH_RATE
from cyberhost_model.media.video_reader import probe_video, read_frames
from cyberhost_model.speech.level import SpeechLevel
from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

MAX_OFFSET = 2
"""Frames by which sound may come early or late."""
_MIN_COVERED = 0.9  # share of a clip's length that its sound must cover


@dataclass
class ClipSound:
    """Hold the sound of a clip, float32 (n,) at 16 kHz, its measurements, and why it is rejected.

    loudness: RMS, dB of full scale. speech_share: of the frames. opening: the mouth opening that the speech encoder
    predicts from the sound, float32 (frames,) in 0..1.
    """

    samples: np.ndarray
    loudness: float | None = None
    speech_share: float | None = None
    opening: np.ndarray | None = None
    reason: Reason | None = None
    detail: str | None = None


def check_sound(
    samples: np.ndarray, seconds: float, level: SpeechLevel | None, encoder: Wav2Vec2Encoder, settings: Settings
) -> ClipSound:
    """Measure the sound of a clip of `seconds`, and reject it where it is missing, silent or not speech.

    samples: float32 (n,) at 16 kHz. level: of the whole recording, None where it has no sound. Frames count as speech
    where the motion head of the speech encoder says so. With a `min_speech` of 0 nothing is rejected: what is missing
    becomes silence.
    """
    count, speech_wanted = round(seconds * SPEECH_RATE), settings.min_speech > 0
    sound = ClipSound(np.pad(samples[:count], (0, max(0, count - len(samples)))))
    if len(samples) < _MIN_COVERED * count and speech_wanted:
        sound.reason, sound.detail = Reason.NO_AUDIO, f"{len(samples) / SPEECH_RATE:.2f} of {seconds:.2f} s have sound"
        return sound
    rms = float(np.sqrt(np.mean(np.square(sound.samples, dtype=np.float64))))
    sound.loudness = float(20 * np.log10(max(rms, 1e-6)))
    if level is None or float(np.abs(sound.samples).max()) < SILENT_PEAK:
        sound.speech_share = 0.0
        if speech_wanted:
            sound.reason, sound.detail = Reason.SILENT, f"{sound.loudness:.0f} dB"
        return sound
    motion = encoder.predict_motion(sound.samples, FPS, level)
    sound.opening, sound.speech_share = motion.opening, float((motion.speech > 0.5).mean())
    if sound.speech_share < settings.min_speech:
        sound.reason, sound.detail = Reason.NO_SPEECH, f"speech in {sound.speech_share:.0%} of the frames"
    return sound


@dataclass(frozen=True)
class Synchrony:
    """Hold the synchrony of lips and sound. confidence: SyncC. offset: frames by which the sound comes early."""

    confidence: float
    offset: int

    def problem(self, min_confidence: float) -> str:
        """Say what is wrong, empty for nothing: a confidence below the least, or an offset above `MAX_OFFSET`."""
        if self.confidence < min_confidence:
            return f"confidence {self.confidence:.1f}"
        if abs(self.offset) > MAX_OFFSET:
            return f"the sound is {abs(self.offset)} frames {'early' if self.offset > 0 else 'late'}"
        return ""


SyncCheck = Callable[[Path], Synchrony | None]
"""A clip's file -> its synchrony; None where no face can be tracked (in fewer than 50 frames, or too small)."""


def sync_weight_files() -> list[Path]:
    """Find the weights of SyncNet and of its face detector, downloading them where needed.

    Raises ModelError, NetworkError and OutputError.
    """
    return [locate(name) for name in WEIGHTS]


def load_sync_check() -> SyncCheck:
    """Load SyncNet and its face detector. Raises what `sync_weight_files` raises."""
    net, finder = sync_weight_files()
    features = SyncFeatures(FaceFinder(finder), load_syncnet(net), digest="")
    return lambda video: measure_synchrony(video, features)


def measure_synchrony(video: Path, features: SyncFeatures) -> Synchrony | None:
    """Measure the synchrony of a video with sound; None where no face can be tracked."""
    stream = probe_video(video)
    batches = read_frames(stream)
    first = next(batches)
    features.begin(VideoInfo(video, float(stream.fps), (first.shape[2], first.shape[1]), stream.packets, video))
    features.push(first)
    for batch in batches:
        features.push(batch)
    distances = features.finish()["distances"]
    if not len(distances):
        return None
    scores = score_sync([distances])
    return Synchrony(scores.confidence, scores.offset)

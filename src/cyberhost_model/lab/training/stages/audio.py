"""Stage audio: train the tiny speech encoder to predict phonemes, lips and clean sound from degraded speech."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers.audio_utils import mel_filter_bank

from cyberhost_model.config import FPS
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.synthetic.labelled_speech import LabelledSpeech, Recording, StepLabels, labelled_speech
from cyberhost_model.lab.synthetic.speech_augment import AugmentConfig, augment_speech, coloured_noise
from cyberhost_model.lab.synthetic.speech_motion import step_power
from cyberhost_model.lab.synthetic.speech_surroundings import hum, music, reverberated
from cyberhost_model.lab.training.registry import StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.speech.encoder import STEP
from cyberhost_model.speech.level import speech_level
from cyberhost_model.speech.lip_head import CLOSURE, GAP, LIPS, PROTRUSION, TUCK, WIDTH
from cyberhost_model.speech.phonemes import SILENCE
from cyberhost_model.speech.wav2vec2 import TINY, Wav2Vec2Encoder

MELS = 40
_SOURCE_SECONDS = 10.0  # the level is of this much sound, of which a window of 4-8 s is learnt
_NO_SPEECH = 0.08  # share of items in which nobody speaks
_MUSIC, _MUSIC_BELOW = 0.1, (5.0, 25.0)  # share of items with music under the speech, and by how many dB
_ROOM = 0.2  # share of items in a room
_PAUSE, _PAUSE_SECONDS = 0.35, (0.2, 1.6)  # chance of a pause between two stretches of speech
_FASTER = (0.87, 1.15)  # speed and pitch together: other throats
_HEARD = AugmentConfig(pause=0.0, silence=0.0, noise=0.5)
_MEL_RANGE = 60.0  # dB below the clean speech's loud steps


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Compute the log-mel spectrum of samples (n,) in steps of 20 ms, (n / 320, 40).

    Values from -1.5 (60 dB below the loud steps, or silence) to about 1.5.
    """
    power = step_power(samples)
    power = power[: len(power) // 2 * 2].reshape(-1, 2, power.shape[1]).mean(1)
    decibel = 10 * np.log10(power @ _filters() + 1e-10)
    top = np.percentile(decibel.max(1), 90)
    return (np.clip((decibel - top) / _MEL_RANGE, -1, 0.2) * 3 + 1.5).astype(np.float32)


@cache
def _filters() -> np.ndarray:
    return mel_filter_bank(257, MELS, 60.0, 7600.0, SPEECH_RATE, norm=None, mel_scale="slaney").astype(np.float32)


class SpeechWindows(Dataset):
    """Batches of `count` windows of speech of one length, 4-8 s; item i depends on (seed, i) alone.

    heard (B, n) at the encoder's level; phonemes (B, n / 320), numbers of classes; lips (B, n / 320, 5), NaN where no
    face was found; motion (B, n / 320, 2): energy, speech; mel (B, n / 320, 40). Every folder of recordings gives the
    same share; one that is named twice gives two.
    """

    def __init__(self, material: LabelledSpeech, seed: int, count: int = 6, target: float = TINY.target) -> None:
        self.folders, self.seed, self.count, self.target = material.folders, seed, count, target

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, i])
        frames = int(rng.integers(4 * round(FPS), 8 * round(FPS) + 1))
        items = [self._window(2 * frames, rng) for _ in range(self.count)]
        names = ("heard", "phonemes", "lips", "motion", "mel")
        return {name: torch.from_numpy(np.stack([item[k] for item in items])) for k, name in enumerate(names)}

    def _window(self, steps: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        source = max(steps, round(_SOURCE_SECONDS * SPEECH_RATE / STEP))
        if rng.random() < _NO_SPEECH:
            clean, labels = np.zeros(source * STEP, np.float32), StepLabels.silence(source)
            heard = no_speech(source * STEP, rng)
        else:
            folder = self.folders[rng.integers(len(self.folders))]
            clean, labels = joined_speech(folder, source, rng)
            heard = reverberated(clean, rng) if rng.random() < _ROOM else clean
            if rng.random() < _MUSIC:
                below = 10 ** (-rng.uniform(*_MUSIC_BELOW) / 20) * np.sqrt(np.mean(clean**2))
                heard = heard + music(len(heard), rng) * np.float32(below)
            heard = augment_speech(heard, rng, _HEARD).heard
        heard = speech_level([heard]).normalise(heard, self.target)
        heard = heard * np.float32(10 ** (rng.normal(0, 2) / 20))  # the level of a recording is not that of its windows
        first = int(rng.integers(0, source - steps + 1))
        inside = slice(first, first + steps)
        motion = np.stack([labels.energy, labels.speech.astype(np.float32)], 1)
        sound = heard[first * STEP : (first + steps) * STEP]
        return sound, labels.phonemes[inside], labels.lips[inside], motion[inside], log_mel(clean)[inside]


def joined_speech(folder: list[Recording], steps: int, rng: np.random.Generator) -> tuple[np.ndarray, StepLabels]:
    """Join random recordings of `folder`, with pauses between them, and make all of it faster or slower.

    Returns samples (steps * 320,) and their labels.
    """
    speed = rng.uniform(*_FASTER)
    needed = int(np.ceil(steps * speed)) + 1
    sounds: list[np.ndarray] = []
    parts: list[StepLabels] = []
    while sum(len(s) for s in sounds) < needed * STEP:
        recording = folder[rng.integers(len(folder))]
        samples, labels = recording.samples, recording.steps
        if not sounds and len(labels.phonemes) > needed:  # a long recording does not always begin at its beginning
            first = int(rng.integers(0, len(labels.phonemes) - needed + 1))
            samples, labels = samples[first * STEP :], labels.take(np.arange(first, len(labels.phonemes)))
        sounds.append(samples / max(float(np.abs(samples).max()), 1e-3) * np.float32(0.5))
        parts.append(labels)
        if rng.random() < _PAUSE:
            pause = int(rng.uniform(*_PAUSE_SECONDS) * SPEECH_RATE / STEP)
            sounds.append(np.zeros(pause * STEP, np.float32))
            parts.append(StepLabels.silence(pause))
    samples, labels = np.concatenate(sounds), StepLabels.joined(parts)
    at = np.arange(steps * STEP) * speed
    samples = np.interp(at, np.arange(len(samples)), samples).astype(np.float32)
    return samples, labels.take(((np.arange(steps) + 0.5) * speed).astype(int))


def no_speech(n: int, rng: np.random.Generator) -> np.ndarray:
    """Make n samples without speech, float32: digital silence, noise, hum or music, at any level."""
    kind = rng.integers(5)
    if kind == 0:
        return np.zeros(n, np.float32)
    sound = coloured_noise(n, rng) if kind == 1 else hum(n, rng) if kind == 2 else music(n, rng)
    sound = sound * np.float32(10 ** (rng.uniform(-60, -12) / 20))
    if rng.random() < 0.3:  # it begins or ends
        at = int(rng.integers(n))
        sound[at:] = 0
        sound = sound[::-1].copy() if rng.random() < 0.5 else sound
    return sound.clip(-1, 1)


@dataclass
class AudioStageConfig:
    """Settings of stage audio."""

    batch: int = 6
    """Windows of a batch."""


class AudioStage:
    """Prediction of phonemes, lips, energy, voice activity and clean log-mel from degraded speech.

    The log-mel makes the features keep more of the sound than the labels need. The motion head learns opening and width
    from the same lips as the lip head.
    """

    name = "audio"

    def __init__(self, material: LabelledSpeech, encoder: Wav2Vec2Encoder | None = None, count: int = 6) -> None:
        self.material, self.count = material, count
        encoder = encoder or Wav2Vec2Encoder(TINY)
        if encoder.motion_head is None or encoder.lip_head is None:
            raise TrainingError("the audio stage trains a speech encoder with a motion head and a lip head")
        self.module = nn.ModuleDict({"encoder": encoder, "mel": nn.Linear(encoder.dim, MELS)}).train()

    def dataset(self, seed: int) -> Dataset:
        """Make the batches, see `SpeechWindows`."""
        return SpeechWindows(self.material, seed, self.count, self.encoder.config.target)

    @property
    def encoder(self) -> Wav2Vec2Encoder:
        """The speech encoder, the part that ships."""
        return self.module["encoder"]  # type: ignore[return-value]

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute cross entropies of phonemes, closure, tuck and speech, and regression losses of the other labels.

        Squared errors of lips, opening, width and energy, smooth L1 of the log-mel. Steps in which no face was found do
        not count for gap, width and protrusion.
        """
        head, lip_head = self.encoder.motion_head, self.encoder.lip_head
        assert head is not None and lip_head is not None
        features = self.encoder(batch["heard"])
        mixed, shaped = head.mix(features), lip_head(features).float()
        moved = head.out(mixed).float()
        seen = batch["lips"].isfinite().all(-1)
        lips, (energy, speech) = batch["lips"].nan_to_num(), batch["motion"].unbind(-1)
        phonemes = F.cross_entropy(
            shaped[..., len(LIPS) :].flatten(0, 1), batch["phonemes"].flatten(), label_smoothing=0.05
        )
        gap, width, protrusion = (
            (shaped[..., i] - lips[..., i])[seen].square().mean() for i in (GAP, WIDTH, PROTRUSION)
        )
        closure, tuck = (F.binary_cross_entropy_with_logits(shaped[..., i], lips[..., i]) for i in (CLOSURE, TUCK))
        opening = (moved[..., 0] - lips[..., GAP].clamp(0, 1))[seen].square().mean()
        spread = (moved[..., 1] - lips[..., WIDTH].clamp(-1, 1))[seen].square().mean()
        loud = (moved[..., 2] - energy).square().mean()
        said = F.binary_cross_entropy_with_logits(moved[..., 3], speech)
        mel = F.smooth_l1_loss(self.module["mel"](mixed).float(), batch["mel"], beta=0.2)
        shape = 8 * gap + 5 * width + 3 * protrusion + closure + tuck
        loss = phonemes + shape + 4 * opening + 2 * spread + 2 * loud + 0.3 * said + 0.3 * mel
        shapes = {"gap": gap, "width": width, "protrusion": protrusion, "closure": closure, "tuck": tuck}
        return {"loss": loss, "phonemes": phonemes, **shapes, "energy": loud, "speech": said, "mel": mel}


def evaluate(encoder: Wav2Vec2Encoder, material: LabelledSpeech) -> dict[str, float]:
    """Measure how well `encoder` predicts phonemes and lips of whole recordings, over all frames of 25 a second.

    Shares of frames (phonemes: those in which somebody speaks), and correlations with the labels of the lips.
    """
    predicted, lips, truth, seen, near = [], [], [], [], []
    for recording in material.recordings:
        heard, labels = encoder.predict_lips(recording.samples, FPS), recording.steps
        at = np.arange(min(len(heard.gap), len(labels.phonemes) // 2)) * 2
        predicted.append(heard.phonemes[: len(at)].argmax(1))
        lips.append(np.stack([heard.gap, heard.width, heard.protrusion], 1)[: len(at)])
        truth.append(labels.phonemes[at])
        around = [(at + shift).clip(0, len(labels.phonemes) - 1) for shift in (-1, 0, 1, 2)]
        near.append(np.stack([labels.phonemes[index] for index in around], 1))
        seen.append(labels.lips[at][:, [GAP, WIDTH, PROTRUSION]])
    said = np.concatenate(truth) != SILENCE
    right = np.concatenate(predicted) == np.concatenate(truth)
    close = (np.concatenate(predicted)[:, None] == np.concatenate(near)).any(1)
    result = {
        "phoneme accuracy": float(right[said].mean()),
        "phoneme accuracy, 40 ms": float(close[said].mean()),
        "speech accuracy": float(((np.concatenate(predicted) != SILENCE) == said).mean()),
    }
    for name, ours, theirs in zip(
        ("gap", "width", "protrusion"), np.concatenate(lips).T, np.concatenate(seen).T, strict=True
    ):
        known = np.isfinite(theirs)
        flat = ours[known].std() < 1e-6 or theirs[known].std() < 1e-6
        result[f"{name}, correlation"] = 0.0 if flat else float(np.corrcoef(ours[known], theirs[known])[0, 1])
    return result


def class_recall(encoder: Wav2Vec2Encoder, material: LabelledSpeech) -> dict[str, float]:
    """Measure the share of each class's frames that are predicted right, for classes with at least 20 frames."""
    predicted, truth = [], []
    for recording in material.recordings:
        heard, labels = encoder.predict_lips(recording.samples, FPS).phonemes.argmax(1), recording.steps.phonemes[::2]
        n = min(len(heard), len(labels))
        predicted.append(heard[:n])
        truth.append(labels[:n])
    said, heard = np.concatenate(truth), np.concatenate(predicted)
    classes = encoder.config.phonemes
    return {name: float((heard[said == i] == i).mean()) for i, name in enumerate(classes) if (said == i).sum() >= 20}


@register_stage("audio", AudioStageConfig, sources=("speech", "filmed", "labels"))
def build(inputs: StageInputs) -> Stage:
    """Build stage audio."""
    sources = inputs.sources
    return AudioStage(labelled_speech(sources.speech, sources.filmed, sources.labels), count=inputs.config.batch)

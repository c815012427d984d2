"""Stage audio: train the tiny speech encoder to predict mouth motion and clean sound from degraded speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers.audio_utils import mel_filter_bank

from cyberhost_model.config import FPS
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.filmed.manifest import held_out as is_held_out
from cyberhost_model.lab.synthetic.speech_augment import AugmentConfig, augment_speech
from cyberhost_model.lab.synthetic.speech_motion import speech_motion, step_power
from cyberhost_model.lab.training.registry import StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.speech.encoder import STEP
from cyberhost_model.speech.level import speech_level
from cyberhost_model.speech.wav2vec2 import TINY, Wav2Vec2Encoder

MELS = 40
_FRAME = SPEECH_RATE // round(FPS)  # samples
_SOURCE_SECONDS = 10.0  # labels are relative to this much speech, of which a window of 4-8 s is learnt
_MEL_RANGE = 60.0  # dB below the clean speech's loud steps


def speech_files(folder: str | Path, held_out: bool) -> list[Path]:
    """List the FLAC and WAV files of `folder` whose speaker is held out of training, or is not.

    The speaker is the file's name up to the first "-". Raises TrainingError when there are no such files.
    """
    if not Path(folder).is_dir():
        raise TrainingError(f"{folder}: no such folder of speech")
    files = [p for p in sorted(Path(folder).iterdir()) if p.suffix in (".flac", ".wav")]
    files = [p for p in files if is_held_out(p.stem.split("-")[0]) == held_out]
    if not files:
        raise TrainingError(
            f"{folder}: holds no speech (speaker-*.flac or .wav, 16 kHz) to {'check' if held_out else 'train'} with"
        )
    return files


@cache
def load_speech(path: Path) -> np.ndarray:
    """Read a file, float32 (n,). Raises TrainingError if it is not mono at 16 kHz."""
    try:
        samples, rate = soundfile.read(path, dtype="float32")
    except (soundfile.SoundFileError, TypeError, OSError) as error:  # a cut FLAC is a TypeError
        raise TrainingError(f"{path}: cannot be read ({' '.join(str(error).split())}); delete it") from error
    if rate != SPEECH_RATE or samples.ndim != 1:
        raise TrainingError(f"{path}: speech for training must be mono at 16 kHz; convert it")
    return samples


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

    heard (B, n) at the encoder's level; motion (B, n / 640, 4): opening, width, energy, speech; mel (B, n / 320, 40).
    """

    def __init__(self, files: Sequence[Path], seed: int, count: int = 6, target: float = TINY.target) -> None:
        self.files, self.seed, self.count, self.target = list(files), seed, count, target

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, i])
        frames = int(rng.integers(4 * round(FPS), 8 * round(FPS) + 1))
        items = [self._window(frames, rng) for _ in range(self.count)]
        names = ("heard", "motion", "mel")
        return {name: torch.from_numpy(np.stack([item[k] for item in items])) for k, name in enumerate(names)}

    def _window(self, frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        samples = load_speech(self.files[rng.integers(len(self.files))])
        length = int(_SOURCE_SECONDS * SPEECH_RATE)
        start = int(rng.integers(0, max(1, len(samples) - length)))
        samples = samples[start : start + length]
        samples = np.pad(samples, (0, max(0, frames * _FRAME - len(samples))))
        augmented = augment_speech(samples, rng, AugmentConfig())
        motion = speech_motion(augmented.clean)
        labels = np.stack([motion.opening, motion.width, motion.energy, motion.speech.astype(np.float32)], 1)
        heard = speech_level([augmented.heard]).normalise(augmented.heard, self.target)
        heard = heard * np.float32(10 ** (rng.normal(0, 2) / 20))  # the level of a recording is not that of its windows
        first = int(rng.integers(0, len(heard) // _FRAME - frames + 1))
        inside = slice(first * _FRAME, (first + frames) * _FRAME)
        mel = log_mel(augmented.clean)[first * _FRAME // STEP : (first + frames) * _FRAME // STEP]
        return heard[inside], labels[first : first + frames], mel


@dataclass
class AudioStageConfig:
    """Settings of stage audio."""

    batch: int = 6
    """Windows of a batch."""


class AudioStage:
    """Regression of mouth motion, voice activity and clean log-mel from degraded speech.

    The log-mel makes the features keep more of the sound than the labels of the mouth need.
    """

    name = "audio"

    def __init__(self, files: Sequence[Path], encoder: Wav2Vec2Encoder | None = None, count: int = 6) -> None:
        self.files, self.count = files, count
        encoder = encoder or Wav2Vec2Encoder(TINY)
        if encoder.motion_head is None:
            raise TrainingError("the audio stage trains a speech encoder with a motion head")
        self.module = nn.ModuleDict({"encoder": encoder, "mel": nn.Linear(encoder.dim, MELS)}).train()

    def dataset(self, seed: int) -> Dataset:
        """Make the batches, see `SpeechWindows`."""
        return SpeechWindows(self.files, seed, self.count, self.encoder.config.target)

    @property
    def encoder(self) -> Wav2Vec2Encoder:
        """The speech encoder, the part that ships."""
        return self.module["encoder"]  # type: ignore[return-value]

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute squared errors of opening, width and energy, cross entropy of speech, smooth L1 of the log-mel."""
        head = self.encoder.motion_head
        assert head is not None
        mixed = head.mix(self.encoder(batch["heard"]))
        predicted = head.out(mixed).unflatten(1, (-1, 2)).mean(2)  # 50 Hz -> 25 fps
        opening, width, energy = ((predicted - batch["motion"])[..., i].square().mean() for i in range(3))
        speech = F.binary_cross_entropy_with_logits(predicted[..., 3], batch["motion"][..., 3])
        mel = F.smooth_l1_loss(self.module["mel"](mixed), batch["mel"], beta=0.2)
        loss = 10 * opening + 5 * width + 3 * energy + 0.3 * speech + 0.5 * mel
        return {"loss": loss, "opening": opening, "width": width, "energy": energy, "speech": speech, "mel": mel}


def evaluate(encoder: Wav2Vec2Encoder, files: Sequence[Path], degraded: bool = True) -> dict[str, float]:
    """Measure how well `encoder` predicts the mouth motion of whole recordings.

    Mean correlations with `speech_motion` and the accuracy of the speech decision. degraded: also under noise and gain,
    and the largest opening in silence.
    """
    rng = np.random.default_rng(0)
    values: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        values.setdefault(name, []).append(float(value))

    def correlate(name: str, a: np.ndarray, b: np.ndarray) -> None:
        if a.std() > 1e-6 and b.std() > 1e-6:
            add(name, np.corrcoef(a, b)[0, 1])

    for file in files:
        samples = load_speech(file)
        truth, predicted = speech_motion(samples), encoder.predict_motion(samples)
        for name in ("opening", "width", "energy"):
            correlate(name, getattr(predicted, name), getattr(truth, name))
        correlate("opening, speech only", predicted.opening[truth.speech], truth.opening[truth.speech])
        correlate("width, speech only", predicted.width[truth.speech], truth.width[truth.speech])
        add("opening's deviation, ratio", predicted.opening.std() / truth.opening.std())
        add("speech accuracy", ((predicted.speech > 0.5) == truth.speech).mean())
        if not truth.speech.all():
            add("opening in pauses", predicted.opening[~truth.speech].mean())
        if degraded:
            deviation = float(np.sqrt(np.mean(samples**2)))
            for snr in (20, 10):
                noise = rng.standard_normal(len(samples)).astype(np.float32) * deviation * 10 ** (-snr / 20)
                correlate(f"opening at {snr} dB SNR", encoder.predict_motion(samples + noise).opening, truth.opening)
            for gain in (-20, 6):
                changed = np.clip(samples * np.float32(10 ** (gain / 20)), -1, 1)
                correlate(f"opening at {gain:+} dB", encoder.predict_motion(changed).opening, truth.opening)
    result = {name: float(np.mean(found)) for name, found in values.items()}
    if degraded:
        for decibel in (-200, -60, -40, -20):
            noise = rng.standard_normal(6 * SPEECH_RATE).astype(np.float32) * 10 ** (decibel / 20)
            quiet = encoder.predict_motion(noise if decibel > -200 else np.zeros_like(noise)).opening
            name = "digital silence" if decibel == -200 else f"noise at {decibel} dBFS"
            result[f"largest opening, {name}"] = float(quiet.max())
    return result


@register_stage("audio", AudioStageConfig, sources=("speech",))
def build(inputs: StageInputs) -> Stage:
    """Build stage audio."""
    assert inputs.sources.speech is not None
    return AudioStage(speech_files(inputs.sources.speech, held_out=False), count=inputs.config.batch)

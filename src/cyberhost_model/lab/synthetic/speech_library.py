"""Recorded speech to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from cyberhost_model.errors import InputError
from cyberhost_model.lab.filmed.splits import held_out as is_held_out
from cyberhost_model.media.audio import SPEECH_RATE


class SpeechLibrary:
    """Windows of the 16 kHz FLAC and WAV files below a folder.

    The speaker is the first part of a file's name up to a dash. held_out: True takes the speakers held out of training,
    False the others. Raises InputError where there are no files.
    """

    def __init__(self, folder: str | Path, held_out: bool = False):
        files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in (".flac", ".wav"))
        self.files = [p for p in files if is_held_out(p.name.split("-")[0]) == held_out]
        if not self.files:
            raise InputError(f"no speech (.flac or .wav) in {folder}")

    def window(self, rng: np.random.Generator, seconds: float) -> np.ndarray:
        """Cut a random window of speech, float32 (seconds * 16000,); short recordings are followed by others."""
        need, parts = round(seconds * SPEECH_RATE), []
        while need > 0:
            samples, rate = soundfile.read(
                self.files[int(rng.integers(len(self.files)))], dtype="float32", always_2d=True
            )
            if rate != SPEECH_RATE:
                raise InputError(f"training speech must be 16 kHz, found {rate} Hz: resample it first")
            mono = samples.mean(1)
            start = int(rng.integers(max(len(mono) - need, 0) + 1))
            parts.append(mono[start : start + need])
            need -= len(parts[-1])
        return np.concatenate(parts)

"""Random sources of people (labelled stills, drawn people) and of recorded speech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from cyberhost_model.errors import InputError
from cyberhost_model.lab.filmed.manifest import held_out as is_held_out
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.stills import Still, load_stills
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.perception.keypoints import VISIBLE


class People:
    """A random source of stills.

    folders: of labelled pictures. drawn: share of drawn people, all of them where there are no folders. held_out: True
    takes the identities held out of training, False the others.
    """

    def __init__(self, folders: list[str], drawn: float = 0.25, held_out: bool = False):
        self.stills = [s for folder in folders for s in load_stills(folder) if is_held_out(s.identity) == held_out]
        self.with_hands = [s for s in self.stills if s.keypoints.hands_score.max() > VISIBLE]
        self.drawn = drawn if self.stills else 1.0

    def still(self, rng: np.random.Generator, size: tuple[int, int]) -> Still:
        """Choose a person; half of the labelled stills show hands, which are rarer and harder to learn.

        size: (W, H) of the picture the still is for; drawn people are drawn half as large again.
        """
        if rng.random() < self.drawn:
            return drawn_still(int(rng.integers(2**31)), (size[0] * 3 // 2, size[1] * 3 // 2))
        pool = self.with_hands if self.with_hands and rng.random() < 0.5 else self.stills
        return pool[int(rng.integers(len(pool)))]


def training_stills(folders: list[str]) -> list[Still]:
    """Load the labelled stills of the folders, without identities held out of training."""
    return [s for folder in folders for s in load_stills(folder) if not is_held_out(s.identity)]


def drawn_stills(count: int, seed: int, size: tuple[int, int] = (384, 384), wide: float = 0.0) -> list[Still]:
    """Draw `count` people, other ones for another seed; a share `wide` of them gestures widely."""
    return [drawn_still(seed * 1_000_000 + i, size, i < wide * count) for i in range(count)]


class SpeechLibrary:
    """Windows of the 16 kHz FLAC and WAV files below folders, each of which gives the same share.

    The speaker is the first part of a file's name up to a dash. held_out: True takes the speakers held out of training,
    False the others. Raises InputError where there are no files.
    """

    def __init__(self, folders: Sequence[str | Path], held_out: bool = False):
        self.folders = [self._files(folder, held_out) for folder in folders]

    @staticmethod
    def _files(folder: str | Path, held_out: bool) -> list[Path]:
        files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in (".flac", ".wav"))
        files = [p for p in files if is_held_out(p.name.split("-")[0]) == held_out]
        if not files:
            raise InputError(f"no speech (.flac or .wav) in {folder}")
        return files

    def window(self, rng: np.random.Generator, seconds: float) -> np.ndarray:
        """Cut a random window of speech, float32 (seconds * 16000,); short recordings are followed by others."""
        need, parts = round(seconds * SPEECH_RATE), []
        files = self.folders[int(rng.integers(len(self.folders)))]
        while need > 0:
            samples, rate = soundfile.read(files[int(rng.integers(len(files)))], dtype="float32", always_2d=True)
            if rate != SPEECH_RATE:
                raise InputError(f"training speech must be 16 kHz, found {rate} Hz: resample it first")
            mono = samples.mean(1)
            start = int(rng.integers(max(len(mono) - need, 0) + 1))
            parts.append(mono[start : start + need])
            need -= len(parts[-1])
        return np.concatenate(parts)

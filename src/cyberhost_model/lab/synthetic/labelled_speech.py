"""Speech with labels of phonemes, and filmed speech with labels of lips: training material of the speech encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile
from scipy.ndimage import binary_closing

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.filmed.manifest import NAME as MANIFEST
from cyberhost_model.lab.filmed.manifest import held_out as is_held_out
from cyberhost_model.lab.filmed.manifest import read_manifest
from cyberhost_model.lab.synthetic.lip_shapes import FilmedLips, LipMap, fit_lip_map, read_filmed_lips
from cyberhost_model.lab.synthetic.speech_motion import speech_motion
from cyberhost_model.media.audio import SPEECH_RATE, load_audio
from cyberhost_model.speech.encoder import STEP, STEPS_PER_SECOND
from cyberhost_model.speech.phonemes import SILENCE, PhonemeTrack, read_phonemes

_SOUNDS, _CLIPS = (".flac", ".wav"), (".mp4", ".mov", ".mkv", ".webm")
_BREATH = 0.2  # seconds: a shorter silence is within speech


@dataclass(frozen=True)
class StepLabels:
    """Labels of n steps of 20 ms."""

    phonemes: np.ndarray
    """int64 (n,), numbers in `speech.phonemes.CLASSES`."""
    lips: np.ndarray
    """float32 (n, 5) in the order of `speech.lip_head.LIPS`; NaN where no face was found."""
    energy: np.ndarray
    """float32 (n,), 0..1: loudness, which gestures follow."""

    @property
    def speech(self) -> np.ndarray:
        """Find where somebody speaks, short silences included: bool (n,)."""
        said = np.pad(self.phonemes != SILENCE, STEPS_PER_SECOND)
        closed = binary_closing(said, np.ones(round(_BREATH * STEPS_PER_SECOND), bool))
        return closed[STEPS_PER_SECOND:-STEPS_PER_SECOND]

    def take(self, index: np.ndarray) -> StepLabels:
        """Select the steps with the numbers `index` (m,)."""
        return StepLabels(self.phonemes[index], self.lips[index], self.energy[index])

    @staticmethod
    def silence(n: int) -> StepLabels:
        """Make the labels of n steps in which nobody speaks: lips at rest."""
        return StepLabels(np.full(n, SILENCE, np.int64), np.zeros((n, 5), np.float32), np.zeros(n, np.float32))

    @staticmethod
    def joined(parts: Iterable[StepLabels]) -> StepLabels:
        """Concatenate labels of sounds that follow each other."""
        rows = [(p.phonemes, p.lips, p.energy) for p in parts]
        return StepLabels(*(np.concatenate(column) for column in zip(*rows, strict=True)))


@dataclass(frozen=True)
class Recording:
    """One sound and its labels."""

    path: Path
    labels: Path
    """JSON file of the phonemes."""
    spoken: PhonemeTrack
    lip_map: LipMap = field(repr=False)
    filmed: FilmedLips | None = None
    """Lips of a filmed clip; None: no camera, and `lip_map` makes lips of the phonemes."""

    @cached_property
    def samples(self) -> np.ndarray:
        """Read the sound: float32 (n,) at 16 kHz, n a multiple of 320. Raises TrainingError."""
        samples = read_sound(self.path)
        return samples[: len(samples) // STEP * STEP]

    @cached_property
    def steps(self) -> StepLabels:
        """Make the labels of all steps."""
        n = len(self.samples) // STEP
        times = (np.arange(n) + 0.5) / STEPS_PER_SECOND
        lips = self.filmed.at(times) if self.filmed else self.lip_map.lips(self.spoken, times)
        return StepLabels(self.spoken.at(times), lips, speech_motion(self.samples, STEPS_PER_SECOND).energy[:n])


@dataclass(frozen=True)
class LabelledSpeech:
    """Recordings by the folder they come from; that of filmed clips is the last."""

    folders: list[list[Recording]]

    @property
    def recordings(self) -> list[Recording]:
        """List the recordings of all folders."""
        return [recording for folder in self.folders for recording in folder]


def read_sound(path: Path) -> np.ndarray:
    """Read a mono FLAC or WAV file at 16 kHz, or the sound of a clip: float32 (n,) at 16 kHz. Raises TrainingError."""
    if path.suffix in _CLIPS:
        return load_audio(path).mono16k()
    try:
        samples, rate = soundfile.read(path, dtype="float32")
    except (soundfile.SoundFileError, TypeError, OSError) as error:  # a cut FLAC is a TypeError
        raise TrainingError(f"{path}: cannot be read ({' '.join(str(error).split())}); delete it") from error
    if rate != SPEECH_RATE or samples.ndim != 1:
        raise TrainingError(f"{path}: speech for training must be mono at 16 kHz; convert it")
    return samples


def labelled_speech(
    speech: Sequence[str], filmed: Sequence[str], labels: Sequence[str], held_out: bool = False
) -> LabelledSpeech:
    """Find the recordings that are held out of training (speakers, and clips of filmed people), or are not.

    speech: folders of speaker-*.flac or .wav. filmed: datasets (`data prepare`), of which the videos that were accepted
    are taken, or folders of clips or of their sounds alone. labels: folders with
    JSON files of phonemes, which may also lie beside the speech, and npz files of lips, named as the sounds. The map
    from phonemes to lips is learnt from the filmed clips that are not held out. Raises TrainingError.
    """
    phonemes, meshes = _by_stem(labels, ".json"), _by_stem(labels, ".npz")
    clips = [path for folder in filmed for path in _filmed(folder)]
    clips = [path for path in clips if path.stem in phonemes and path.stem in meshes]
    trained = [i for i, path in enumerate(clips) if not is_held_out(path.stem)]
    if not trained:
        what = "no filmed clip to train with has labels"
        raise TrainingError(f"{what}; make them with scripts/label_filmed.py and scripts/label_phonemes.py")
    heard = [read_phonemes(phonemes[path.stem]) for path in clips]
    lips = read_filmed_lips([meshes[path.stem] for path in clips], heard)
    lip_map = fit_lip_map([lips[i] for i in trained], [heard[i] for i in trained])
    folders = []
    for folder in speech:
        beside = phonemes | _by_stem([folder], ".json")
        files = [
            p for p in _files(folder, _SOUNDS) if is_held_out(p.stem.split("-")[0]) == held_out and p.stem in beside
        ]
        if not files:
            what = "to check" if held_out else "to train"
            raise TrainingError(f"{folder}: holds no speech with labels (speaker-*.flac or .wav, 16 kHz) {what} with")
        folders.append(
            [Recording(path, beside[path.stem], read_phonemes(beside[path.stem]), lip_map) for path in files]
        )
    rows = zip(clips, heard, lips, strict=True)
    folders.append(
        [
            Recording(path, phonemes[path.stem], spoken, lip_map, camera)
            for path, spoken, camera in rows
            if is_held_out(path.stem) == held_out
        ]
    )
    return LabelledSpeech([folder for folder in folders if folder])


def _filmed(folder: str) -> list[Path]:
    """List the clips in a folder, or the videos of which a dataset has accepted clips, as far as they are there."""
    if not (Path(folder) / MANIFEST).is_file():
        return _files(folder, _CLIPS + _SOUNDS)
    return [
        path for path in sorted({Path(row.source) for row in read_manifest(folder, accepted=True)}) if path.is_file()
    ]


def _files(folder: str, suffixes: tuple[str, ...]) -> list[Path]:
    if not Path(folder).is_dir():
        raise TrainingError(f"{folder}: no such folder")
    return sorted(p for p in Path(folder).iterdir() if p.suffix in suffixes)


def _by_stem(folders: Sequence[str], suffix: str) -> dict[str, Path]:
    """Find files below `folders` by their names without endings; the first folder that has one is taken."""
    return {p.stem: p for folder in reversed(folders) for p in sorted(Path(folder).rglob(f"*{suffix}"))}

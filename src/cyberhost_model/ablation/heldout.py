"""Clips to measure on that no row was trained on: those of a dataset, or drawn people made for it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import safe_open

from ..conditions.detector import KeypointDetector, analyse
from ..conditions.finder import PeopleFinder
from ..data.export import export_clip
from ..data.people import People
from ..data.synth import Synth
from ..dataset.manifest import NAME, read_manifest, write_manifest
from ..dataset.people import has_hand
from ..dataset.rows import Row
from ..dataset.source import Unusable, open_video, rgb
from ..errors import InputError, NoFaceError
from ..inputs.audio import SPEECH_RATE

SEED = 9_001
"""Of the drawn people: not a seed anybody starts a training set with."""
TRIES = 20
"""Drawn people looked at for each that is wanted."""


@dataclass(frozen=True)
class Held:
    """A clip: the picture that is animated, and the film it is measured against, whose sound is heard."""

    name: str
    identity: str
    picture: Path
    film: Path


class CodedVoices:
    """The sound of coded clips as speech for others."""

    def __init__(self, clips: Path) -> None:
        self.files = sorted(clips.glob("*x*/*.safetensors"))
        if not self.files:
            raise InputError(f"no coded clips in {clips}: make them with `cyberhost data encode`")

    def window(self, rng: np.random.Generator, seconds: float) -> np.ndarray:
        """A stretch of one clip's sound, repeated where it is too short: float32 (seconds * 16000,)."""
        with safe_open(self.files[int(rng.integers(len(self.files)))], "np") as file:
            sound = file.get_tensor("sound").astype(np.float32) / 32767
        need = round(seconds * SPEECH_RATE)
        sound = np.tile(sound, -(-need // len(sound)))
        start = int(rng.integers(len(sound) - need + 1))
        return sound[start : start + need]


def drawn_people(folder: Path, voices: CodedVoices, count: int, frames: int, detector: KeypointDetector | PeopleFinder) -> None:
    """Make `count` clips of drawn people as `data synth` does, in a dataset that is there whole or not at all.

    People whose face or hands `detector` does not find are passed over: there would be nothing to measure. Raises InputError when all are.
    """
    if (folder / NAME).is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    synth = Synth(People([], drawn=1.0), voices, SEED, frames, clean=True)
    rows: list[Row] = []
    for number in range(TRIES * count):
        clip = synth.clip(number)
        if shows_face_and_hands(clip.reference.picture_u8, detector):
            row = export_clip(clip, folder, number)
            row.split = "held_out"
            rows.append(row)
        if len(rows) == count:
            break
    if not rows:
        raise InputError(f"no face with hands is found in {TRIES * count} drawn people: give clips of your own (--held-out DATASET)")
    write_manifest(folder, rows)


def shows_face_and_hands(picture_u8: np.ndarray, detector: KeypointDetector | PeopleFinder) -> bool:
    """Whether the detector finds both in a picture uint8 (H, W, 3)."""
    try:
        return has_hand(analyse(picture_u8, detector, "a drawn person").keypoints)
    except NoFaceError:
        return False


def held_out(dataset: Path, pictures: Path, count: int) -> list[Held]:
    """The first `count` clips of the dataset's held-out split. A filmed clip's picture is its first frame, kept in the folder `pictures`.

    Raises InputError where there is none, or a film cannot be read.
    """
    rows = [row for row in read_manifest(dataset, accepted=True) if row.split == "held_out"][:count]
    if not rows:
        raise InputError(f"{dataset}: has no clip of split 'held_out'; make some with `cyberhost data synth --held-out`")
    found = []
    for row in rows:
        name, film = row.clip.replace("/", "-"), (dataset / str(row.video)).absolute()
        picture = (dataset / row.reference).absolute() if row.reference else pictures / f"{name}.png"
        if not picture.exists():
            pictures.mkdir(parents=True, exist_ok=True)
            Image.fromarray(first_frame(film)).save(picture)
        found.append(Held(name, row.identity or name, picture, film))
    return found


def first_frame(film: Path) -> np.ndarray:
    """uint8 (H, W, 3). Raises InputError."""
    try:
        with open_video(film) as video:
            return next(rgb(stamped.frame) for stamped in video.frames())
    except (Unusable, StopIteration):
        raise InputError(f"{film}: cannot be read; prepare the dataset again") from None

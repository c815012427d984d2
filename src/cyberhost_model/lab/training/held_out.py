"""Clips to measure on that no network was trained on: those of a dataset, or drawn people made for it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cyberhost_model.errors import InputError, NoFaceError
from cyberhost_model.lab.filmed.manifest import NAME, Row, read_manifest, write_manifest
from cyberhost_model.lab.filmed.source import UnusableVideo, open_video, to_rgb
from cyberhost_model.lab.synthetic.clips import ClipGenerator, export_clip
from cyberhost_model.lab.synthetic.sources import People
from cyberhost_model.lab.training.coded import list_clips
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.perception.detector import Detector, analyse
from cyberhost_model.perception.people import has_hand

DRAWN_SEED = 9_001
"""Seed of the drawn people, far from the seeds of training sets."""
TRIES = 20
"""People drawn at most for each one that is needed."""


@dataclass(frozen=True)
class HeldOutClip:
    """A clip to measure on."""

    name: str
    identity: str
    picture: Path
    """The picture that is animated."""
    film: Path
    """The video that the result is compared with; its sound drives the animation."""


class ClipVoices:
    """Speech from the sound of encoded clips, for other people to speak."""

    def __init__(self, clips: Path) -> None:
        self.folder, self.clips = clips, list_clips(clips)
        if not self.clips:
            raise InputError(f"no coded clips in {clips}: make them with `cyberhost data encode`")

    def window(self, rng: np.random.Generator, seconds: float) -> np.ndarray:
        """Cut a window from one clip's sound, repeated where it is too short: float32 (seconds * 16000,)."""
        need = round(seconds * SPEECH_RATE)
        for number in rng.permutation(len(self.clips)):  # only the first stretch of a filmed clip has its sound
            if len(sound := self.clips[number].open().sound().numpy()):
                break
        else:
            raise InputError(f"{self.folder}: its coded clips have no sound; code the clips again")
        sound = sound.astype(np.float32) / 32767
        sound = np.tile(sound, -(-need // len(sound)))
        start = int(rng.integers(len(sound) - need + 1))
        return sound[start : start + need]


def make_drawn_clips(folder: Path, voices: ClipVoices, count: int, frames: int, detector: Detector) -> None:
    """Make a dataset of `count` clips of drawn people, as `data synth` does, unless it is there already.

    People whose face or hands `detector` does not find are left out: there would be nothing to measure. Raises
    InputError when all are.
    """
    if (folder / NAME).is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    synth = ClipGenerator(People([], drawn=1.0), voices, DRAWN_SEED, frames, clean=True)
    rows: list[Row] = []
    for number in range(TRIES * count):
        clip = synth.clip(number)
        if shows_face_and_hands(clip.reference.picture_u8, detector):
            rows.append(export_clip(clip, folder, number, held_out=True))
        if len(rows) == count:
            break
    if not rows:
        raise InputError(
            f"no face with hands is found in {TRIES * count} drawn people: give clips of your own (--held-out DATASET)"
        )
    write_manifest(folder, rows)


def shows_face_and_hands(picture_u8: np.ndarray, detector: Detector) -> bool:
    """Tell whether the detector finds both in a picture uint8 (H, W, 3)."""
    try:
        return has_hand(analyse(picture_u8, detector, "a drawn person").keypoints)
    except NoFaceError:
        return False


def held_out_clips(dataset: Path, pictures: Path, count: int) -> list[HeldOutClip]:
    """List the first `count` clips of a dataset's held-out split.

    A filmed clip's picture is its first frame, saved in the folder `pictures`. Raises InputError where there is no such
    clip, or a film cannot be read.
    """
    rows = [row for row in read_manifest(dataset, accepted=True) if row.split == "held_out"][:count]
    if not rows:
        raise InputError(
            f"{dataset}: has no clip of split 'held_out'; make some with `cyberhost data synth --held-out`"
        )
    found = []
    for row in rows:
        name, film = row.clip.replace("/", "-"), (dataset / str(row.video)).absolute()
        picture = (dataset / row.reference).absolute() if row.reference else pictures / f"{name}.png"
        if not picture.exists():
            pictures.mkdir(parents=True, exist_ok=True)
            Image.fromarray(first_frame(film)).save(picture)
        found.append(HeldOutClip(name, row.identity or name, picture, film))
    return found


def first_frame(film: Path) -> np.ndarray:
    """Read the first frame of a film, uint8 (H, W, 3). Raises InputError."""
    try:
        with open_video(film) as video:
            return next(to_rgb(stamped.frame) for stamped in video.frames())
    except (UnusableVideo, StopIteration):
        raise InputError(f"{film}: cannot be read; prepare the dataset again") from None

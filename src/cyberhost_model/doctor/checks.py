"""Checks of a picture and a sound before anything is computed from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cyberhost_model.conditions.hand_clarity import hand_clarity
from cyberhost_model.config import Preset
from cyberhost_model.media.audio import Sound
from cyberhost_model.perception.keypoints import BODY, VISIBLE
from cyberhost_model.runtime.prepare import to_pixels
from cyberhost_model.runtime.render import Job
from cyberhost_model.speech.level import speech_level
from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

_MINUTE = 3  # blocks of 20 s that are listened to
_NOTHING = 0.02  # of the frames: speech in fewer is none
_QUIET = -50.0  # dB of full scale, below which a recording is not lifted to the usual level
_UPPER = ("r_shoulder", "r_elbow", "r_wrist", "l_shoulder", "l_elbow", "l_wrist")


@dataclass(frozen=True)
class PictureCheck:
    """What is visible in the picture, or in its part about the head where a head is animated alone."""

    face: float
    """Height from brows to chin, of the picture's height."""
    face_pixels: int
    """The same in the video."""
    mouth_cells: float
    """Width of the mouth in cells of the network's grid."""
    turn: float
    """Where the nose is between the ends of the jaw: 0 to the camera, -1 and 1 in profile."""
    tilt: float
    """Degrees the eyes' line is off the level."""
    hands: list[str]
    """Those visible: "left", "right", the person's own."""
    hand_sharpness: float | None
    """The hand clarity score (section 3.3), about 0..1."""
    body: list[str]
    """Joints of shoulders and arms that are visible in the picture."""
    head_alone: bool
    """Animated as a talking head: hands are left out."""


@dataclass(frozen=True)
class SoundCheck:
    """Length, level and share of speech of a sound.

    seconds; level: RMS of the speech in dB of full scale, None in silence; speech: share of the first minute's frames
    in which there is speech.
    """

    seconds: float
    level: float | None
    speech: float


def check_picture(job: Job, preset: Preset) -> tuple[PictureCheck, list[str]]:
    """Check the picture of a job. Returns what was found, and lines to warn the user."""
    reference = job.reference
    own, placed, (w, h) = reference.picture_keypoints, reference.keypoints, reference.canvas.picture_size
    face = own.face * [w, h]
    tall = float(np.ptp(face[:, 1]))
    mouth = float(np.linalg.norm(face[54] - face[48])) / preset.latent_factor
    jaw = face[16] - face[0]
    turn = 2 * float((face[30] - face[0]) @ jaw / max(jaw @ jaw, 1e-6)) - 1
    eyes = face[42:48].mean(0) - face[36:42].mean(0)
    hands = [side for side, score in zip(("left", "right"), own.hands_score, strict=True) if score.max() >= VISIBLE]
    shown = to_pixels(reference.large)[0]
    inside = (own.body_score > VISIBLE) & ((own.body >= 0) & (own.body < 1)).all(1)
    found = PictureCheck(
        tall / h,
        round(tall * reference.scale),
        mouth,
        turn,
        math.degrees(math.atan2(eyes[1], eyes[0])),
        hands,
        hand_clarity(shown, placed) if hands else None,
        [name for name in _UPPER if inside[BODY.index(name)]],
        reference.conditions.regions == ("face",),
    )
    notes = []
    if mouth < 1:
        closer = "crop the picture nearer to the person" + ("" if found.head_alone else ", or give --head")
        notes.append(
            f"the mouth is {mouth:.1f} cells of the network's grid wide, less than it can tell apart: {closer}"
        )
    return found, notes


def check_sound(sound: Sound, encoder: Wav2Vec2Encoder) -> tuple[SoundCheck, list[str]]:
    """Check a sound. Returns what was found, and lines to warn the user beside `Sound.warnings`.

    `encoder` must have a motion head, as the embedded one has.
    """
    level = speech_level(sound.stream_mono16k())
    spoken: list[np.ndarray] = []
    for _, block in zip(range(_MINUTE), sound.stream_mono16k(seconds=20.0), strict=False):
        spoken.append(encoder.predict_motion(block, level=level).speech > 0.5)
    share = float(np.concatenate(spoken).mean()) if level.rms > 0 else 0.0
    loudness = 20 * math.log10(level.rms) if level.rms > 0 else None
    notes = []
    if loudness is not None and share < _NOTHING:
        notes.append("no speech is heard in the first minute: the mouth will rest")
    elif loudness is not None and loudness < _QUIET:
        notes.append(
            f"the speech is very quiet ({loudness:.0f} dB): record or export it louder, or the mouth will hardly open"
        )
    return SoundCheck(sound.duration, loudness, share), notes

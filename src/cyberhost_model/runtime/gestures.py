"""Hands that gesture with the speech, and drivings, as a model can follow them.

A model that moves the picture's own pixels tears what goes too far; see docs/reference/driving.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cyberhost_model.config import GenerationConfig, Preset
from cyberhost_model.errors import InputError
from cyberhost_model.media.audio import SPEECH_RATE, Sound
from cyberhost_model.perception.geometry import face_height
from cyberhost_model.perception.keypoints import SURE, VISIBLE
from cyberhost_model.runtime.prepare import Reference
from cyberhost_model.speech.live import LiveSpeech

if TYPE_CHECKING:
    from cyberhost_model.driving.sequence import PoseSequence

_CELLS, _LAID, _FACE_HEIGHTS = (1.2, 0.35), 0.4, 0.8
"""How far a gesture goes: in latent cells along and across the fingers, for models that move the picture's own pixels
and tear fingers apart that go further; in face heights where hands are laid over the frames, and for other models.
"""


def gestures_asked(preset: Preset, reference: Reference, gestures: bool | None) -> bool:
    """Decide whether a picture's hands gesture with the speech; None: as the model's settings say.

    Raises InputError where they cannot and are to.
    """
    if gestures and not preset.follows_poses:
        raise InputError("this model moves no hands by key points: leave gestures out")
    asked = preset.sampling.gestures if gestures is None else gestures
    return asked and bool(reference.keypoints.hands_score.max() >= SURE)


def speech_gestures(
    preset: Preset,
    reference: Reference,
    sound: Sound,
    total: int,
    config: GenerationConfig,
    movement: float,
    least: float = VISIBLE,
    laid: bool = False,
) -> PoseSequence:
    """Make gestures for `total` frames of the sound; movement: a factor of how lively, least: see `free_hands`.

    laid: hands are laid over the frames, and may go further.
    """
    from cyberhost_model.driving.speech_gesture import speech_gesture

    moves = speech_gesture(sound.stream_mono16k(), total, config.fps, config.seed, movement)
    return gesturing_hands(preset, reference, moves, config.fps, least, laid)


def live_gestures(
    preset: Preset,
    reference: Reference,
    speech: LiveSpeech,
    config: GenerationConfig,
    movement: float,
    laid: bool = False,
) -> Callable[[int, int], PoseSequence]:
    """Make hands that gesture with a sound that grows: (first frame, frames) -> them, in 0..1 of the picture.

    movement: a factor of how lively. laid: see `speech_gestures`.
    """
    from cyberhost_model.driving.speech_gesture import STEP, SpeechGestures, step_power

    ahead = speech.look_ahead / SPEECH_RATE
    gestures = SpeechGestures(config.fps, config.seed, movement, ahead)

    def make(first: int, frames: int) -> PoseSequence:
        step, end = int(first / config.fps * SPEECH_RATE) // STEP, (first + frames) / config.fps + ahead
        gestures.hear(step_power([speech.samples(step * STEP, math.ceil(end * SPEECH_RATE))]), step)
        return gesturing_hands(preset, reference, gestures.frames(first, frames), config.fps, SURE, laid)

    return make


def gesturing_hands(
    preset: Preset, reference: Reference, moves: np.ndarray, fps: float, least: float = VISIBLE, laid: bool = False
) -> PoseSequence:
    """Move the picture's free hands as gestures do (`driving.speech_gesture`), within the model's reach."""
    from cyberhost_model.driving.speech_gesture import free_hands, move_hands

    points, (w, h) = reference.picture_keypoints, reference.canvas.picture_size
    free = free_hands(points, w / h, least)
    if laid or not preset.traits.relative:
        reach = (_LAID if laid else _FACE_HEIGHTS) * face_height(points.face * (w, h))
        return move_hands(moves, points, (w, h), fps, (reach, reach), free)
    along, across = (cells * preset.latent_factor for cells in _CELLS)
    hands = move_hands(moves, points, (w, h), fps, (along, across), free)
    return within_reach(preset, reference, hands, hands_alone=True, frame_by_frame=True)[0]


def within_reach(
    preset: Preset,
    reference: Reference,
    poses: PoseSequence,
    hands_alone: bool = False,
    frame_by_frame: bool = False,
    laid: bool = False,
) -> tuple[PoseSequence, list[str]]:
    """Shorten movements that the model cannot follow (docs/reference/driving.md), and say which.

    laid: hands are laid over the frames (`DrivenArms`).
    """
    from cyberhost_model.driving.reach import HANDS_ALONE, LAID, WHOLE, carry_hands, limit_reach, reach_warnings

    if not preset.traits.relative:
        return poses, []
    if not preset.pose_shift:
        return poses, ["this model hardly follows key points: body and hands will move little (docs/results.md)"]
    points, (w, h) = reference.picture_keypoints, reference.canvas.picture_size
    if hands_alone and not laid:
        unit, reach = float(preset.latent_factor), HANDS_ALONE
    else:
        unit, reach = face_height(points.face * (w, h)), LAID if laid else WHOLE
        poses = carry_hands(poses, points)
    poses, beyond = limit_reach(poses, points, (unit / w, unit / h), reach, frame_by_frame)
    return poses, reach_warnings(beyond)

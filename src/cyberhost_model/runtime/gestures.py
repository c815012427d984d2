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

_LAID, _DRAWN = 0.4, 0.8
"""How far a gesture goes, in face heights: of the picture's own hands, laid over the frames, and of drawn ones."""


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
) -> PoseSequence:
    """Make gestures for `total` frames of the sound; movement: a factor of how lively, least: see `free_hands`."""
    from cyberhost_model.driving.speech_gesture import speech_gesture

    moves = speech_gesture(sound.stream_mono16k(), total, config.fps, config.seed, movement)
    return gesturing_hands(preset, reference, moves, config.fps, least)


def live_gestures(
    preset: Preset,
    reference: Reference,
    speech: LiveSpeech,
    config: GenerationConfig,
    movement: float,
) -> Callable[[int, int], PoseSequence]:
    """Make hands that gesture with a sound that grows: (first frame, frames) -> them, in 0..1 of the picture.

    movement: a factor of how lively.
    """
    from cyberhost_model.driving.speech_gesture import STEP, SpeechGestures, step_power

    ahead = speech.look_ahead / SPEECH_RATE
    gestures = SpeechGestures(config.fps, config.seed, movement, ahead)

    def make(first: int, frames: int) -> PoseSequence:
        step, end = int(first / config.fps * SPEECH_RATE) // STEP, (first + frames) / config.fps + ahead
        gestures.hear(step_power([speech.samples(step * STEP, math.ceil(end * SPEECH_RATE))]), step)
        return gesturing_hands(preset, reference, gestures.frames(first, frames), config.fps, SURE)

    return make


def gesturing_hands(
    preset: Preset, reference: Reference, moves: np.ndarray, fps: float, least: float = VISIBLE
) -> PoseSequence:
    """Move the picture's free hands as gestures do (`driving.speech_gesture`)."""
    from cyberhost_model.driving.speech_gesture import free_hands, move_hands

    points, (w, h) = reference.picture_keypoints, reference.canvas.picture_size
    reach = (_LAID if preset.traits.relative else _DRAWN) * face_height(points.face * (w, h))
    return move_hands(moves, points, (w, h), fps, (reach, reach), free_hands(points, w / h, least))


def within_reach(preset: Preset, reference: Reference, poses: PoseSequence) -> tuple[PoseSequence, list[str]]:
    """Shorten movements that the model cannot follow (docs/reference/driving.md), and say which."""
    from cyberhost_model.driving.reach import carry_hands, limit_reach, reach_warnings

    if not preset.traits.relative:
        return poses, []
    if not preset.pose_shift:
        return poses, ["this model hardly follows key points: body and hands will move little (docs/results.md)"]
    points, (w, h) = reference.picture_keypoints, reference.canvas.picture_size
    unit = face_height(points.face * (w, h))
    poses, beyond = limit_reach(carry_hands(poses, points), points, (unit / w, unit / h))
    return poses, reach_warnings(beyond)

"""Gestures for speech alone: chosen by a seed, paced by the speech, without a jump."""

from __future__ import annotations

import numpy as np
import pytest

from cyberhost_model.driving.speech_gesture import speech_activity, speech_gesture
from cyberhost_model.driving.template import load_template, step_sizes

FPS, FRAMES = 25.0, 300
WRISTS = [7, 4]


def sound(*spoken: tuple[float, float], seconds: float = FRAMES / FPS) -> list[np.ndarray]:
    """Noise in the stretches `spoken`, in blocks of odd length."""
    time = np.arange(round(seconds * 16000)) / 16000
    noise = 0.2 * np.random.default_rng(0).standard_normal(len(time)).astype(np.float32)
    loud = np.any([(a <= time) & (time < b) for a, b in spoken], 0) if spoken else np.zeros(len(time), bool)
    return np.array_split(noise * loud, 7)


def motion(sequence) -> np.ndarray:
    """How far both wrists move in each frame, in picture heights."""
    return np.linalg.norm(np.diff(sequence.body[:, WRISTS], axis=0), axis=-1).sum(1)


def test_a_seed_chooses_and_nothing_jumps():
    blocks, calm = sound((0, 12)), step_sizes(load_template("open_palms"))[0].max()
    made = [speech_gesture(blocks, FRAMES, FPS, seed) for seed in range(4)]
    for one in made:
        assert len(one) == FRAMES and one.fps == FPS and one.hands_score.min() == 1
        assert step_sizes(one)[0].max() < 1.2 * calm
        assert 0 < one.hands.min() and one.hands.max() < 1
    again = speech_gesture(blocks, FRAMES, FPS, 2)
    assert np.array_equal(again.points(), made[2].points())
    apart = [np.abs(a.hands - b.hands).max() for i, a in enumerate(made) for b in made[:i]]
    assert min(apart) > 0.02
    many = [speech_gesture(blocks, FRAMES, FPS, seed) for seed in range(9)]
    travel = [np.ptp(one.body[:90, WRISTS, 0], axis=0) for one in many]
    ratios = np.array([left / right for left, right in travel])
    assert ratios.max() > 1.5 and ratios.min() < 1 / 1.5 and (abs(ratios - 1) < 0.2).any()  # one hand leads, or none


def test_hands_move_while_somebody_speaks():
    made = motion(speech_gesture(sound((0, 4), (8, 12)), FRAMES, FPS, 0))
    speaking, pause = np.r_[made[:90], made[225:]].mean(), made[125:175].mean()
    assert speaking > 2 * pause
    quiet = motion(speech_gesture(sound(), FRAMES, FPS, 0))
    rest = load_template("rest")
    assert quiet.max() < 1.5 * motion(rest).max()
    still = motion(speech_gesture(sound((0, 12)), FRAMES, FPS, 0, movement=0.0))
    assert still.max() < 1.5 * motion(rest).max() and speaking > 2 * still.mean()


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_short_speech(frames):
    assert len(speech_gesture(sound((0, 1), seconds=frames / FPS), frames, FPS, 0)) == frames


def test_activity_of_frames():
    found = speech_activity(sound((2, 4), seconds=6), 150, FPS)
    assert found.shape == (150,) and found[:49].max() == 0 == found[101:].max() and found[51:99].min() > 0.8
    assert not speech_activity([np.zeros(16000, np.float32)], 25, FPS).any()
    assert len(speech_activity(sound((0, 1), seconds=1), 40, FPS)) == 40  # the video may be longer

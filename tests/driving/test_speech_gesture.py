"""Gestures for speech alone: chosen by a seed, paced by the speech, without a jump."""

from __future__ import annotations

import numpy as np
import pytest

from cyberhost_model.driving.speech_gesture import free_hands, speech_activity, speech_gesture
from cyberhost_model.driving.template import load_template, step_sizes
from cyberhost_model.perception.keypoints import SURE, Keypoints

FPS, FRAMES = 25.0, 300
WRISTS = [7, 4]
SHAPES = {"body": 18, "hands": (2, 21), "face": 68}


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


def speaker(left: tuple[float, float], right: tuple[float, float], **unseen: float) -> Keypoints:
    """Key points of somebody whose wrists are there, with hands that hang 0.08 below them."""
    arms = {5: (0.65, 0.4), 6: (0.7, 0.6), 7: left, 2: (0.35, 0.4), 3: (0.3, 0.6), 4: right}
    body = np.array([arms.get(point, (0.5, 0.2)) for point in range(18)], np.float32)
    down = np.linspace(0, 0.08, 21)[:, None] * [0, 1]
    hands = np.stack([np.add(wrist, down) for wrist in (left, right)]).astype(np.float32)
    face = np.random.default_rng(0).normal((0.5, 0.2), 0.02, (68, 2)).astype(np.float32)
    scores = [np.full(shape, unseen.get(name, 1), np.float32) for name, shape in SHAPES.items()]
    return Keypoints(body, scores[0], hands, scores[1], face, scores[2])


@pytest.mark.parametrize(
    ("left", "right", "free"),
    [
        ((0.75, 0.75), (0.25, 0.75), (True, True)),
        ((0.51, 0.75), (0.49, 0.75), (False, False)),  # hands that rest on each other
        ((0.52, 0.21), (0.25, 0.75), (False, True)),  # a chin in a hand
        ((0.32, 0.6), (0.68, 0.6), (False, False)),  # crossed arms
    ],
)
def test_a_hand_that_touches_something_is_not_free(left, right, free):
    assert free_hands(speaker(left, right), 1.0) == free


def test_what_is_not_seen_is_touched_by_nobody():
    assert free_hands(speaker((0.75, 0.75), (0.25, 0.75), hands=0.2), 1.0) == (False, False)
    assert free_hands(speaker((0.75, 0.75), (0.25, 0.75), hands=0.5), 1.0, SURE) == (False, False)
    assert free_hands(speaker((0.52, 0.21), (0.25, 0.75), face=0.0), 1.0) == (True, True)


def test_a_hand_that_is_not_free_stays():
    both = speech_gesture(sound((0, 12)), FRAMES, FPS, 1)
    one = speech_gesture(sound((0, 12)), FRAMES, FPS, 1, free=(False, True))
    assert np.ptp(one.hands[:, 0], axis=0).max() == 0 < np.ptp(both.hands[:, 0], axis=0).max()
    np.testing.assert_array_equal(one.hands[:, 1], both.hands[:, 1])


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_short_speech(frames):
    assert len(speech_gesture(sound((0, 1), seconds=frames / FPS), frames, FPS, 0)) == frames


def test_activity_of_frames():
    found = speech_activity(sound((2, 4), seconds=6), 150, FPS)
    assert found.shape == (150,) and found[:49].max() == 0 == found[101:].max() and found[51:99].min() > 0.8
    assert not speech_activity([np.zeros(16000, np.float32)], 25, FPS).any()
    assert len(speech_activity(sound((0, 1), seconds=1), 40, FPS)) == 40  # the video may be longer

"""Gestures for speech alone: strokes of several kinds that a seed chooses, on stressed syllables, without a jump."""

from __future__ import annotations

import numpy as np
import pytest

from cyberhost_model.driving.speech_gesture import (
    AHEAD,
    STEP,
    SpeechGestures,
    free_hands,
    joined_hands,
    move_hands,
    speech_gesture,
    step_power,
)
from cyberhost_model.driving.strokes import KINDS, WIDTH, draw_stroke
from cyberhost_model.perception.keypoints import SURE, Keypoints

FPS, SECONDS = 25.0, 12.0
FRAMES = round(FPS * SECONDS)
STRESSED = np.array([0.9, 2.05, 3.1, 4.35, 5.6, 6.55, 7.8, 9.1, 10.2, 11.3])
SHAPES = {"body": 18, "hands": (2, 21), "face": 68}
REACH = (20.0, 8.0)
QUICKEST = 0.45  # of a frame's way, in `Pose`'s unit


def sound(*spoken: tuple[float, float], stressed: np.ndarray = STRESSED) -> np.ndarray:
    """Noise in the stretches `spoken`, louder by 14 dB at the times `stressed`, whose syllables last a tenth second."""
    time = np.arange(round(SECONDS * 16000)) / 16000
    loud = np.any([(a <= time) & (time < b) for a, b in spoken], 0) if spoken else np.zeros(len(time), bool)
    bumps = np.exp(-(((time[:, None] - stressed) / 0.05) ** 2)).sum(1)
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (noise * loud * (0.04 + 0.16 * bumps)).astype(np.float32)


def moved(*spoken: tuple[float, float], seed: int = 0, movement: float = 1.0) -> np.ndarray:
    return speech_gesture(np.array_split(sound(*spoken), 7), FRAMES, FPS, seed, movement)


def far(moves: np.ndarray) -> np.ndarray:
    """How far the hand that is further away is from rest, in each frame."""
    return np.linalg.norm(moves[..., :2], axis=-1).max(1)


def arrivals(moves: np.ndarray, seed: int) -> list[float]:
    """Times of the first frames at which the hands are where the strokes of a seed end, but for their sway."""
    found, frame, kind = [], 0, None
    for number in range(100):
        stroke = draw_stroke(seed, number, kind)
        kind = stroke.kind
        away = np.abs(moves[frame:, :, :2] - stroke.apex[:, :2]).max((1, 2))
        if not (away < 0.06).any():
            break
        frame += int(np.argmax(away < 0.06))
        found.append(frame / FPS)
    return found


@pytest.mark.parametrize("ahead", [AHEAD, 0.2])
def test_strokes_arrive_on_stressed_syllables(ahead):
    late = []
    for seed in range(6):
        gestures = SpeechGestures(FPS, seed, ahead=ahead)
        gestures.hear(step_power([sound((0, SECONDS))]), 0)
        late += [float(np.abs(STRESSED - time).min()) for time in arrivals(gestures.frames(0, FRAMES), seed)]
    near, chance = (
        np.mean(np.asarray(away) < 0.1)
        for away in (late, np.abs(np.arange(0.5, 11.5, 0.04)[:, None] - STRESSED).min(1))
    )
    assert len(late) > 20 and near > 0.7 > 3 * chance


def test_kinds_differ_and_none_comes_twice_in_a_row():
    for seed in range(3):
        kind, kinds = None, []
        for number in range(80):
            stroke = draw_stroke(seed, number, kind)
            kind = stroke.kind
            kinds.append(kind)
        assert set(kinds) == set(KINDS) and all(a != b for a, b in zip(kinds, kinds[1:], strict=False))
    ways = {}
    for name, kind in KINDS.items():
        lead, other = kind.apex.array() - kind.prepared.array(), kind.follows.array() - kind.beside.array()
        ways[name] = np.concatenate([lead[:3], other[:3]])
    alike = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for x, a in ways.items() for y, b in ways.items() if x < y]
    assert max(alike) < 0.95 and np.mean(alike) < 0.4, (max(alike), np.mean(alike))
    leads = [np.linalg.norm(draw_stroke(0, n, None).apex[:, :2], axis=-1) for n in range(60)]
    assert any(left > 2 * right for left, right in leads) and any(right > 2 * left for left, right in leads)


def test_a_seed_chooses_and_nothing_jumps():
    made = [moved((0, 5), (6, SECONDS), seed=seed) for seed in range(6)]
    for one in made:
        assert one.shape == (FRAMES, 2, WIDTH) and far(one).max() > 0.6
        step = np.diff(one[..., :2], axis=0)
        assert np.linalg.norm(step, axis=-1).max() < QUICKEST
        assert np.linalg.norm(np.diff(step, axis=0), axis=-1).max() < 0.75 * QUICKEST  # of nothing comes no full speed
        assert far(one[:1]).max() < 0.1 and far(one).max() < 1.05
    assert np.array_equal(moved((0, 5), (6, SECONDS), seed=2), made[2])
    assert min(np.abs(a - b).max() for i, a in enumerate(made) for b in made[:i]) > 0.5


def test_hands_move_while_somebody_speaks_and_sink_in_pauses():
    made = far(moved((0, 4), (8, 12)))
    assert made[:100].max() > 0.6 < made[212:].max() and made[130:188].max() < 0.08
    assert far(moved()).max() < 0.08  # they sway
    assert np.ptp(moved((0, 12), movement=0.0)) == 0 < np.ptp(moved((0, 12), movement=0.5))
    assert far(moved((0, 12), movement=0.5)).max() < 0.6 * far(moved((0, 12))).max()
    quiet = speech_gesture([0.01 * sound((0, 12))], FRAMES, FPS, 0)
    np.testing.assert_allclose(quiet, moved((0, 12)), atol=1e-3)  # whatever the recording's level


def test_a_frame_depends_on_no_later_sound_and_on_no_clip():
    power = step_power([sound((0.3, 5), (6, SECONDS))])
    whole = SpeechGestures(FPS, 1, ahead=0.2)
    whole.hear(power, 0)
    expected = whole.frames(0, FRAMES)
    for clip in (4, 7, 12):
        grows = SpeechGestures(FPS, 1, ahead=0.2)
        for first in range(0, FRAMES - clip, clip):
            begin, end = round(first / FPS / 0.02), round(((first + clip) / FPS + 0.2) / 0.02)
            grows.hear(power[begin:end], begin)
            np.testing.assert_array_equal(grows.frames(first, clip), expected[first : first + clip])


def test_hands_go_on_from_an_earlier_frame():
    power = step_power([sound((0, SECONDS))])
    gestures = SpeechGestures(FPS, 3, ahead=0.2)
    gestures.hear(power, 0)
    gestures.frames(0, 24)
    before = gestures.frames(24, 24)
    gestures.hear(np.zeros(100), round(30 / FPS / 0.02))  # what was to be said from frame 30 on is silence
    after = gestures.frames(30, 40)
    joined = np.concatenate([before[:6], after])
    assert np.linalg.norm(np.diff(joined[..., :2], axis=0), axis=-1).max() < QUICKEST
    assert not np.allclose(after[:18], before[6:]) and far(after[-5:]).max() < 0.08
    gestures.hear(power, 0)
    np.testing.assert_allclose(gestures.frames(0, 24), _fresh(power).frames(0, 24))  # a session that begins anew


def _fresh(power: np.ndarray) -> SpeechGestures:
    gestures = SpeechGestures(FPS, 3, ahead=0.2)
    gestures.hear(power, 0)
    return gestures


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


def test_the_pictures_own_hands_move_outwards_and_up():
    person, size = speaker((0.75, 0.75), (0.25, 0.75)), (400, 200)
    moves = np.zeros((4, 2, WIDTH))
    moves[1, :, 0], moves[2, :, 1], moves[3, :, 2] = 0.5, 1.0, 1.0
    both = move_hands(moves, person, size, FPS, REACH, (True, True))
    assert not both.body_score.any() and not both.face_score.any()
    np.testing.assert_allclose(both.hands[0], person.hands, atol=1e-6)
    away = ((both.hands - person.hands) * size).mean(2)
    across = 8 * np.tanh(10 / 8)  # these hands hang: less far across their fingers than along them
    np.testing.assert_allclose(away[1], [[across, 0], [-across, 0]], atol=1e-3)
    np.testing.assert_allclose(away[2], [[0, -20], [0, -20]], atol=1e-3)
    turned = (both.hands[3, :, 20] - person.hands[:, 20]) * size
    assert 1 < turned[0, 0] < 8 and -8 < turned[1, 0] < -1 and not away[3].round(3).any()  # fingertips go outwards
    lying = speaker((0.75, 0.75), (0.25, 0.75))
    lying.hands[:] = lying.hands[:, :1] + (lying.hands - lying.hands[:, :1])[..., ::-1]  # fingers to the right
    tips = ((move_hands(moves, lying, size, FPS, REACH, (True, True)).hands[3] - lying.hands) * size)[:, 20]
    assert (tips[:, 1] < -1).all() and (tips[:, 1] > -8).all()  # or rise
    mirrored = move_hands(moves, speaker((0.25, 0.75), (0.75, 0.75)), size, FPS, REACH, (True, True))
    away = ((mirrored.hands - mirrored.hands[:1]) * size).mean(2)
    np.testing.assert_allclose(away[1], [[-across, 0], [across, 0]], atol=1e-3)


def test_a_hand_that_is_not_free_stays():
    person, moves = speaker((0.75, 0.75), (0.25, 0.75)), moved((0, 12))
    both = move_hands(moves, person, (256, 256), FPS, (19.2, 6.4), (True, True))
    one = move_hands(moves, person, (256, 256), FPS, (19.2, 6.4), (False, True))
    assert np.ptp(one.hands[:, 0], axis=0).max() == 0 < np.ptp(both.hands[:, 0], axis=0).max()
    np.testing.assert_array_equal(one.hands[:, 1], both.hands[:, 1])


def test_strokes_stay_within_reach():
    person = speaker((0.75, 0.75), (0.25, 0.75))
    for seed in range(3):
        made = move_hands(moved((0, 12), seed=seed), person, (256, 256), FPS, (19.2, 5.6), (True, True))
        middles = (made.hands - person.hands).mean(2) * 256
        assert np.linalg.norm(middles, axis=-1).max() < 1.5 * 19.2


@pytest.mark.parametrize(
    ("left", "right", "sure", "joined"),
    [
        ((0.51, 0.75), (0.49, 0.75), 1, True),
        ((0.51, 0.75), (0.49, 0.75), 0.1, False),
        ((0.75, 0.75), (0.25, 0.75), 1, False),
        ((0.52, 0.21), (0.5, 0.21), 1, False),  # a face in two hands
        ((0.32, 0.6), (0.68, 0.6), 1, False),  # crossed arms
    ],
)
def test_hands_that_touch_each_other_alone_are_joined(left, right, sure, joined):
    assert joined_hands(speaker(left, right, hands=sure), 1.0, SURE) == joined


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_short_speech(frames):
    for blocks in ([], [np.zeros(0, np.float32)], [sound((0, 1))[: frames * 640]]):
        assert speech_gesture(blocks, frames, FPS, 0).shape == (frames, 2, WIDTH)


def test_power_of_steps():
    found = step_power(np.array_split(np.concatenate([np.zeros(3200), np.full(3300, 0.5)]), 9))
    assert found.shape == (21,) and not found[:10].any() and np.allclose(found[10:20], 0.25)
    assert found[20] == pytest.approx(0.25 * 100 / STEP)

"""Performances: what heads and arms of training clips do with the speech."""

import numpy as np
import pytest

from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.performance import perform, reach_out, wander
from cyberhost_model.lab.synthetic.puppet import Pose, Puppet
from cyberhost_model.lab.synthetic.speech_motion import SpeechMotion

FRAMES = 500


def speech(seed: int) -> SpeechMotion:
    """Syllables and vowels drawn from a seed, with the deviations that real speech has."""
    rng, times = np.random.default_rng(seed), np.arange(FRAMES) / 25
    energy = np.clip(0.46 + 0.25 * wander(rng, times, 1.5, 0.4), 0, 1).astype(np.float32)
    width = np.clip(0.18 * wander(rng, times, 1.0, 0.3), -1, 1).astype(np.float32)
    none = np.zeros(FRAMES, np.float32)
    return SpeechMotion(energy, width, none, energy, energy, energy > 0.2)


def paths(motion: SpeechMotion, seed: int) -> dict[str, np.ndarray]:
    poses = perform(motion, np.random.default_rng(seed), clasped=False)
    return {
        "head": np.array([(p.yaw, p.pitch) for p in poses]),
        "arms": np.array([[arm[1] for arm in p.arms] for p in poses]),
    }


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(0), b - b.mean(0)
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


@pytest.mark.parametrize("part", ["head", "arms"])
def test_speech_moves_the_body_more_than_chance_does(part):
    same_chance = np.mean([likeness(paths(speech(s), s)[part], paths(speech(s + 50), s)[part]) for s in range(6)])
    same_speech = np.mean([likeness(paths(speech(s), s)[part], paths(speech(s), s + 50)[part]) for s in range(6)])
    assert same_speech > 0.6 and same_chance < 0.4


def test_silence_leaves_small_movement():
    none = np.zeros(FRAMES, np.float32)
    still = SpeechMotion(none, none, none, none, none, none > 0)
    quiet, loud = (np.mean([paths(m, s)["arms"].std(0).mean() for s in range(6)]) for m in (still, speech(1)))
    assert 0.005 < quiet < 0.5 * loud


def test_gestures_turn_arms_far():
    turns = np.zeros((FRAMES, 2, 2), np.float32)
    turns[:, :, 1] = 0.9 * np.sin(np.arange(FRAMES) / 25 * 3)[:, None]
    spread = [
        np.ptp([p.arms[0][1] for p in perform(speech(3), np.random.default_rng(s), False, [turns])]) for s in range(12)
    ]
    assert max(spread) > 0.8  # radians; an arm whose gesture was not drawn stays below


def test_hands_that_reach_out_go_far_without_a_jump():
    puppet = next(p for s in range(40) if len((p := Puppet(drawn_still(s, (192, 192)))).bones) == 2 and not p.clasped)
    runs = [reach_out([Pose()] * FRAMES, np.random.default_rng(seed), puppet) for seed in range(6)]
    reach = np.array([[pose.reach for pose in run] for run in runs])
    far = np.linalg.norm(reach, axis=-1)
    assert 1 < far.max() <= 2.2 + 1e-6, "face heights"
    assert np.linalg.norm(np.diff(reach, axis=1), axis=-1).max() < 0.5, "of a frame's step"
    assert (far.max(1) == 0).any(), "some arms rest"


def test_hands_that_touch_reach_out_together():
    puppet = next(p for s in range(80) if (p := Puppet(drawn_still(s, (192, 192)))).clasped)
    for pose in reach_out([Pose()] * 50, np.random.default_rng(3), puppet):
        assert pose.reach[0] == pose.reach[1]

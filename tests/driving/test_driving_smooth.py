"""Cleaning: trembling and gaps go, gestures stay, nothing lags."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from figures import Person, perform, upright

from cyberhost_model.driving.sequence import ARRAYS, PoseSequence
from cyberhost_model.driving.smooth import clean

HEIGHT = 640  # pixels in which errors are told
POSES = Path(os.environ.get("CYBERHOST_POSES", Path(__file__).resolve().parents[3] / "shared" / "data" / "poses"))


def spoiled(sequence: PoseSequence, tremble: float = 3.0, missing: float = 0.2, seed: int = 0) -> PoseSequence:
    """Noise of `tremble` pixels at a height of 640, and points left out at random."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, tremble / HEIGHT, (len(sequence), 128, 2)) / [sequence.aspect, 1]
    gone = rng.random((len(sequence), 128)) < missing
    return sequence.with_points(
        np.where(gone[..., None], 7.0, sequence.points() + noise), np.where(gone, 0, sequence.scores())
    )


def error(sequence: PoseSequence, true: PoseSequence) -> np.ndarray:
    """Distances in pixels of the points both show."""
    seen = (sequence.scores() > 0.3) & (true.scores() > 0.3)
    return HEIGHT * np.linalg.norm(upright(sequence) - upright(true), axis=-1)[seen]


def test_noise_and_gaps_go() -> None:
    true = perform(Person(), 100)
    bad = spoiled(true)
    good = clean(bad)
    assert error(bad, true).mean() > 3.5
    assert error(good, true).mean() < 0.55 * error(bad, true).mean()
    shown = true.scores() > 0
    assert (good.scores()[shown] > 0.3).mean() > 0.99
    # What remains is no trembling: the second differences are near those of the motion itself.
    rough = [np.abs(np.diff(upright(s), 2, axis=0))[:, shown[0]].mean() for s in (good, true)]
    assert rough[0] < 1.5 * rough[1]


def test_what_does_not_tremble_is_left_alone() -> None:
    true = perform(Person(), 100)
    assert error(clean(true), true).max() < 0.3
    np.testing.assert_array_equal(clean(true).scores(), true.scores())


def test_a_quick_wave_is_neither_damped_nor_late() -> None:
    true = perform(Person(), 100)
    t = np.arange(100) / 25
    points = true.points()
    wave = 0.06 * np.sin(2 * np.pi * 3 * t)  # three times a second, 38 pixels to either side
    points[:, 18:39, 0] += wave[:, None]
    true = true.with_points(points, true.scores())
    good = clean(spoiled(true, 3.0, 0.0))
    got = (good.points() - points)[:, 18:39, 0].mean(1) + wave
    kept = np.dot(got, wave) / np.dot(wave, wave)
    lag = [float(np.dot(got[5:-5], np.roll(wave, s)[5:-5])) for s in range(-3, 4)]
    assert kept == pytest.approx(1, abs=0.06)
    assert int(np.argmax(lag)) == 3


def test_gaps_up_to_half_a_second_are_bridged_and_longer_ones_are_not() -> None:
    true = perform(Person(), 100)
    scores = true.scores()
    scores[20:32, 4], scores[40:53, 7], scores[:2, 3], scores[95:, 6] = 0, 0, 0, 0
    good = clean(true.with_points(true.points(), scores)).scores()
    assert (good[20:32, 4] > 0.3).all()
    assert (good[40:53, 7] == 0).all() and good[39, 7] > 0 and good[53, 7] > 0
    assert (good[:2, 3] > 0).all() and (good[95:, 6] == 0).all()


def test_a_bridge_follows_the_motion() -> None:
    true = perform(Person(), 100)
    scores = true.scores()
    scores[50:58, 4] = 0
    broken = true.with_points(np.where(scores[..., None] > 0, true.points(), 0), scores)
    off = HEIGHT * np.linalg.norm(upright(clean(broken)) - upright(true), axis=-1)[50:58, 4]
    straight = true.points()[49, 4] + np.linspace(0, 1, 10)[1:-1, None] * (true.points()[58, 4] - true.points()[49, 4])
    chord = HEIGHT * np.linalg.norm((straight - true.points()[50:58, 4]) * [true.aspect, 1], axis=-1)
    assert off.max() < 0.5 * chord.max()


def test_single_mistakes_are_left_out() -> None:
    true = perform(Person(), 100).sampled(np.arange(100) * 0.4, 25)
    points, scores = true.points(), true.scores()
    points[30, 4] += 0.15
    points[60:62, 25] -= 0.2
    scores[:, 9] = 0
    scores[50, 9], points[50, 9] = 0.9, 0.5  # a knee that is seen in one frame
    good = clean(true.with_points(points, scores))
    assert error(good, true).max() < 3
    assert good.scores()[50, 9] == 0


def test_lower_scores_count_for_less() -> None:
    true = perform(Person(), 60)
    rng = np.random.default_rng(1)
    doubtful = rng.random((60, 128)) < 0.5
    noise = rng.normal(0, 1, (60, 128, 2)) * np.where(doubtful, 6, 1)[..., None] / HEIGHT
    points = true.points() + noise
    told = clean(true.with_points(points, np.where(doubtful, 0.35, 1.0) * (true.scores() > 0)))
    untold = clean(true.with_points(points, true.scores()))
    assert error(told, true).mean() < error(untold, true).mean()


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_short_sequences(frames: int) -> None:
    true = perform(Person(), frames)
    good = clean(true)
    assert len(good) == frames and np.isfinite(good.points()).all()
    assert error(good, true).max() < 0.5


def test_a_point_that_is_never_seen_and_one_that_is_seen_once() -> None:
    true = perform(Person(), 30)
    scores = true.scores()
    scores[:, 20], scores[:, 21] = 0, 0
    scores[12, 21] = 1
    good = clean(true.with_points(true.points(), scores))
    assert np.isfinite(good.points()).all() and good.scores()[:, 20].max() == 0


def test_long_sequences_go_block_by_block_without_a_seam() -> None:
    short = perform(Person(), 100)
    at = np.abs((np.arange(1800) + 99) % 198 - 99)
    true = short.sampled(at, 25)
    good = clean(spoiled(true, 1.0, 0.1))
    step = HEIGHT * np.abs(np.diff(upright(good) - upright(true), axis=0))[:, :60].mean((1, 2))
    assert len(good) == 1800 and step[1495:1505].max() < 2 * step.max() and step[1499] < 2 * np.median(step)


@pytest.mark.skipif(not POSES.is_dir(), reason="needs ../shared (recorded gestures)")
@pytest.mark.parametrize("name", ["01", "salute"])
def test_recorded_gestures(name: str) -> None:
    with np.load(POSES / f"{name}.npz") as file:
        recorded = PoseSequence(
            25, (480, 640), **{n: file[n].clip(-1, 2) if "score" not in n else file[n].clip(0, 1) for n in ARRAYS}
        )
    true = clean(recorded)
    bad = spoiled(true, seed=1)
    assert error(clean(bad), true).mean() < 0.6 * error(bad, true).mean()

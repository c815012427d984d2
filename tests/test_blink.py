"""Blinks: as often and as long as people's, the same for a seed, read off a filmed face."""

import itertools

import numpy as np

from cyberhost_model.conditions.blink import blinks, blinks_of, shut_lids
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.puppet import Pose, Puppet

FPS = 25


def drawn(seed: int, seconds: float, rate: float = 1.0) -> np.ndarray:
    times = (i / FPS for i in itertools.count())
    return np.array(list(itertools.islice(blinks(np.random.default_rng(seed), times, rate), round(seconds * FPS))))


def starts(shut: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff((shut > 0.5).astype(int)) == 1)


def test_people_blink_ten_to_twenty_times_a_minute_at_uneven_intervals():
    minutes = [drawn(seed, 120.0) for seed in range(10)]
    counts = [len(starts(shut)) / 2 for shut in minutes]
    assert 10 < np.mean(counts) < 20
    intervals = np.concatenate([np.diff(starts(shut)) for shut in minutes]) / FPS
    assert intervals.min() >= 0.5 and intervals.std() > 1
    assert all(0.99 < shut.max() <= 1 and shut.min() == 0 for shut in minutes)
    closed = np.concatenate(minutes) > 0.5
    assert 0.02 < closed.mean() < 0.08  # a fifth of a second each
    assert len(starts(drawn(0, 120, 3.0))) > 2 * len(starts(drawn(0, 120)))


def test_a_seed_gives_the_same_blinks_however_they_are_read():
    whole = drawn(4, 30)
    stream = blinks(np.random.default_rng(4), (i / FPS for i in itertools.count()))
    parts = [list(itertools.islice(stream, 12)) for _ in range(40)]
    assert np.array_equal(np.concatenate(parts), whole[:480])
    assert not np.array_equal(whole, drawn(5, 30))


def test_lids_are_read_off_key_points():
    puppet = Puppet(drawn_still(7))
    open_eyes, half, shut = (puppet.render(Pose(blink=b)).keypoints for b in (0.0, 0.5, 1.0))
    size = puppet.size
    found = shut_lids(open_eyes, [open_eyes, half, shut], size)
    assert found[0] == 0 and 0.3 < found[1] < 0.7 < 0.9 < found[2] <= 1
    assert not shut_lids(shut, [open_eyes], size).any()  # the picture's eyes are shut

    faces = np.stack([k.face * np.array(size) for k in [open_eyes] * 20 + [half, shut, half] + [open_eyes] * 20])
    scores = np.ones(faces.shape[:2], np.float32)
    seen = blinks_of(faces, scores)
    assert seen[21] == 1 and not seen[:19].any() and not seen[25:].any()
    assert not blinks_of(faces + np.random.default_rng(0).normal(0, 0.1, faces.shape), scores)[:19].any()
    assert not blinks_of(faces, 0 * scores).any()

"""The time left that a bar tells: never off by more than a factor of two once a clip is finished."""

from __future__ import annotations

import random

import pytest

from cyberhost_cli.estimate import Estimate, clock_words


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def rates(costs: list[float], clip: int, total: int, first: int = 0) -> list[float]:
    """Estimate / truth at every frame after the first clip, for clips that take `costs` seconds."""
    clock = Clock()
    ends = clock.now + sum(costs)
    estimate = Estimate(total, clip, clock)
    found: list[float] = []
    done = first
    if first:
        estimate.update(first)
    for cost in costs:
        for part in range(4):  # while the clip is made
            clock.now += cost / 4
            if (left := estimate.left()) is not None and part < 3 and ends - clock.now > 0:
                found.append(left / (ends - clock.now))
        for _ in range(min(clip, total - done)):
            done += 1
            estimate.update(done)
    assert done == total and estimate.left() == 0.0
    return found


@pytest.mark.parametrize(("first", "total"), [(0, 120), (0, 125), (60, 121)])
def test_never_off_by_two(first: int, total: int) -> None:
    draws = random.Random(3)
    clips = -(-(total - first) // 12)
    for slower in (1.0, 1.8):  # the first clip also pays for what is done once
        costs = [2 * slower] + [2 * draws.uniform(0.8, 1.25) for _ in range(clips - 1)]
        found = rates(costs, 12, total, first)
        assert found and all(0.5 <= rate <= 2.0 for rate in found), found


def test_nothing_is_told_before_the_first_clip() -> None:
    clock = Clock()
    estimate = Estimate(100, 10, clock)
    for step in range(5):  # steps of a model that denoises the whole video first
        clock.now += 50
        estimate.update(0)
        assert estimate.left() is None, step
    for frame in range(1, 11):
        assert estimate.left() is None
        clock.now += 0.1
        estimate.update(frame)
    assert estimate.left() == pytest.approx(0.8 * 9.0) and estimate.elapsed == pytest.approx(251.0)


@pytest.mark.parametrize(("seconds", "words"), [(7.2, "0:07"), (749.6, "12:30"), (3723.0, "1:02:03")])
def test_clock(seconds: float, words: str) -> None:
    assert clock_words(seconds) == words

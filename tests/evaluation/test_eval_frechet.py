"""The Frechet distance: the values of the protocol, sets without full rank, and how FID and FVD are reported."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from eval_helpers import sample

from cyberhost_model.lab.evaluation.metric import SetValue
from cyberhost_model.lab.evaluation.metrics.frechet import (
    Gaussian,
    MomentSums,
    frechet_distance,
    set_distance,
    sum_moments,
)

normal = Gaussian.from_moments


def between(a: np.ndarray, b: np.ndarray) -> float:
    return frechet_distance(Gaussian.of(sum_moments([a])), Gaussian.of(sum_moments([b])))


def test_known_distances() -> None:
    zero, one = np.zeros(64), np.ones(64)
    assert frechet_distance(normal(zero, np.eye(64)), normal(one, np.eye(64))) == pytest.approx(64, abs=1e-9)
    assert frechet_distance(normal(zero, np.eye(64)), normal(zero, 4 * np.eye(64))) == pytest.approx(64, abs=1e-9)
    a, b = np.random.default_rng(0).uniform(0.1, 5, (2, 30))
    expected = np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert frechet_distance(normal(np.zeros(30), np.diag(a)), normal(np.zeros(30), np.diag(b))) == pytest.approx(
        expected, abs=1e-9
    )
    left, right = np.array([[2, 0.5], [0.5, 1]]), np.array([[1, -0.3], [-0.3, 3]])
    assert frechet_distance(normal(np.zeros(2), left), normal(np.array([1.0, 2]), right)) == pytest.approx(
        5.929311854968, abs=1e-11
    )


@pytest.mark.parametrize("n", [32, 100, 269])
def test_equal_sets_without_full_rank(n: int) -> None:
    rows = np.random.default_rng(n).normal(3, 2, (n, 400)).astype(np.float32)
    assert abs(between(rows, rows)) < 1e-3
    assert abs(between(rows, rows[::-1])) < 1e-3


def test_bias_falls_as_sets_grow() -> None:
    random = np.random.default_rng(0)
    values = [between(*random.normal(size=(2, n, 400))) for n in (100, 269, 1000, 2048)]
    assert all(a > b for a, b in itertools.pairwise(values))
    assert values == pytest.approx([478.6, 289.6, 82.0, 39.5], rel=0.05)


def test_sums_are_those_of_all_rows_at_once() -> None:
    rows = np.random.default_rng(0).normal(1000, 1, (500, 7)).astype(np.float32)  # a mean far from the origin
    whole = sum_moments([rows[:3], rows[3:3], rows[3:400], rows[400:]])
    np.testing.assert_allclose(whole.mean, rows.astype(float).mean(0), rtol=1e-12)
    np.testing.assert_allclose(whole.covariance, np.cov(rows.astype(float), rowvar=False), rtol=1e-9)
    rest = whole.minus(MomentSums.empty(whole.origin).with_rows(rows[:200]))
    np.testing.assert_allclose(rest.covariance, np.cov(rows[200:].astype(float), rowvar=False), rtol=1e-8)
    with pytest.raises(ValueError, match="no vectors"):
        sum_moments([])
    with pytest.raises(ValueError, match="two vectors"):
        Gaussian.of(sum_moments([rows[:1]]))


def videos(count: int, rows: int, shift: float, identities: int = 100) -> list:
    random = np.random.default_rng(0)
    return [
        sample(
            f"v{i}",
            f"p{i % identities}",
            generated={"x": random.normal(shift, 1, (rows, 6))},
            ground_truth={"x": random.normal(0, 1, (rows, 6))},
        )
        for i in range(count)
    ]


def measured(samples: list, seed: int = 0) -> SetValue:
    return set_distance(samples, lambda s, role: s.features[role]["x"], seed, "frames")


def test_a_set_tells_its_size_floor_and_trend() -> None:
    value = measured(videos(16, 10, 1.0))
    everything = [
        np.concatenate([s.features[role]["x"] for s in videos(16, 10, 1.0)]) for role in ("generated", "ground_truth")
    ]
    assert value.value == pytest.approx(between(*everything), abs=1e-9)
    assert (value.extras["n_frames"], value.extras["n_ground_truth_frames"], value.coverage) == (160, 160, 1.0)
    assert [t["n"] for t in value.extras["trend"]] == [40, 80, 120, 160] and value.extras["trend"][-1][
        "value"
    ] == value.value
    assert 0 < value.extras["floor"]["value"] < value.value and value.extras["floor"]["n"] == 80
    assert "note" not in value.extras
    assert measured(videos(16, 10, 1.0)[::-1]).value == pytest.approx(value.value, abs=1e-9)
    assert measured(videos(16, 10, 1.0), seed=1).extras["floor"] != value.extras["floor"]


def test_the_limit_takes_the_bias_away() -> None:
    """Two sets of one distribution: every value is bias, which falls as 1 / N."""
    value = measured(videos(32, 10, 0.0))
    trend = [t["value"] for t in value.extras["trend"]]
    assert trend[0] > 2 * trend[-1] > 0
    assert abs(value.extras["limit"]) < 0.5 * value.value


def test_a_person_is_not_in_both_halves() -> None:
    """Two people, each alike in all videos: halves by person are far apart, halves by video are not."""
    samples = []
    for i in range(16):
        rows = np.random.default_rng(i).normal(10 * (i % 4), 0.1, (10, 6))
        samples.append(sample(f"v{i}", f"p{i % 4}", generated={"x": rows}, ground_truth={"x": rows}))
    assert measured(samples).extras["floor"]["value"] > 100
    one = [sample(s.name, "p", **s.features) for s in samples]  # fewer than four people: videos are drawn
    assert measured(one).extras["floor"]["value"] < measured(samples).extras["floor"]["value"]


def test_what_a_set_cannot_tell() -> None:
    few = measured(videos(1, 5, 0.0))
    assert (
        math.isfinite(few.value)
        and few.extras["floor"] is None
        and "trend" not in few.extras
        and "mostly bias" in few.extras["note"]
    )
    lone = measured(videos(1, 1, 0.0))
    assert math.isnan(lone.value) and "two frames" in lone.reason
    empty = measured(
        [*videos(3, 10, 0.0), sample("short", generated={"x": np.zeros((0, 6))}, ground_truth={"x": np.zeros((5, 6))})]
    )
    assert empty.coverage == 0.75 and empty.extras["n_ground_truth_frames"] == 30
    nothing = measured([sample("short", generated={"x": np.zeros((0, 6))}, ground_truth={"x": np.zeros((0, 6))})])
    assert math.isnan(nothing.value) and nothing.reason == "no video has frames"

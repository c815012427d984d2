"""Slow noise, from which heads and hands move as a whole."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from cyberhost_model.conditions.movement import moving_parts
from cyberhost_model.config import preset
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.sampler.noise import (
    MAX_MOVEMENT_SCALE,
    SlowNoise,
    SlowNoises,
    movement_scale,
    slow_share,
    train_slow_noise,
)
from model_helpers import MINI


def clips(count, frames=12, cells=(16, 16), seed=0, channels=2):
    """Slow noise of consecutive clips of a video, (count * frames, channels, h, w)."""
    share = torch.ones(1, 1, 1, *cells)
    made = itertools.islice(SlowNoises(share, channels, frames, torch.Generator().manual_seed(seed)), count)
    return torch.cat([slow_noise.path[0] for slow_noise in made])


def correlation(first, second):
    """Correlation of stationary noise of mean 0."""
    return ((first * second).mean() / (first.square().mean() * second.square().mean()).sqrt()).item()


def test_the_first_clip_is_as_strong_as_noise_also_at_the_edges():
    noise = torch.stack([clips(1, seed=seed, channels=8) for seed in range(40)])
    assert noise.std((0, 1, 2)).sub(1).abs().max() < 0.15  # every cell
    assert noise.std((0, 2, 3, 4)).sub(1).abs().max() < 0.1  # every frame


def test_it_is_smooth_over_time_and_over_cells():
    path = clips(1, frames=400)
    assert correlation(path[1:], path[:-1]) > 0.99 and correlation(path[4:], path[:-4]) == pytest.approx(
        np.exp(-(4**2) / (4 * 8**2)), abs=0.03
    )
    assert correlation(path[..., 1:], path[..., :-1]) > 0.95 and abs(correlation(path[..., 12:], path[..., :-12])) < 0.2
    assert abs(correlation(path[:, 0], path[:, 1])) < 0.2  # horizontal and vertical movement are independent


def test_a_later_clip_starts_from_where_the_previous_one_ended():
    noise = torch.stack([clips(2, seed=seed, channels=8) for seed in range(40)])
    later = noise[:, 12:].std((0, 2, 3, 4))
    expected = [(1 - np.exp(-(k**2) / (2 * 8**2))) ** 0.5 for k in (1, 4, 12)]  # of a smooth path with a known frame
    assert later[[0, 3, 11]].tolist() == pytest.approx(expected, abs=0.06)
    assert abs(correlation(noise[:, 11], noise[:, 12])) < 0.15


def test_a_seed_gives_the_same_path():
    assert torch.equal(clips(3), clips(3)) and not torch.equal(clips(3), clips(3, seed=1))
    assert torch.equal(clips(3)[:24], clips(2))


def test_noise_keeps_its_deviation_and_changes_only_where_parts_move():
    generator = torch.Generator().manual_seed(3)
    share = torch.zeros(1, 1, 1, 4, 4)
    share[..., :2, :] = 0.3
    path = torch.randn(1, 4000, 2, 4, 4, generator=generator)
    noise = torch.randn(1, 4000, 5, 4, 4, generator=generator)
    made = SlowNoise(path, share).mix_into(noise)
    assert torch.equal(made[:, :, 2:], noise[:, :, 2:]) and torch.equal(made[..., 2:, :], noise[..., 2:, :])
    assert made.std((0, 1)).sub(1).abs().max() < 0.06
    assert correlation(made[:, :, :2, :2], path[..., :2, :]) == pytest.approx(0.3**0.5, abs=0.02)


def test_training_noise_has_the_slow_part_that_sampling_has():
    generator, share = torch.Generator().manual_seed(4), torch.zeros(400, 6, 6)
    share[..., :3] = 0.5
    continues = torch.arange(400) % 2 == 0
    noise = torch.randn(400, 12, 4, 6, 6, generator=generator)
    made = train_slow_noise(noise, share, 2, continues, generator)
    assert torch.equal(made[:, :, 2:], noise[:, :, 2:]) and torch.equal(made[..., 3:], noise[..., 3:])
    slow = (made - 0.5**0.5 * noise)[:, :, :2, :, :3] / 0.5**0.5  # what was mixed in
    first, later = slow[~continues], slow[continues]
    assert first.std().item() == pytest.approx(1, abs=0.06)
    assert correlation(first[:, 4:], first[:, :-4]) == pytest.approx(np.exp(-(4**2) / (4 * 8**2)), abs=0.03)
    expected = [(1 - np.exp(-(k**2) / (2 * 8**2))) ** 0.5 for k in (1, 4, 12)]
    assert later.std((0, 2, 3, 4))[[0, 3, 11]].tolist() == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(
    ("asks", "own", "most"),
    [(lambda x: movement_scale(x, usual=0.1), 1, MAX_MOVEMENT_SCALE), (lambda x: slow_share(x, 0.1, 0.15), 0.15, 0.95)],
    ids=["gestures", "slow noise"],
)
def test_movement_rises_from_none_over_the_usual_to_the_most(asks, own, most):
    asked = [asks(amount) for amount in (-1, 0, 0.05, 0.1, 0.5, 1, 2)]
    assert asked == sorted(asked) and asked[1:4] == pytest.approx([0, own / 2, own]) and asked[-1] == most


def test_parts_move_where_key_points_are_visible():
    points = Keypoints.empty()
    assert not moving_parts(points, (8, 12)).any()
    points.body[0], points.body_score[0] = (0.25, 0.5), 1.0  # 3 cells from the left, 4 from the top
    points.hands[0, 0], points.hands_score[0, 0] = (0.9, 0.9), 0.1  # hardly visible
    parts = moving_parts(points, (8, 12))
    assert parts.dtype == np.float32 and parts.shape == (8, 12)
    assert parts[3:5, 2:4] == pytest.approx(np.exp(-0.5 / (2 * 1.06**2))) and parts[3, 2] == parts.max()
    assert parts[0, 11] < 1e-6 and parts[7, 10] < 0.02


@pytest.mark.parametrize("name", ["slow_noise", "slow_noise_correlation"])
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_impossible_shares(name, value):
    with pytest.raises(ValueError, match=f"sampling.{name} must be at least 0 and below 1"):
        dataclasses.replace(MINI.sampling, **{name: value})


def test_slow_noise_needs_latents_with_flow_channels():
    paper = preset("sd15")
    with pytest.raises(ValueError, match='slow_noise needs codec "reference"'):
        dataclasses.replace(paper, sampling=dataclasses.replace(paper.sampling, slow_noise=0.2))

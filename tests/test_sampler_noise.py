"""Noise of frames that follow each other."""

import dataclasses

import pytest
import torch

from cyberhost_model.sampler.noise import LIVELIEST, correlated, lively
from model_helpers import MINI


def test_noise_is_as_strong_and_as_alike_as_asked():
    noise = torch.randn(4, 40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert correlated(noise, 0.0) is noise
    made = correlated(noise, 0.6)
    assert torch.equal(made[:, 0], noise[:, 0])
    apart = correlated(noise, 0.6, cues=1)
    assert torch.equal(apart[:, :, :2], made[:, :, :2]) and torch.equal(apart[:, :, 2:], noise[:, :, 2:])
    assert made.std((0, 2, 3, 4)).sub(1).abs().max() < 0.05  # every frame
    for lag in (1, 2, 3):
        assert (made[:, lag:] * made[:, :-lag]).mean().item() == pytest.approx(0.6**lag, abs=0.02)


@pytest.mark.parametrize("correlation", [-0.1, 1.0])
def test_impossible_correlations(correlation):
    with pytest.raises(ValueError, match="noise_correlation must be at least 0 and below 1"):
        dataclasses.replace(MINI.diffusion, noise_correlation=correlation)


def test_movement_asks_for_more_or_less_correlation():
    asked = [lively(0.3, amount, usual=0.1) for amount in (-1, 0, 0.05, 0.1, 0.5, 1, 2)]
    assert asked == sorted(asked) and asked[1:4] == pytest.approx([0, 0.15, 0.3]) and asked[-1] == LIVELIEST
    assert {lively(0.0, amount, usual=0.1) for amount in (0, 0.1, 1)} == {0.0}  # the paper's noise stays independent

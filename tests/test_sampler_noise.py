"""Noise of frames that follow each other."""

import dataclasses

import pytest
import torch

from cyberhost_model.sampler.noise import progressive_noise, smooth_noise
from model_helpers import MINI


def test_noise_is_as_strong_and_as_alike_as_asked():
    noise = torch.randn(4, 40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert progressive_noise(noise, 0.0) is noise
    made = progressive_noise(noise, 0.6)
    assert torch.equal(made[:, 0], noise[:, 0])
    apart = progressive_noise(noise, 0.6, control_channels=1)
    assert torch.equal(apart[:, :, :2], made[:, :, :2]) and torch.equal(apart[:, :, 2:], noise[:, :, 2:])
    assert made.std((0, 2, 3, 4)).sub(1).abs().max() < 0.05  # every frame
    for lag in (1, 2, 3):
        assert (made[:, lag:] * made[:, :-lag]).mean().item() == pytest.approx(0.6**lag, abs=0.02)


def smooth(correlation, frames=40, **options):
    return smooth_noise((4, frames, 3, 16, 16), correlation, generator=torch.Generator().manual_seed(0), **options)


@pytest.mark.parametrize("correlation", [0.7, 0.8])
def test_sampling_noise_is_as_strong_and_as_alike_and_smoother(correlation):
    made = smooth(correlation)
    assert made.std((0, 2, 3, 4)).sub(1).abs().max() < 0.06  # every frame, the first ones too
    assert (made[:, 1:] * made[:, :-1]).mean().item() == pytest.approx(correlation, abs=0.03)
    path = progressive_noise(torch.randn(made.shape, generator=torch.Generator().manual_seed(1)), correlation)

    def turns(noise):
        """How much the way from frame to frame changes."""
        return (noise[:, 2:] - 2 * noise[:, 1:-1] + noise[:, :-2]).square().mean().item()

    assert turns(made) < 0.75 * turns(path)


def test_sampling_noise_that_follows_a_clip_sets_out_from_nothing():
    free, both = smooth(0.8), smooth(0.8, continues=(True, False, False, True), control_channels=1)
    torch.testing.assert_close(both[1:3, :, :2], free[1:3, :, :2])  # the others are as they were
    deviation = both[[0, 3], :, :2].std((0, 2, 3, 4))
    expected = [(1 - 0.8 ** (2 * k**2)) ** 0.5 for k in range(1, 7)]  # of a Gaussian path with a known frame
    assert deviation[:6].tolist() == pytest.approx(expected, abs=0.04)
    assert both[:, :, 2:].std((0, 2, 3, 4)).sub(1).abs().max() < 0.1  # controls follow nothing
    assert (both[:, 1:, 2:] * both[:, :-1, 2:]).mean().abs() < 0.02


def test_sampling_noise_without_correlation_is_the_generators():
    assert torch.equal(
        smooth(0.0, continues=(True,) * 4), torch.randn(4, 40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    )


@pytest.mark.parametrize("correlation", [-0.1, 1.0])
def test_impossible_correlations(correlation):
    with pytest.raises(ValueError, match="noise_correlation must be at least 0 and below 1"):
        dataclasses.replace(MINI.diffusion, noise_correlation=correlation)

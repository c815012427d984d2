"""A sampler from outside the package, registered by one call: a clip is made with it, and its limits are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cyberhost_model.config import DiffusionConfig, SamplingConfig
from cyberhost_model.errors import ModelError
from cyberhost_model.model.checkpoint import load_network, save_network
from cyberhost_model.sampler.denoise import denoise_clip
from cyberhost_model.sampler.schedule import SAMPLERS, Sampler, Schedule, register_sampler, solver_step
from model_helpers import MINI, make_network, noisy_clip, raw_conditions


class Quadratic:
    """First-order steps that grow shorter towards the picture."""

    def __init__(self, config: DiffusionConfig, sampling: SamplingConfig, steps: int) -> None:
        self.config = config
        self.timesteps = torch.from_numpy(999 * np.linspace(1, 0, steps, endpoint=False) ** 2).float()

    def step(self, prediction: Tensor, timestep: Tensor, noisy: Tensor, noise: Callable[[], Tensor] | None) -> Tensor:
        """Go to the next of the times, and from the last one to no noise."""
        nearer = torch.cat([self.timesteps[self.timesteps < timestep], torch.zeros(1)])[:1]
        return solver_step(self.config, prediction, noisy, timestep.view(1), nearer)


@pytest.fixture
def registered() -> Iterator[None]:
    """The sampler, registered for one test."""
    register_sampler("outside-quadratic", Sampler(Quadratic, ("flow", "x0"), max_steps=100))
    yield
    del SAMPLERS["outside-quadratic"]


@pytest.mark.parametrize("prediction", ["flow", "x0"])
def test_it_ends_where_the_network_says(registered: None, prediction: str) -> None:
    schedule = Schedule(DiffusionConfig(prediction=prediction), SamplingConfig(sampler="outside-quadratic", steps=4))
    assert schedule.timesteps.tolist() == pytest.approx([999, 999 * 9 / 16, 999 / 4, 999 / 16])
    clean, z = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 4, 4, 4)
    for timestep in schedule.timesteps:
        z = schedule.step(clean if prediction == "x0" else (z - clean) * (1000 / timestep), timestep, z)
    torch.testing.assert_close(z, clean, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_model_is_sampled_with_it(registered: None, tmp_path: Path) -> None:
    """The name is kept in config.json; a clip is made with it, and by its name with any other model."""
    own = dataclasses.replace(MINI, sampling=dataclasses.replace(MINI.sampling, sampler="outside-quadratic"))
    save_network(make_network(own), tmp_path, torch.float32)
    network = load_network(tmp_path)
    assert network.preset.sampling.sampler == "outside-quadratic"
    conditions, shape = network.conditions(**raw_conditions()), noisy_clip()[0].shape
    made = [
        denoise_clip(some, conditions, shape, sampler=sampler, generator=torch.Generator().manual_seed(0))
        for some, sampler in ((network, None), (make_network(), "outside-quadratic"), (network, "flow"))
    ]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_its_limits_are_kept(registered: None) -> None:
    sampling = SamplingConfig(sampler="outside-quadratic", steps=4)
    with pytest.raises(
        ModelError, match="'outside-quadratic' cannot use this model's 'v' prediction; choose one of ddim"
    ):
        Schedule(DiffusionConfig(prediction="v"), sampling)
    with pytest.raises(ModelError, match="between 1 and 100 with sampler 'outside-quadratic', not 101"):
        Schedule(DiffusionConfig(prediction="x0"), sampling, steps=101)
    with pytest.raises(ValueError, match="a sampler 'outside-quadratic' already"):
        register_sampler("outside-quadratic", Sampler(Quadratic))


def test_without_being_registered_it_is_unknown() -> None:
    with pytest.raises(ModelError, match="there is no sampler 'outside-quadratic'; choose one of ddim, dpm"):
        Schedule(DiffusionConfig(prediction="x0"), SamplingConfig(sampler="outside-quadratic", steps=4))

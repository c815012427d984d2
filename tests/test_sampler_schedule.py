"""Samplers against an oracle, and the arithmetic of training targets."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler

from cyberhost_model.config import DiffusionConfig, SamplingConfig
from cyberhost_model.errors import ModelError
from cyberhost_model.sampler.schedule import (
    SAMPLERS,
    Schedule,
    add_noise,
    alphas_cumprod,
    consistent_latent,
    predicted_latent,
    solver_step,
    training_target,
)

PAIRS = [(sampler, prediction) for sampler, entry in SAMPLERS.items() for prediction in entry.predictions]


def config(prediction: str, **changes) -> DiffusionConfig:
    return DiffusionConfig(prediction=prediction, **changes)


SAMPLING = SamplingConfig(sampler="dpm++", steps=8)


def oracle(
    diffusion: DiffusionConfig, clean: torch.Tensor, noisy: torch.Tensor, timestep: torch.Tensor
) -> torch.Tensor:
    """The prediction of a network that knows the clean latent."""
    t = timestep.expand(len(clean)).float()
    level = add_noise(diffusion, torch.zeros_like(clean), torch.ones_like(clean), t)  # s(t)
    noise = (noisy - add_noise(diffusion, clean, torch.zeros_like(clean), t)) / level
    return training_target(diffusion, clean, noise, t)


@pytest.mark.parametrize(("sampler", "prediction"), PAIRS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_samplers_recover_the_latent(sampler, prediction, steps):
    torch.manual_seed(0)
    diffusion = config(prediction)
    clean, z = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 4, 4, 4)
    schedule = Schedule(diffusion, SAMPLING, sampler, steps)
    assert len(schedule.timesteps) == steps
    assert (schedule.timesteps.diff() < 0).all() and 990 <= schedule.timesteps[0] <= 1000
    for timestep in schedule.timesteps:
        z = schedule.step(oracle(diffusion, clean, z, timestep), timestep, z)
    if sampler == "diffusers-ddim" and steps == 7:  # its last step does not end at 0
        assert 0.01 < float((z - clean).std()) < 0.05
    else:
        torch.testing.assert_close(z, clean, rtol=5e-3, atol=5e-3)  # DPM rounds t


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_ddim_is_diffusers_ddim(prediction):
    diffusion = config(prediction)
    theirs = DDIMScheduler(
        beta_start=diffusion.beta_start,
        beta_end=diffusion.beta_end,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type={"epsilon": "epsilon", "v": "v_prediction"}[prediction],
        timestep_spacing="trailing",
    )
    theirs.set_timesteps(10)
    ours = Schedule(diffusion, SAMPLING, "ddim", 10)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    torch.manual_seed(0)
    a = b = torch.randn(1, 2, 4, 4, 4)
    for timestep in ours.timesteps:
        prediction_a, prediction_b = torch.tanh(a), torch.tanh(b)  # any network
        a = ours.step(prediction_a, timestep, a)
        b = theirs.step(prediction_b, timestep, b).prev_sample
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_zero_terminal_snr_begins_at_pure_noise():
    diffusion = config("v", zero_terminal_snr=True)
    assert alphas_cumprod(diffusion)[-1] < 1e-6 < alphas_cumprod(config("v"))[-1]
    clean, z = torch.randn(1, 2, 4, 4, 4), torch.randn(1, 2, 4, 4, 4)
    schedule = Schedule(diffusion, SAMPLING, "ddim", 5)
    for timestep in schedule.timesteps:
        z = schedule.step(oracle(diffusion, clean, z, timestep), timestep, z)
    torch.testing.assert_close(z, clean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
def test_targets_and_latents_are_inverse(prediction):
    diffusion = config(prediction)
    z, noise = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    timestep = torch.tensor([10, 500, 900])
    noisy, target = add_noise(diffusion, z, noise, timestep), training_target(diffusion, z, noise, timestep)
    torch.testing.assert_close(predicted_latent(diffusion, target, noisy, timestep), z, rtol=1e-3, atol=1e-4)
    expected = {"epsilon": noise, "flow": noise - z}
    if prediction in expected:
        torch.testing.assert_close(target, expected[prediction])
    if prediction == "flow":
        t = (timestep / 1000)[:, None, None]
        torch.testing.assert_close(noisy, (1 - t) * z + t * noise)
    else:
        signal = alphas_cumprod(diffusion)[timestep][:, None, None]
        torch.testing.assert_close(noisy, signal.sqrt() * z + (1 - signal).sqrt() * noise)


def test_flow_steps_are_even_and_end_at_zero():
    assert Schedule(config("flow"), SAMPLING, "flow", 4).timesteps.tolist() == pytest.approx([1000, 750, 500, 250])


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow", "x0"])
def test_few_steps_are_on_the_grid_and_the_last_is_the_latent_itself(prediction):
    diffusion = config(prediction)
    schedule, z, output = (
        Schedule(diffusion, SAMPLING, "lcm", 4),
        torch.randn(2, 3, 4, 4, 4),
        torch.randn(2, 3, 4, 4, 4),
    )
    straight = prediction in ("flow", "x0")
    assert schedule.timesteps.tolist() == pytest.approx([1000, 750, 500, 250] if straight else [999, 759, 499, 259])
    for timestep in schedule.timesteps:
        latent = consistent_latent(diffusion, output, z, timestep.expand(2))
        fresh = torch.randn_like(z)
        z = schedule.step(output, timestep, z, lambda fresh=fresh: fresh)
        assert torch.isclose(z, latent, atol=1e-5).all() == (timestep == schedule.timesteps[-1])
        later = schedule.timesteps[schedule.timesteps < timestep]
        if len(later):
            torch.testing.assert_close(z, add_noise(diffusion, latent, fresh, later[:1]))


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow", "x0"])
def test_a_latent_without_noise_is_left_as_it_is(prediction):
    diffusion, noisy, output = config(prediction), torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert torch.equal(consistent_latent(diffusion, output, noisy, torch.zeros(2)), noisy)
    for t in (1, 20, 999):
        skip, out = LCMScheduler().get_scalings_for_boundary_condition_discrete(t)
        timestep = torch.full((2,), t)
        expected = skip * noisy + out * predicted_latent(diffusion, output, noisy, timestep)
        torch.testing.assert_close(consistent_latent(diffusion, output, noisy, timestep), expected)


@pytest.mark.parametrize(
    ("prediction", "sampler"), [("epsilon", "ddim"), ("v", "ddim"), ("flow", "flow"), ("x0", "flow")]
)
def test_the_solver_steps_as_the_sampler_does(prediction, sampler):
    diffusion, z = config(prediction), torch.randn(2, 3, 4)
    schedule = Schedule(diffusion, SAMPLING, sampler, 50)
    for timestep, nearer in list(zip(schedule.timesteps, schedule.timesteps[1:], strict=False))[:3]:
        output = torch.tanh(z)
        stepped = solver_step(diffusion, output, z, timestep.expand(2), nearer.expand(2))
        z = schedule.step(output, timestep, z)
        torch.testing.assert_close(stepped, z, rtol=1e-3, atol=1e-3)


def test_flow_shift_stays_longer_in_noise():
    plain, shifted = (
        Schedule(config("flow"), dataclasses.replace(SAMPLING, flow_shift=shift), "flow", 4).timesteps
        for shift in (1.0, 3.0)
    )
    assert (shifted[1:] > plain[1:]).all()


def test_defaults_come_from_the_checkpoint():
    assert len(Schedule(config("v"), SAMPLING).timesteps) == 8
    assert len(Schedule(config("flow"), SamplingConfig(sampler="flow", steps=3)).timesteps) == 3


@pytest.mark.parametrize(
    ("prediction", "sampler", "steps", "message"),
    [
        ("flow", "euler", 4, "choose one of ddim, dpm\\+\\+, flow"),
        ("epsilon", "flow", 4, "choose one of ddim, dpm\\+\\+"),
        ("epsilon", "ddim", 0, "between 1 and 1000"),
        ("epsilon", "ddim", 1001, "between 1 and 1000"),
        ("epsilon", "lcm", 51, "between 1 and 50"),
        ("x0", "lcm", 51, "between 1 and 50"),
    ],
)
def test_impossible_requests(prediction, sampler, steps, message):
    with pytest.raises(ModelError, match=message):
        Schedule(config(prediction), SAMPLING, sampler, steps)


@pytest.mark.parametrize(("sampler", "prediction"), PAIRS)
def test_times_stay_on_the_cpu_and_latents_where_they_are(sampler, prediction):
    """On the meta device, which refuses the CPU's numbers as a GPU does; a scalar of the CPU is taken by both."""
    schedule, z = Schedule(config(prediction), SAMPLING, sampler, 4), torch.empty(2, 3, 4, 4, 4, device="meta")
    for timestep in schedule.timesteps:
        z = schedule.step(torch.empty_like(z), timestep, z, lambda: torch.empty(2, 3, 4, 4, 4))
    assert z.device.type == "meta" and schedule.timesteps.device.type == "cpu"

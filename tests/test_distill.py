"""Consistency distillation on the smallest network and random clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cyberhost_model.config import preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.loop import train
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.lab.training.stages.distill import DistillStage, DistillStageConfig, distilled_preset
from cyberhost_model.sampler.denoise import denoise_clip
from cyberhost_model.sampler.guidance import Guidance, GuidedConditions
from cyberhost_model.sampler.schedule import predicted_latent
from model_helpers import make_network, raw_conditions
from training_helpers import SMALL, RandomClips

STRAIGHT = dataclasses.replace(
    SMALL, sampling=dataclasses.replace(SMALL.sampling, guidance_reference=1.0, guidance_audio=1.0)
)
DDPM = dataclasses.replace(
    SMALL,
    diffusion=dataclasses.replace(SMALL.diffusion, prediction="epsilon"),
    sampling=dataclasses.replace(SMALL.sampling, sampler="ddim"),
)
"""With the paper's guidance scales."""


class RandomDistillation(DistillStage):
    """On `RandomClips`."""

    def __init__(self, preset=STRAIGHT, **settings) -> None:
        super().__init__(
            Path(),
            make_network(preset).train(),
            DistillStageConfig("distill", batch=1, frames=preset.frames, **settings),
        )

    def dataset(self, seed: int) -> RandomClips:
        return RandomClips(seed, False, self.preset)


def _config(**changes) -> LoopConfig:
    return LoopConfig(**{"steps": 6, "lr": 1e-3, "warmup": 0, "workers": 0, "ema": 0.9, "save_seconds": 1e9, **changes})


@pytest.mark.parametrize(
    "preset", [STRAIGHT, DDPM, dataclasses.replace(DDPM, diffusion=dataclasses.replace(DDPM.diffusion, prediction="v"))]
)
def test_on_a_grid_of_one_point_the_student_learns_the_guided_teacher_s_latent(preset):
    """The step ends without noise, where the boundary condition says what the average says."""
    stage = RandomDistillation(preset, points=1, alpha=0.0, huber=1e-6, motion=1.0)
    with torch.no_grad():
        for parameter in stage.module.denoising_unet.parameters():
            parameter.mul_(1.1)
    batch = stage.dataset(0)[0]
    seen = {}
    stage.module.denoising_unet.register_forward_hook(
        lambda _, given, out: seen.update(last=(given[:3], out.prediction.detach()))
    )
    found = stage.loss(batch, torch.Generator().manual_seed(0))["distance"]
    (noisy, t, given), said = seen["last"]  # after the average's
    diffusion = preset.diffusion
    taught = GuidedConditions(
        given, Guidance(preset.sampling.guidance_reference, preset.sampling.guidance_audio)
    ).predict(stage.teacher, noisy, t)
    assert noisy.shape == batch["z"].shape and t.item() in (999.0, 1000.0)
    ours, theirs = (predicted_latent(diffusion, prediction, noisy, t) for prediction in (said, taught))
    assert found.item() == pytest.approx((ours - theirs).abs().mean().item(), rel=0.05)


@pytest.mark.parametrize("preset", [STRAIGHT, DDPM])
def test_one_clip_with_one_noise_is_learnt_and_the_teacher_stays(preset, tmp_path):
    stage = RandomDistillation(preset, points=4)
    before = {name: value.clone() for name, value in stage.module.state_dict().items()}
    batch, loss = stage.dataset(0)[0], stage.loss
    stage.dataset = lambda seed: [batch] * 100
    stage.loss = lambda batch, generator: loss(batch, torch.Generator().manual_seed(3))
    first = stage.loss(batch, None)["loss"].item()
    train(stage, tmp_path, _config(steps=15, lr=4e-4, decay=8))
    assert stage.loss(batch, None)["loss"].item() < 0.7 * first
    after = stage.module.state_dict()
    assert {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])} == {
        "denoising_unet"
    }
    assert all(
        torch.equal(value, before[f"denoising_unet.{name}"]) for name, value in stage.teacher.state_dict().items()
    )


def test_targets_are_the_average_s():
    stage = RandomDistillation()
    batch, generator = stage.dataset(0)[0], lambda: torch.Generator().manual_seed(2)
    own = stage.loss(batch, generator())["loss"]
    average = {name: value.clone() for name, value in stage.module.state_dict().items()}
    stage.follow(average)
    torch.testing.assert_close(stage.loss(batch, generator())["loss"], own, rtol=1e-4, atol=0)
    average["denoising_unet.unet.conv_out.bias"] += 1  # as the loop does: in place
    loss = stage.loss(batch, generator())["loss"]
    assert loss > own + 0.1
    loss.backward()
    assert all(parameter.grad is None for parameter in stage.teacher.parameters())


def test_what_every_frame_is_off_by_is_no_movement_and_pure_noise_has_no_truth():
    stage = RandomDistillation(points=1, movement=1.0, truth=1.0)
    batch, generator = stage.dataset(0)[0], lambda: torch.Generator().manual_seed(2)
    with torch.no_grad():
        stage.module.denoising_unet.unet.conv_out.bias += 0.5
    terms, _ = stage.distances(batch, generator())
    assert terms["target"] > 0.4 and terms["movement"] < 0.01 and terms["truth"] == 0
    stage.grid = torch.tensor([0.0, 500.0])
    assert stage.distances(batch, generator())[0]["truth"] > 0.1
    assert set(stage.gradient_shares(batch, generator())) == {"share_target", "share_movement", "share_truth"}


def test_bodies_without_key_points_learn_from_the_slow_noise_they_are_sampled_from():
    stage, generator = RandomDistillation(), lambda: torch.Generator().manual_seed(2)
    sampling = dataclasses.replace(stage.module.preset.sampling, slow_noise=0.9, slow_noise_correlation=0.1)
    stage.module.preset = dataclasses.replace(preset("tiny"), sampling=sampling)
    z = torch.zeros(1, 12, preset("tiny").latent_channels, 8, 8)
    still, moved = (
        stage.sampling_noise(z, {"moving": torch.full((1, 8, 8), value)}, [False], generator()) for value in (0.0, 1.0)
    )
    beside = [
        (noise[..., 1:] * noise[..., :-1])[:, :, : preset("tiny").flow_channels].mean() for noise in (still, moved)
    ]
    assert abs(beside[0]) < 0.1 and beside[1] > 0.5  # neighbouring cells


def test_a_stopped_distillation_goes_on_bit_for_bit(tmp_path):
    whole = train(RandomDistillation(), tmp_path / "whole", _config(steps=2))
    train(RandomDistillation(), tmp_path / "parts", _config(steps=1))
    again = train(RandomDistillation(), tmp_path / "parts", _config(steps=2))
    for name in ("model", "ema", "optimizer"):
        a, b = load_file(whole / f"{name}.safetensors"), load_file(again / f"{name}.safetensors")
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@torch.no_grad()
def test_what_is_distilled_samples_in_few_steps_without_guidance():
    stage = RandomDistillation(DDPM, sampling_steps=2)
    told, calls = stage.module.preset.sampling, []
    assert (told.sampler, told.steps, told.guidance_reference, told.guidance_audio) == ("lcm", 2, 1.0, 1.0)
    assert told.noise_correlation == DDPM.diffusion.noise_correlation
    assert RandomDistillation(DDPM, sampling_correlation=0.8).module.preset.sampling.noise_correlation == 0.8
    assert distilled_preset(preset("tiny"), 2, 0.8).sampling.slow_noise == preset("tiny").sampling.slow_noise
    assert stage.guidance == Guidance(DDPM.sampling.guidance_reference, DDPM.sampling.guidance_audio)
    raw = raw_conditions(SMALL, batch=1) | {"face": torch.randn(1, 512)}
    network, shape = stage.module.eval(), (1, SMALL.frames, SMALL.latent_channels, 4, 4)
    network.denoising_unet.register_forward_hook(lambda _, given, out: calls.append(len(given[0])))
    clips = [
        denoise_clip(network, network.conditions(**raw), shape, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert calls == [1] * 6 and torch.equal(clips[0], clips[1]) and not torch.equal(clips[0], clips[2])


def test_a_distilled_network_is_no_teacher():
    once = RandomDistillation()
    with pytest.raises(TrainingError, match="not distilled itself"):
        DistillStage(Path(), once.module, DistillStageConfig("distill"))

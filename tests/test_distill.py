"""Distillation to few steps, on the smallest network and random clips."""

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
from cyberhost_model.lab.training.stages.distill import (
    DistillStage,
    DistillStageConfig,
    distilled_preset,
    move_controls,
)
from cyberhost_model.sampler.denoise import denoise_clip
from cyberhost_model.sampler.guidance import Guidance
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


@pytest.mark.parametrize("preset", [STRAIGHT, DDPM])
def test_the_teacher_s_clip_is_what_the_sampler_makes_of_the_same_noise(preset, monkeypatch):
    """With its own steps and its guidance, of which the student's preset has neither."""
    preset = dataclasses.replace(preset, sampling=dataclasses.replace(preset.sampling, steps=3))
    stage = RandomDistillation(preset, sampling_steps=1)
    network, raw = stage.module.eval(), raw_conditions(preset, batch=1) | {"face": torch.randn(1, 512)}
    noise = torch.randn(1, preset.frames, preset.latent_channels, 4, 4)
    monkeypatch.setattr("cyberhost_model.sampler.denoise.smooth_noise", lambda *given: noise)
    guidance = Guidance(preset.sampling.guidance_reference, preset.sampling.guidance_audio)
    with torch.no_grad():
        given = network.conditions(**raw)
        made = denoise_clip(network, given, tuple(noise.shape), steps=3, guidance=guidance)
        torch.testing.assert_close(stage.teach(given, noise), made, rtol=1e-4, atol=1e-4)
        other = denoise_clip(network, given, tuple(noise.shape), steps=1, guidance=guidance)
    assert (other - made).abs().max() > 1e-3


def test_a_student_of_as_many_steps_is_as_far_as_its_weights_from_the_teacher():
    """Equal weights are at no distance; those of one step are, though they are equal."""
    steps = STRAIGHT.sampling.steps
    noise = lambda: torch.Generator().manual_seed(2)  # noqa: E731
    same = RandomDistillation(sampling_steps=steps, first=0.0)
    batch = same.dataset(0)[0]
    same.module.eval(), same.teacher.eval()
    assert same.distances(batch, noise())[1] < 1e-5
    one = RandomDistillation(sampling_steps=1, movement=1.0)
    one.module.eval(), one.teacher.eval()
    terms, distance = one.distances(batch, noise())
    assert distance > 1e-3 and set(terms) == {"target", "movement"}
    with torch.no_grad():
        same.module.denoising_unet.unet.conv_out.bias += 0.5
    assert same.distances(batch, noise())[1] > 0.1


@pytest.mark.parametrize("preset", [STRAIGHT, DDPM])
def test_one_clip_with_one_noise_is_learnt_and_the_teacher_stays(preset, tmp_path):
    stage = RandomDistillation(preset)
    before = {name: value.clone() for name, value in stage.module.state_dict().items()}
    with torch.no_grad():
        for parameter in stage.module.denoising_unet.parameters():
            parameter.mul_(1.1)
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


def test_what_the_conditions_decide_is_learnt_from_the_clip_itself():
    """The control channels, and all of a clip that a whole skeleton drives; the rest is the teacher's."""
    stage = RandomDistillation(truth=True)
    stage.module.eval()
    batch, controls = stage.dataset(0)[0], stage.module.preset.control_channels
    given = stage.module.conditions(**raw_conditions(STRAIGHT, batch=1) | {"face": torch.randn(1, 512)})
    noise = torch.randn(batch["z"].shape)
    with torch.no_grad():
        taught, target = stage.teach(given, noise), stage.target(batch, given, noise)
        driven = stage.target({**batch, "driven": torch.tensor([True])}, given, noise)
    body = slice(None, -controls)
    torch.testing.assert_close(target[:, :, body], taught[:, :, body])
    moved = move_controls(batch["z"][:, :, -controls:], batch["r"][:, -controls:])
    torch.testing.assert_close(target[:, :, -controls:], moved)
    assert torch.equal(driven, batch["z"]) and (driven - target).abs().max() > 0.1


def test_controls_move_to_the_picture_s_mouth_as_high_as_they_are():
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    bell = lambda cx, cy: torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2)  # noqa: E731
    heights = torch.tensor([0.0, 1.5, -0.7])
    controls = (heights[:, None, None] * bell(5, 6))[None, :, None]  # three frames of one control
    there = bell(9, 8)[None, None]
    moved = move_controls(controls, there)
    torch.testing.assert_close(moved[0, :, 0], heights[:, None, None] * bell(9, 8), atol=1e-3, rtol=1e-3)
    assert torch.equal(move_controls(controls, there * 0), controls)  # a picture without a face


def test_what_every_frame_is_off_by_is_no_movement():
    steps = STRAIGHT.sampling.steps
    stage = RandomDistillation(sampling_steps=steps, movement=1.0)
    stage.module.eval(), stage.teacher.eval()
    batch, generator = stage.dataset(0)[0], lambda: torch.Generator().manual_seed(2)
    with torch.no_grad():
        stage.module.denoising_unet.unet.conv_out.bias += 0.5
    terms, _ = stage.distances(batch, generator())
    assert terms["target"] > 0.2 and terms["movement"] < 0.3 * terms["target"]
    assert set(stage.gradient_shares(batch, generator())) == {"share_target", "share_first", "share_movement"}


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
    assert (told.sampler, told.steps, told.guidance_reference, told.guidance_audio) == ("ddim", 2, 1.0, 1.0)
    assert (
        told.distilled and distilled_preset(preset("tiny"), 2).sampling.slow_noise == preset("tiny").sampling.slow_noise
    )
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

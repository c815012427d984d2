"""Stage distill: a trained network learns to make the clip of its many steps in few.

Teacher and student begin with the same noise. The teacher takes its steps, under its guidance; the student takes its
own few, and what it predicts at each is compared with the clip that the teacher ends with. So the student learns where
a noise leads and no mean of clips: the pairs of noise and clip are those of rectified flow (Liu et al., arXiv
2209.03003), the student's own states those that it will be in. The term of the movement is an idea of FADA (arXiv
2412.16915), whose student learns beside a teacher too. What the conditions decide may be learnt from the training clip
itself (`truth`): there one noise leads where all do, and a teacher only adds its errors.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cyberhost_model.config import Preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.clips import ClipFolders, find_clips
from cyberhost_model.lab.training.init import build_network, freeze, load_weights, preset_of_weights
from cyberhost_model.lab.training.losses import critical_region_weight, lip_weight, pseudo_huber, shares_of
from cyberhost_model.lab.training.registry import NETWORK_SETTINGS, StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.lab.training.stages.clip import ClipStage, ClipStageConfig
from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.sampler.denoise import denoise_clip
from cyberhost_model.sampler.guidance import Guidance
from cyberhost_model.sampler.noise import hide_controls, smooth_noise, train_slow_noise
from cyberhost_model.sampler.schedule import Schedule, predicted_latent

TRAINED = "denoising_unet."


@dataclass
class DistillStageConfig(ClipStageConfig):
    """Settings of stage 2, except that motion frames alone are dropped: a video's first clip has none."""

    name: str = "distill"
    drop_audio: float = 0.0
    drop_reference: float = 0.0
    huber: float = 1e-3
    """c of the pseudo-Huber loss, in units of the latent: where squares become absolute values."""
    sampling_steps: int = 2
    """Steps of the student."""
    first: float = 1.0
    """Weight of the steps before the last: at 1 a video in one step is as good as one step can be."""
    truth: bool = False
    """Whether the student learns from the training clip itself, and not from the teacher, what the conditions decide:
    the control channels, and all channels of a clip that a whole skeleton drives."""
    movement: float = 0.0
    """Weight of the same loss of the differences of neighbouring frames: a student that is as far from its target in
    every frame, but in another direction, trembles."""


class DistillStage(ClipStage):
    """The student predicts, at each of its steps, the clip that the teacher makes of the same noise.

    The Denoising U-Net alone trains: the condition encoders run once a clip and not once a step, so they stay, and
    teacher and student share them. The teacher predicts with its guidance scales, so the student needs one branch.
    """

    config: DistillStageConfig

    def __init__(
        self, data: ClipFolders, network: CyberHostNetwork, config: DistillStageConfig, limit: int | None = None
    ) -> None:
        """Copy the teacher from `network`, which has its weights and preset.

        Raises TrainingError where the network is distilled already.
        """
        sampling = network.preset.sampling
        if sampling.distilled:
            raise TrainingError(
                "stage distill needs a teacher that is not distilled itself: give the network of stage 2 with --init"
            )
        super().__init__(data, network, config, limit)
        self.teacher = copy.deepcopy(network.denoising_unet).requires_grad_(False)
        self.guidance = Guidance(sampling.guidance_reference, sampling.guidance_audio)
        self.taught = sampling
        network.preset = distilled_preset(network.preset, config.sampling_steps)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(TRAINED))

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the weighted terms (`distances`), as "loss" their sum; and the plain distance of the last step."""
        terms, plain = self.distances(batch, generator)
        return {"loss": torch.stack([*terms.values()]).sum(), **terms, "distance": plain}

    def gradient_shares(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Measure each term's share of the gradient that `loss` of the same arguments has, see `losses`."""
        trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        return shares_of(self.distances(batch, generator)[0], trained)

    def distances(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Compute the pseudo-Huber distances that train, weighed by cell, and without gradient the plain one.

        "target": of the last step's prediction to the teacher's clip; "first": of the steps before; "movement": of the
        differences of neighbouring frames, of all steps. They are there where they have a weight.
        """
        config, network = self.config, self.module
        diffusion, sampling = network.preset.diffusion, network.preset.sampling
        z = batch["z"]
        rand = lambda: torch.rand(len(z), generator=generator, device=z.device)  # noqa: E731
        blur = torch.randn(batch["motion"].shape, generator=generator, device=z.device)
        with torch.no_grad():
            given = self.drop_conditions(self.encode_conditions(batch, blur), batch, rand(), rand())
            noise = self.sampling_noise(z, batch, given.continues, generator)
            clip = given.to_residual(self.target(batch, given, noise))
        weight = critical_region_weight(batch, config.alpha) + lip_weight(batch, config.lips, network.preset)
        schedule, noisy = Schedule(diffusion, sampling), noise
        terms: dict[str, Tensor] = {}
        steps, none = schedule.timesteps, z.new_zeros(())
        for number, t in enumerate(steps):
            level = t.to(z.device, torch.float32).expand(len(z))
            prediction = network(self.seen(noisy, noise), level, given).prediction
            off = predicted_latent(diffusion, prediction, noisy, level) - clip
            name, factor = ("target", 1.0) if number == len(steps) - 1 else ("first", config.first / (len(steps) - 1))
            if factor:
                terms[name] = terms.get(name, none) + factor * (weight * self.huber(off)).mean()
            if config.movement:
                moves = (weight[:, 1:] * self.huber(off.diff(dim=1))).mean()
                terms["movement"] = terms.get("movement", none) + config.movement * factor * moves
            noisy = schedule.step(prediction.detach(), t, noisy)
        return terms, self.huber(off.detach()).mean()

    def target(self, batch: dict[str, Tensor], given: Conditions, noise: Tensor) -> Tensor:
        """Make the clip (B, F, C, h, w) that the student learns to make of `noise`."""
        if not self.config.truth:
            return self.teach(given, noise)
        z, driven = batch["z"], batch["driven"]
        if bool(driven.all()):
            return z
        taught, controls = self.teach(given, noise), self.module.preset.control_channels
        if controls:
            taught[:, :, -controls:] = move_controls(z[:, :, -controls:], batch["r"][:, -controls:])
        return torch.where(driven.view(-1, 1, 1, 1, 1), z, taught)

    def teach(self, given: Conditions, noise: Tensor) -> Tensor:
        """Make the teacher's clip of `noise`, both (B, F, C, h, w)."""
        return denoise_clip(
            self.module,
            given,
            tuple(noise.shape),
            steps=self.taught.steps,
            sampler=self.taught.sampler,
            guidance=self.guidance,
            predictor=self.teacher.to(noise.device),
            noise=noise,
        )

    def seen(self, noisy: Tensor, noise: Tensor) -> Tensor:
        """Hide the control channels of `noisy` where the preset does."""
        preset = self.module.preset
        hidden = preset.control_channels if preset.diffusion.hidden_controls else 0
        return hide_controls(noisy, noise, hidden) if hidden else noisy

    def huber(self, difference: Tensor) -> Tensor:
        """Compute the pseudo-Huber distance of each element."""
        return pseudo_huber(difference, self.config.huber)

    def sampling_noise(
        self, z: Tensor, batch: dict[str, Tensor], continues: Sequence[bool], generator: torch.Generator
    ) -> Tensor:
        """Draw noise like z (B, F, C, h, w) as the sampler will: with slow noise where no key points drive the body."""
        preset, sampling = self.module.preset, self.module.preset.sampling
        undriven = bool(sampling.slow_noise) and bool(batch["moving"].any())  # a batch is one or the other
        correlation = sampling.slow_noise_correlation if undriven else sampling.noise_correlation
        noise = smooth_noise(z.shape, correlation, preset.control_channels, continues, generator).to(z)
        if not undriven:
            return noise
        goes_on = torch.tensor(continues or [False] * len(z), device=z.device)
        return train_slow_noise(noise, sampling.slow_noise * batch["moving"], preset.flow_channels, goes_on, generator)


def move_controls(controls: Tensor, maps: Tensor) -> Tensor:
    """Move control channels to where the picture has mouth and eyes, as the sampler will (`place_face_controls`).

    controls (B, F, K, h, w), each Gaussians at a frame's mouth or eyes; maps (B, K, h, w), the same of height one in
    the picture. Controls of a picture without a face, whose maps are zero, stay.
    """
    known = maps[:, None].square().sum((3, 4), keepdim=True)
    power = controls.square().sum((3, 4), keepdim=True)
    heights = controls.sum((3, 4), keepdim=True).sign() * (power / known.clamp_min(1e-6)).sqrt()
    return torch.where(known > 1e-6, heights * maps[:, None], controls)


def distilled_preset(preset: Preset, steps: int) -> Preset:
    """Make the preset of a distilled network, which takes `steps` steps; guidance is in the weights."""
    sampling = dataclasses.replace(
        preset.sampling, steps=steps, guidance_reference=1.0, guidance_audio=1.0, distilled=True
    )
    return dataclasses.replace(preset, sampling=sampling)


@register_stage(
    "distill",
    DistillStageConfig,
    sources=("clips",),
    network=NETWORK_SETTINGS,
    needs_init="the network to distil (a run, a model or a safetensors file)",
)
def build(inputs: StageInputs) -> Stage:
    """Build stage distill; the preset is the teacher's where it is known."""
    assert inputs.init is not None
    preset = preset_of_weights(inputs.init) or inputs.preset
    find_clips(inputs.clips, preset, inputs.config.frames)
    network = build_network(preset, inputs.seed)
    load_weights(network, inputs.init)  # before the stage, which copies the teacher from it
    stage = DistillStage(inputs.clips, network, inputs.config)
    freeze(stage.module, inputs.frozen)
    return stage

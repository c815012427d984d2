"""Stage distill: consistency distillation of a trained network, so that it makes a clip in few steps.

Song et al., arXiv 2303.01469; of latents and with guidance folded in, Luo et al., arXiv 2310.04378. That the clip
itself supervises too, beside the teacher, is an idea of FADA (arXiv 2412.16915); the terms and their weights are not.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from cyberhost_model.config import Preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.clips import ClipFolders, find_clips
from cyberhost_model.lab.training.init import build_network, freeze, load_weights, preset_of_weights
from cyberhost_model.lab.training.losses import critical_region_weight, lip_weight, shares_of
from cyberhost_model.lab.training.registry import NETWORK_SETTINGS, StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.lab.training.stages.clip import ClipStage, ClipStageConfig
from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.sampler.guidance import Guidance, GuidedConditions
from cyberhost_model.sampler.noise import hide_controls, smooth_noise, train_slow_noise
from cyberhost_model.sampler.schedule import TRAIN_STEPS, Schedule, add_noise, consistent_latent, solver_step

TRAINED = "denoising_unet."


@dataclass
class DistillStageConfig(ClipStageConfig):
    """Settings of stage 2, except that motion frames alone are dropped: a video's first clip has none."""

    name: str = "distill"
    drop_audio: float = 0.0
    drop_reference: float = 0.0
    points: int = 50
    """Points of the grid of noise levels; the teacher takes one step between two neighbours."""
    huber: float = 1e-3
    """c of the pseudo-Huber loss, in units of the latent: where squares become absolute values."""
    sampling_steps: int = 4
    """Steps of the sampler "lcm" that the network is made for."""
    sampling_correlation: float | None = None
    """Temporal correlation of that sampler's noise; None: that of the teacher's training noise."""
    movement: float = 0.0
    """Weight of the same loss of the differences of neighbouring frames: a student that is as far from its target in
    every frame, but in another direction, trembles."""
    truth: float = 0.0
    """Weight of the distance to the clip itself, times 1 - t / 1000: the more noise, the more clips the conditions
    allow, and the mean of them all hardly moves."""


class DistillStage(ClipStage):
    """Consistency distillation: the student must predict the same latent from both ends of a step of the teacher.

    The prediction at the less noisy end, the target, is that of the student's averaged weights. The Denoising U-Net
    alone trains: the condition encoders run once a clip and not once a step, so they stay, and teacher, student and
    average share them. The teacher predicts with its guidance scales, so the student needs one branch.
    """

    config: DistillStageConfig

    def __init__(
        self, data: ClipFolders, network: CyberHostNetwork, config: DistillStageConfig, limit: int | None = None
    ) -> None:
        """Copy the teacher from `network`, which has its weights and preset.

        Raises TrainingError where the network is distilled already.
        """
        diffusion, sampling = network.preset.diffusion, network.preset.sampling
        if sampling.distilled:
            raise TrainingError(
                "stage distill needs a teacher that is not distilled itself: give the network of stage 2 with --init"
            )
        super().__init__(data, network, config, limit)
        self.teacher = copy.deepcopy(network.denoising_unet).requires_grad_(False)
        self.guidance = Guidance(sampling.guidance_reference, sampling.guidance_audio)
        times = Schedule(
            diffusion, sampling, "flow" if diffusion.prediction in ("flow", "x0") else "ddim", config.points
        ).timesteps
        self.grid = torch.cat([times.float(), torch.zeros(1)]).flip(0)  # rising from 0
        self.average: dict[str, Tensor] = {}
        network.preset = distilled_preset(network.preset, config.sampling_steps, config.sampling_correlation)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(TRAINED))

    def follow(self, average: dict[str, Tensor]) -> None:
        """Take targets from these averaged weights; before the first call they are the student's own."""
        self.average = {
            name.removeprefix(TRAINED): value for name, value in average.items() if name.startswith(TRAINED)
        }

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the weighted terms (`distances`), as "loss" their sum; and the plain distance to the target."""
        terms, plain = self.distances(batch, generator)
        return {"loss": torch.stack([*terms.values()]).sum(), **terms, "distance": plain}

    def gradient_shares(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Measure each term's share of the gradient that `loss` of the same arguments has, see `losses`."""
        trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        return shares_of(self.distances(batch, generator)[0], trained)

    def distances(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Compute the pseudo-Huber distances that train, weighed by cell, and without gradient the plain one.

        "target": of the student to its target; "movement": the same of the differences of neighbouring frames; "truth":
        to the clip itself. The last two are there where they have a weight.
        """
        config, network, diffusion, z = self.config, self.module, self.module.preset.diffusion, batch["z"]
        rand = lambda: torch.rand(len(z), generator=generator, device=z.device)  # noqa: E731
        gauss = lambda x: torch.randn(x.shape, generator=generator, device=z.device)  # noqa: E731
        with torch.no_grad():
            given = self.encode_conditions(batch, gauss(batch["motion"]))
            given = self.drop_conditions(given, batch, rand(), rand())
            z = given.to_residual(z)
            place = (rand() * config.points).long().clamp_max(config.points - 1)
            grid, teacher = self.grid.to(z.device), self.teacher.to(z.device)
            t, nearer = grid[place + 1], grid[place]
            noise = self.sampling_noise(z, batch, given.continues, generator)
            noisy = add_noise(diffusion, z, noise, t)
            hidden = network.preset.control_channels if diffusion.hidden_controls else 0
            seen = hide_controls(noisy, noise, hidden) if hidden else noisy
            taught = GuidedConditions(given, self.guidance).predict(teacher, seen, t)
            stepped = solver_step(diffusion, taught, noisy, t, nearer)
            near = hide_controls(stepped, noise, hidden) if hidden else stepped
            target = consistent_latent(diffusion, self._averaged(near, nearer, given), stepped, nearer)
        predicted = consistent_latent(diffusion, network(seen, t, given).prediction, noisy, t)
        weight = critical_region_weight(batch, config.alpha) + lip_weight(batch, config.lips, network.preset)
        off = predicted - target
        terms = {"target": (weight * self.huber(off)).mean()}
        if config.movement:
            terms["movement"] = config.movement * (weight[:, 1:] * self.huber(off.diff(dim=1))).mean()
        if config.truth:
            clear = (1 - t / TRAIN_STEPS).to(z).view(-1, 1, 1, 1, 1)
            terms["truth"] = config.truth * (clear * weight * self.huber(predicted - z)).mean()
        return terms, self.huber(off.detach()).mean()

    def huber(self, difference: Tensor) -> Tensor:
        """Compute the pseudo-Huber distance of each element."""
        return (difference.float().square() + self.config.huber**2).sqrt() - self.config.huber

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

    def _averaged(self, noisy: Tensor, timestep: Tensor, given: Conditions) -> Tensor:
        """Predict with the averaged weights."""
        weights = {name: value.to(noisy.device) for name, value in self.average.items()}
        return functional_call(self.module.denoising_unet, weights, (noisy, timestep, given)).prediction


def distilled_preset(preset: Preset, steps: int, correlation: float | None) -> Preset:
    """Make the preset of a distilled network: the sampler "lcm" with `steps` steps; guidance is in the weights."""
    sampling = dataclasses.replace(
        preset.sampling,
        sampler="lcm",
        steps=steps,
        guidance_reference=1.0,
        guidance_audio=1.0,
        noise_correlation=preset.diffusion.noise_correlation if correlation is None else correlation,
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

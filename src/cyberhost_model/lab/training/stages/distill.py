"""Stage distill: consistency distillation of a trained network, so that it makes a clip in few steps.

Song et al., arXiv 2303.01469; of latents and with guidance folded in, Luo et al., arXiv 2310.04378.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from cyberhost_model.config import Preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.clips import ClipFolders, find_clips
from cyberhost_model.lab.training.init import build_network, freeze, load_weights, preset_of_weights
from cyberhost_model.lab.training.losses import critical_region_weight, lip_weight
from cyberhost_model.lab.training.registry import NETWORK_SETTINGS, StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.lab.training.stages.clip import ClipStage, ClipStageConfig
from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.sampler.guidance import Guidance, GuidedConditions
from cyberhost_model.sampler.noise import hide_controls, smooth_noise
from cyberhost_model.sampler.schedule import Schedule, add_noise, consistent_latent, solver_step

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
    """Temporal correlation of that sampler's noise; None: the preset's."""


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
        """Compute the pseudo-Huber distance of the student to its target, weighed by cell; and plainly."""
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
            noise = smooth_noise(
                z.shape,
                network.preset.sampling.noise_correlation,
                network.preset.control_channels,
                given.continues,
                generator,
            ).to(z)
            noisy = add_noise(diffusion, z, noise, t)
            hidden = network.preset.control_channels if diffusion.hidden_controls else 0
            seen = hide_controls(noisy, noise, hidden) if hidden else noisy
            taught = GuidedConditions(given, self.guidance).predict(teacher, seen, t)
            stepped = solver_step(diffusion, taught, noisy, t, nearer)
            near = hide_controls(stepped, noise, hidden) if hidden else stepped
            target = consistent_latent(diffusion, self._averaged(near, nearer, given), stepped, nearer)
        predicted = consistent_latent(diffusion, network(seen, t, given).prediction, noisy, t)
        distance = ((predicted - target).float().square() + config.huber**2).sqrt() - config.huber
        weight = critical_region_weight(batch, config.alpha) + lip_weight(batch, config.lips, network.preset)
        return {"loss": (weight * distance).mean(), "distance": distance.mean()}

    def gradient_shares(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return nothing: the loss is one term."""
        return {}

    def _averaged(self, noisy: Tensor, timestep: Tensor, given: Conditions) -> Tensor:
        """Predict with the averaged weights."""
        weights = {name: value.to(noisy.device) for name, value in self.average.items()}
        return functional_call(self.module.denoising_unet, weights, (noisy, timestep, given)).prediction


def distilled_preset(preset: Preset, steps: int, correlation: float | None) -> Preset:
    """Make the preset of a distilled network: the sampler "lcm" with `steps` steps; guidance is in the weights.

    The student learns from noise without a slow part, so it samples from the same.
    """
    sampling = dataclasses.replace(
        preset.sampling,
        sampler="lcm",
        steps=steps,
        guidance_reference=1.0,
        guidance_audio=1.0,
        noise_correlation=preset.diffusion.noise_correlation if correlation is None else correlation,
        slow_noise=0.0,
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

"""Stage distill: consistency distillation (arXiv 2303.01469; of latents, with guidance folded in, arXiv 2310.04378): a
clip in few steps.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call

from cyberhost_model.config import Preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.stages.clip import ClipStage, ClipStageConfig, even_out
from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.sampler.guidance import Guidance, GuidedConditions
from cyberhost_model.sampler.noise import smooth_noise
from cyberhost_model.sampler.schedule import Schedule, add_noise, consistent_latent, solver_step

TRAINED = "denoising_unet."


@dataclass
class DistillStageConfig(ClipStageConfig):
    """Stage 2's settings, with no condition dropped but motion frames, which a video's first clip has not.

    points: of the grid between whose neighbours the teacher takes one step. huber: c of the pseudo-Huber loss, in units
    of the latent, where squares become absolute values. sampling_steps, sampling_correlation: of the sampler "lcm" and
    its noise, for which the network is made; None: the preset's correlation.
    """

    drop_audio: float = 0.0
    drop_reference: float = 0.0
    points: int = 50
    huber: float = 1e-3
    sampling_steps: int = 4
    sampling_correlation: float | None = None


class DistillStage(ClipStage):
    """The student says of both ends of a step of the teacher the same latent; of the less noisy end, its average says
    it.

    The Denoising U-Net alone trains: what encodes the conditions is not asked once a step, so that nothing is gained by
    changing it, and as it stays teacher, student and average share it. The teacher's guidance scales, if they are not
    1, are part of what it shows: the student needs one branch.
    """

    config: DistillStageConfig

    def __init__(
        self, data: str | Path, network: CyberHostNetwork, config: DistillStageConfig, limit: int | None = None
    ) -> None:
        """`network` has the teacher's weights and preset. Raises TrainingError where it is distilled already."""
        diffusion, sampling = network.preset.diffusion, network.preset.sampling
        if sampling.sampler == "lcm":
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
        network.preset = few_steps(network.preset, config.sampling_steps, config.sampling_correlation)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(TRAINED))

    def follow(self, average: dict[str, Tensor]) -> None:
        """Take targets from these weights of the network from now on; before, they are the student's own."""
        self.average = {
            name.removeprefix(TRAINED): value for name, value in average.items() if name.startswith(TRAINED)
        }

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        config, network, diffusion, z = self.config, self.module, self.module.preset.diffusion, batch["z"]
        rand = lambda: torch.rand(len(z), generator=generator, device=z.device)  # noqa: E731
        gauss = lambda x: torch.randn(x.shape, generator=generator, device=z.device)  # noqa: E731
        with torch.no_grad():
            given = self.dropped(self.conditions(batch, gauss(batch["motion"])), batch, rand(), rand())
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
            shown = GuidedConditions(given, self.guidance).predict(teacher, noisy, t)
            stepped = solver_step(diffusion, shown, noisy, t, nearer)
            target = consistent_latent(diffusion, self._averaged(stepped, nearer, given), stepped, nearer)
        said = consistent_latent(diffusion, network(noisy, t, given).prediction, noisy, t)
        distance = ((said - target).float().square() + config.huber**2).sqrt() - config.huber
        weight = (
            1 + config.alpha * batch["masks"].amax(2, keepdim=True) + config.lips * even_out(batch["lips"])[:, :, None]
        )
        return {"loss": (weight * distance).mean(), "distance": distance.mean()}

    def _averaged(self, noisy: Tensor, timestep: Tensor, given: Conditions) -> Tensor:
        """The prediction of the averaged weights."""
        weights = {name: value.to(noisy.device) for name, value in self.average.items()}
        return functional_call(self.module.denoising_unet, weights, (noisy, timestep, given)).prediction


def few_steps(preset: Preset, steps: int, correlation: float | None) -> Preset:
    """The preset of a distilled network: how it samples is told with it, and guidance is in its weights.

    It knows the noise it learns from alone, which does not sway.
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

"""One clip: from noise to a latent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.cyberhost import CyberHostNetwork
from cyberhost_model.model.denoising_unet import DenoiserOutput
from cyberhost_model.sampler.block_cache import BlockCache
from cyberhost_model.sampler.guidance import Guidance, GuidedConditions
from cyberhost_model.sampler.noise import smooth_noise
from cyberhost_model.sampler.schedule import Schedule
from cyberhost_model.sampler.sway import Sway


@torch.no_grad()
def denoise_clip(
    network: CyberHostNetwork,
    conditions: Conditions,
    shape: tuple[int, ...],
    *,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: Guidance | None = None,
    generator: torch.Generator | None = None,
    cache_blocks: int = 1,
    sway: Sway | None = None,
    on_step: Callable[[int, int], None] | None = None,
    predictor: Callable[..., DenoiserOutput] | None = None,
) -> Tensor:
    """A clip's latents.

    shape (B, F, C, h, w); steps, sampler and guidance default to the preset's; the noise is drawn on the CPU, so a seed gives the same clip on every device;
    sway: the slow part of the noise of a body that no key points drive; cache_blocks: the deep blocks are computed at every so many steps, see `BlockCache`;
    on_step(step, steps) is called after each step; predictor: computes steps instead of the network (`RecordedNetwork`).
    Returns (B, F, C, h, w). Raises ModelError as `Schedule` does.
    """
    config = network.preset.diffusion

    def noise() -> Tensor:
        correlation = config.noise_correlation if sway is None else config.sway_correlation
        drawn = smooth_noise(shape, correlation, network.preset.cues, conditions.follows, generator)
        return drawn if sway is None else sway.into(drawn)

    schedule = Schedule(config, sampler, steps)
    guidance = guidance or Guidance(config.guidance_reference, config.guidance_audio)
    guided = GuidedConditions(conditions, guidance)
    z = noise().to(network.device, network.dtype)
    cache = None if cache_blocks == 1 else BlockCache(predictor or network, cache_blocks)
    timesteps = schedule.timesteps
    told = timesteps.to(network.device, torch.float32)  # at once: a copy to a GPU waits for all that it still has to do
    for index, timestep in enumerate(timesteps):
        batch = told[index].expand(shape[0])
        predict = predictor or network if cache is None else partial(cache, index)
        prediction = guided.predict(predict, z, batch, guidance.acts_at(float(timestep)))
        z = schedule.step(prediction, timestep, z, noise)
        if on_step is not None:
            on_step(index + 1, len(timesteps))
    return conditions.whole(z)

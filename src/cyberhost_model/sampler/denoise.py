"""One clip: from noise to a latent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cyberhost_model.errors import InputError
from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.denoising_unet import DenoiserOutput
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.sampler.guidance import Guidance, GuidedConditions
from cyberhost_model.sampler.noise import SlowNoise, smooth_noise
from cyberhost_model.sampler.schedule import Schedule

# A video of any length as clips that follow each other: the last latents of one are the motion frames of the next
# (section 3.1).


@dataclass(frozen=True)
class Clip:
    """The frames from `start` on, `frames` of them; all are made, `keep` of them are shown (fewer only in the last
    clip).
    """

    index: int
    start: int
    frames: int
    keep: int


def plan_clips(total: int, frames: int = 12) -> Iterator[Clip]:
    """The clips of `total` frames, `frames` new ones each. Raises InputError if there is not one frame to make."""
    if total < 1:
        raise InputError("there is no frame to make: the sound is shorter than one video frame")
    for index, start in enumerate(range(0, total, frames)):
        yield Clip(index, start, frames, min(frames, total - start))


def denoise_clips(
    clips: Iterator[Clip], make: Callable[[Clip, Tensor | None], Tensor], motion_frames: int = 4
) -> Iterator[tuple[Clip, Tensor]]:
    """Runs `make(clip, motion)` for each clip in turn and yields (clip, latents (B, keep, C, h, w)).

    `motion` (B, M, C, h, w) is the end of the clip before, None for the first (or when motion_frames is 0). Only that
    end is kept, so memory does not grow with the video.
    """
    motion: Tensor | None = None
    for clip in clips:
        latents = make(clip, motion)
        # a slice would keep the whole clip alive
        motion = latents[:, -motion_frames:].clone() if motion_frames else None
        yield clip, latents[:, : clip.keep]


# Block caching: the deep half of the U-Net is computed at every n-th step alone (DeepCache, arXiv 2312.00858). Quicker,
# and not quite the same frames.


class BlockCache:
    """Stands for the network during one clip.

    Each batch of conditions (guidance has some of its own) has its own features; they are used for fewer than `every`
    steps after the one that made them, whatever other batches had the steps between.
    """

    def __init__(self, network: Callable[..., DenoiserOutput], every: int) -> None:
        self.network, self.every = network, every
        self._kept: dict[int, tuple[int, Tensor]] = {}

    def __call__(self, step: int, noisy: Tensor, timestep: Tensor, conditions: Conditions) -> DenoiserOutput:
        """As the network at the clip's `step`, counted from 0; `conditions` is known again by its identity."""
        made, deep = self._kept.get(id(conditions), (step, None))
        if deep is not None and step - made < self.every:
            return self.network(noisy, timestep, conditions, deep=deep)
        output = self.network(noisy, timestep, conditions)
        self._kept[id(conditions)] = step, output.deep
        return output


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
    slow_noise: SlowNoise | None = None,
    on_step: Callable[[int, int], None] | None = None,
    predictor: Callable[..., DenoiserOutput] | None = None,
) -> Tensor:
    """A clip's latents.

    shape (B, F, C, h, w); steps, sampler and guidance default to the preset's; the noise is drawn on the CPU, so a seed
    gives the same clip on every device; slow_noise: the slow part of the noise of a body that no key points drive;
    cache_blocks: the deep blocks are computed at every so many steps, see `BlockCache`; on_step(step, steps) is called
    after each step; predictor: computes steps instead of the network (`RecordedNetwork`). Returns (B, F, C, h, w).
    Raises ModelError as `Schedule` does.
    """
    sampling = network.preset.sampling

    def noise() -> Tensor:
        correlation = sampling.noise_correlation if slow_noise is None else sampling.slow_noise_correlation
        drawn = smooth_noise(shape, correlation, network.preset.control_channels, conditions.follows, generator)
        return drawn if slow_noise is None else slow_noise.into(drawn)

    schedule = Schedule(network.preset.diffusion, sampling, sampler, steps)
    guidance = guidance or Guidance(sampling.guidance_reference, sampling.guidance_audio)
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

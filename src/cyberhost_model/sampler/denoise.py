"""Sampling: a video as clips that follow each other (section 3.1), and each clip from noise to its latents.

The last latents of a clip are the motion frames of the next, so a video can have any length.
"""

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
from cyberhost_model.sampler.noise import SlowNoise, hide_controls, smooth_noise
from cyberhost_model.sampler.schedule import Schedule


@dataclass(frozen=True)
class Clip:
    """Position of a clip in a video."""

    index: int
    start: int
    """Its first frame."""
    frames: int
    """Frames that are sampled."""
    keep: int
    """Frames that are shown: fewer only in the last clip."""


def plan_clips(total: int, frames: int = 12, first: int = 0) -> Iterator[Clip]:
    """Split the frames from `first` to `total` into clips of `frames` frames each. Raises InputError if total is 0."""
    if total < 1:
        raise InputError("there is no frame to make: the sound is shorter than one video frame")
    for index, start in enumerate(range(first, total, frames), first // frames):
        yield Clip(index, start, frames, min(frames, total - start))


def denoise_clips(
    clips: Iterator[Clip],
    sample: Callable[[Clip, Tensor | None], Tensor],
    motion_frames: int = 4,
    before: Tensor | None = None,
) -> Iterator[tuple[Clip, Tensor]]:
    """Sample clip after clip with `sample(clip, motion)`, and yield (clip, latents (B, keep, C, h, w)).

    motion (B, M, C, h, w): the end of the previous clip's latents, None for the first clip and with motion_frames 0.
    Only that end is kept, so memory does not grow with the video. before: the latents of a clip that came before the
    first of `clips`, where a video is gone on with.
    """
    motion = clip_end(before, motion_frames)
    for clip in clips:
        latents = sample(clip, motion)
        motion = clip_end(latents, motion_frames)
        yield clip, latents[:, : clip.keep]


def clip_end(latents: Tensor | None, motion_frames: int) -> Tensor | None:
    """Copy the motion frames (B, M, C, h, w) that a clip's latents end with: a slice would keep the whole clip."""
    return None if latents is None or not motion_frames else latents[:, -motion_frames:].clone()


class BlockCache:
    """Computes the deep blocks of the U-Net only at every n-th step of a clip (DeepCache, arXiv 2312.00858).

    It is called in place of the network. Faster, with slightly different frames. Each batch of conditions (guidance may
    have several) keeps deep features of its own, for fewer than `every` steps after the one that computed them.
    """

    def __init__(self, network: Callable[..., DenoiserOutput], every: int) -> None:
        self.network, self.every = network, every
        self._cached: dict[int, tuple[int, Tensor]] = {}

    def __call__(self, step: int, noisy: Tensor, timestep: Tensor, conditions: Conditions) -> DenoiserOutput:
        """Predict the clip's `step`, counted from 0; `conditions` is recognised by its identity."""
        computed, deep = self._cached.get(id(conditions), (step, None))
        if deep is not None and step - computed < self.every:
            return self.network(noisy, timestep, conditions, deep=deep)
        output = self.network(noisy, timestep, conditions)
        self._cached[id(conditions)] = step, output.deep
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
    noise: Tensor | None = None,
) -> Tensor:
    """Sample the latents (B, F, C, h, w) of one clip.

    shape (B, F, C, h, w); steps, sampler and guidance default to the preset's. generator: on the CPU, so that a seed
    gives the same clip on every device. cache_blocks: the deep blocks run at every n-th step, see `BlockCache`.
    slow_noise: a part of the noise, for a body that no key points drive. on_step(step, steps) is called after each
    step. predictor: called in place of the network (`RecordedNetwork`). noise (B, F, C, h, w): what the clip begins
    with; None: it is drawn. Raises ModelError as `Schedule` does.
    """
    sampling = network.preset.sampling

    def draw_noise() -> Tensor:
        correlation = sampling.noise_correlation
        if slow_noise is not None:  # a short clip would go on as its first frames do, and the next one as it did
            correlation = slow_noise.correlation * max(0.0, 2 * shape[1] / network.preset.frames - 1)
        drawn = smooth_noise(shape, correlation, network.preset.control_channels, conditions.continues, generator)
        return drawn if slow_noise is None else slow_noise.mix_into(drawn)

    schedule = Schedule(network.preset.diffusion, sampling, sampler, steps)
    guidance = guidance or Guidance(
        sampling.guidance_reference, sampling.guidance_audio, keeps_pose=sampling.unguided_pose
    )
    guided = GuidedConditions(conditions, guidance)
    z = start = (draw_noise() if noise is None else noise).to(network.device, network.dtype)
    hidden = network.preset.control_channels if network.preset.diffusion.hidden_controls else 0
    cache = None if cache_blocks == 1 else BlockCache(predictor or network, cache_blocks)
    timesteps = schedule.timesteps
    # All at once: each copy to a GPU would wait for the work queued there.
    device_timesteps = timesteps.to(network.device, torch.float32)
    for index, timestep in enumerate(timesteps):
        batch = device_timesteps[index].expand(shape[0])
        predict = predictor or network if cache is None else partial(cache, index)
        seen = hide_controls(z, start, hidden) if hidden else z
        prediction = guided.predict(predict, seen, batch, guidance.acts_at(float(timestep)))
        z = schedule.step(prediction, timestep, z, draw_noise)
        if on_step is not None:
            on_step(index + 1, len(timesteps))
    return conditions.from_residual(z)

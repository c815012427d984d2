"""Overlapping windows: a long video denoised as a whole by a network that sees a few frames at a time.

Not in the paper. Networks without motion frames (AnimateAnyone, EchoMimicV2) cannot continue a clip. At every denoising
step all frames are covered by windows that overlap, and where two windows meet their predictions are averaged, so that
neighbouring windows agree (MultiDiffusion, arXiv 2302.08113, over time). The last window goes on at the video's
beginning, as in the programs that these networks come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from cyberhost_model.config import Preset
from cyberhost_model.errors import InputError
from cyberhost_model.sampler.schedule import Schedule

Window = Sequence[int]
"""Frames of a window, in the order in which the network sees them."""
PredictWindows = Callable[[Tensor, Tensor, list[Window], bool], Tensor]
"""(noisy (n, F, C, h, w), time steps (n,), the n windows, whether guidance acts) -> predictions (n, F, C, h, w)."""


def plan_windows(total: int, size: int, overlap: int, shift: int = 0) -> list[Window]:
    """Cover `total` frames with windows of `size` frames, each sharing `overlap` frames with the next.

    Every window begins `shift` frames later than without, and counts on from 0 after the last frame. A video of no more
    than `size` frames is one window. Raises InputError if there are no frames.
    """
    if total < 1:
        raise InputError("there is no frame to make: the sound is shorter than one video frame")
    starts = range(0, total, size - overlap) if total > size else range(1)
    return [[(start + shift + i) % total for i in range(min(size, total))] for start in starts]


def draw_window_noise(preset: Preset, total: int, latent_size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw the noise of a whole video: (1, total, C, h, w), limited to the preset's `noise_limit`.

    It is drawn channel by channel, so that a seed gives the noise that it gives in the networks' own programs.
    """
    noise = torch.randn(1, preset.latent_channels, total, *latent_size, generator=generator).transpose(1, 2)
    limit = preset.sampling.noise_limit
    return (noise.clamp(-limit, limit) if limit else noise).contiguous()


@torch.no_grad()
def denoise_windows(
    preset: Preset,
    noise: Tensor,
    predict: PredictWindows,
    *,
    steps: int | None = None,
    guided: Callable[[float], bool] = lambda timestep: True,
    at_once: int = 1,
    on_step: Callable[[int, int], None] | None = None,
    taken: int = 0,
    keep: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Denoise all frames of a video together: noise (1, T, C, h, w) -> latents of the same shape.

    Beside the latents only their sum of predictions is held. `predict` gets up to `at_once` windows of the same length;
    guided(time step) says whether guidance acts. on_step(step, steps) is called after each step. keep(steps taken,
    latents) is called between two steps where the sampler can go on from there; `taken` steps are then left out, and
    `noise` is the latents after them. Raises ModelError as `Schedule` does.
    """
    sampling, total = preset.sampling, noise.shape[1]
    schedule = Schedule(preset.diffusion, sampling, None, steps)
    times = schedule.timesteps.to(noise.device, torch.float32)  # all at once: each copy to a GPU would wait for it
    z = noise
    for index, timestep in enumerate(schedule.timesteps[taken:], taken):
        predicted, count = torch.zeros_like(z), torch.zeros(total)
        windows = plan_windows(total, preset.frames, sampling.overlap, index * sampling.window_shift)
        for some in _groups(windows, at_once):
            frames = torch.tensor(some, device=z.device)
            batch = predict(z[0, frames], times[index].expand(len(some)), some, guided(float(timestep)))
            for window, prediction in zip(frames, batch, strict=True):
                predicted[0, window] += prediction
            count += torch.bincount(torch.tensor(some).flatten(), minlength=total)
        predicted /= count.to(z).view(1, -1, 1, 1, 1)
        z = schedule.step(predicted, timestep, z)
        if keep is not None and schedule.memoryless and index + 1 < len(times):
            keep(index + 1, z)
        if on_step is not None:
            on_step(index + 1, len(times))
    return z


def _groups(windows: Sequence[Window], size: int) -> Iterator[list[Window]]:
    """Take the windows in order, up to `size` together."""
    left = iter(windows)
    while some := list(islice(left, size)):
        yield some

"""Noise that a clip is trained on and sampled from, correlated from frame to frame.

Not in the paper. Independent noise in every frame drowns slow movement, such as that of heads and hands.
`progressive_noise` (training) and `smooth_noise` (sampling) correlate the noise of consecutive frames. `SlowNoise` adds
a part that is smooth over time and over the cells of the latent too, so that a head or a hand moves as a whole and goes
on moving where clips meet. A network that was trained without it takes it for movement, whatever is said; one that was
trained with it (`train_slow_noise`) moves by the speech first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_REACH = 4  # frames to either side that a frame's noise is averaged over
MAX_MOVEMENT_SCALE = 2.0
"""Largest factor of how far hands gesture."""
_MOST_SLOW = 0.95  # share of the noise that is slow at most
_TIME_STD = 8.0  # frames: deviation of the Gaussian that smooths slow noise over time
_CELL_STD = 2.5  # latent cells: the same over space, about a head


def progressive_noise(noise: Tensor, correlation: float, control_channels: int = 0) -> Tensor:
    """Correlate training noise (B, F, C, ...) of deviation 1 from each frame to the next, and keep its deviation.

    correlation in 0..1: the progressive noise of Ge et al. 2023 (arXiv 2305.10474). The last `control_channels`
    channels stay independent, because lips do not move slowly.
    """
    if not correlation:
        return noise
    body = noise[:, :, : noise.shape[2] - control_channels]
    frames = [body[:, 0]]
    for fresh in body.unbind(1)[1:]:
        frames.append(correlation * frames[-1] + (1 - correlation**2) ** 0.5 * fresh)
    return torch.cat([torch.stack(frames, 1), noise[:, :, noise.shape[2] - control_channels :]], 2)


def hide_controls(noisy: Tensor, noise: Tensor, control_channels: int) -> Tensor:
    """Replace the last `control_channels` channels of noisy latents (B, F, C, ...) by those of `noise`.

    See `DiffusionConfig.hidden_controls`.
    """
    first = noisy.shape[2] - control_channels
    return torch.cat([noisy[:, :, :first], noise[:, :, first:]], 2)


def smooth_noise(
    shape: tuple[int, ...],
    correlation: float,
    control_channels: int = 0,
    continues: Sequence[bool] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw sampling noise of the shape (B, F, C, ...) and deviation 1, correlated from each frame to the next.

    correlation: in 0..1, below 0.6 a little less than that. Progressive noise changes direction at every frame, and so
    does the video made of it; this noise is smoothed by a Gaussian over time and gives as much slow movement with less
    jitter.

    continues: items that continue a previous clip. Their noise starts near 0, as a smooth path does after a frame that
    is known, so that they do not start with a jump. The last `control_channels` channels are independent, as in
    training. The noise is drawn on the generator's device: on the CPU, a seed gives the same for every device.
    """
    device = generator.device if generator else None
    if not correlation:
        return torch.randn(shape, generator=generator, device=device)
    frames, body = shape[1], shape[2] - control_channels
    # Noise under a Gaussian of deviation w is correlated by exp(-1 / 4 w^2) from one frame to the next.
    weights = [correlation ** (2 * k**2) for k in range(-_REACH, _REACH + 1)]
    white = torch.randn(shape[0], frames + len(weights), *shape[2:], generator=generator, device=device)
    path = sum(weight * white[:, k : k + frames + 1, :body] for k, weight in enumerate(weights)) / math.hypot(*weights)
    before, path = path[:, :1], path[:, 1:]
    if any(continues):
        known = torch.tensor(
            [[float(item) * correlation ** (k**2) for k in range(1, frames + 1)] for item in continues], device=device
        )
        path = path - known.view(*known.shape, *[1] * (path.ndim - 2)) * before
    return torch.cat([path, white[:, -frames:, body:]], 2)


def movement_scale(amount: float, usual: float) -> float:
    """Convert an amount of movement in 0..1 into a factor of how far hands gesture.

    usual: the amount at which the factor is 1. It rises from 0 to `MAX_MOVEMENT_SCALE`.
    """
    return _risen(amount, usual, 1.0, MAX_MOVEMENT_SCALE)


def slow_share(amount: float, usual: float, share: float) -> float:
    """Convert an amount of movement in 0..1 into the share of the noise that is slow, 0..1.

    It rises from 0 over the model's own `share`, at the amount `usual`, to nearly all.
    """
    return _risen(amount, usual, share, max(share, _MOST_SLOW))


def _risen(amount: float, usual: float, at_usual: float, most: float) -> float:
    """Rise from 0 at the amount 0 over `at_usual` at `usual` to `most` at 1, in two straight pieces."""
    return float(np.interp(amount, (0.0, usual, 1.0), (0.0, at_usual, most)))


@dataclass(frozen=True)
class SlowNoise:
    """Slow noise of one clip, or of a batch of clips in training.

    Independent noise drives every cell by itself, so that little moves as a whole. From noise that is the same all over
    a head, the network makes a movement of the head.
    """

    path: Tensor
    """(B, F, C', h, w), of deviation 1, for the first C' channels of a latent."""
    share: Tensor
    """(B, 1, 1, h, w) in 0..1: its share of the noise's variance."""
    correlation: float = 0.0
    """Temporal correlation of the rest, from a frame to the next, 0..1."""

    def mix_into(self, noise: Tensor) -> Tensor:
        """Replace a share of the variance of `noise` (B, F, C, h, w), of deviation 1, by the slow noise."""
        moving = self.path.shape[2]
        mixed = (1 - self.share).sqrt() * noise[:, :, :moving] + self.share.sqrt() * self.path
        return torch.cat([mixed, noise[:, :, moving:]], 2)


class SlowNoises:
    """Draws the slow noise of clip after clip of `frames` frames: one path over the whole video, cut into clips.

    The path is smooth over time and cells. Each clip's part starts from 0, because a clip continues from the pose in
    which the previous one ended. share (1, 1, 1, h, w), on the CPU, where `generator` draws: a seed gives the same for
    every device.
    """

    white: Tensor | None
    """Independent noise (2 reach + 1, C, h, w) under the Gaussian of the last frame drawn; None before the first clip.

    With the generator's state it is all that the next clip depends on.
    """

    def __init__(
        self, share: Tensor, channels: int, frames: int, generator: torch.Generator, rest: float = 0.0
    ) -> None:
        """rest: temporal correlation of the noise beside it (`SlowNoise.correlation`)."""
        self.share, self.channels, self.frames, self.generator, self.rest = share, channels, frames, generator, rest
        self.reach = math.ceil(3 * _TIME_STD)
        self.weights, self.correlation = _gaussian(_TIME_STD, self.reach), _correlation_with_later(frames)
        self.white = None

    def __iter__(self) -> Iterator[SlowNoise]:
        return self

    def __next__(self) -> SlowNoise:
        """Draw the next clip's."""
        first = self.white is None
        before = self._draw(2 * self.reach + 1) if self.white is None else self.white
        white = torch.cat([before, self._draw(self.frames)])
        path = torch.einsum("fchwk,k->fchw", white.unfold(0, 2 * self.reach + 1, 1), self.weights)
        clip = path[1:] if first else path[1:] - self.correlation.view(-1, 1, 1, 1) * path[:1]
        self.white = white[-2 * self.reach - 1 :].clone()
        return SlowNoise(clip[None], self.share, self.rest)

    def _draw(self, count: int) -> Tensor:
        drawn = torch.randn(count, self.channels, *self.share.shape[-2:], generator=self.generator)
        return _smooth_over_cells(drawn)


def train_slow_noise(
    noise: Tensor, share: Tensor, channels: int, continues: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Replace a share of the variance of training noise (B, F, C, h, w), of deviation 1, by slow noise.

    share (B, h, w) in 0..1; channels: the first ones that have it; continues (B,) bool: items after a previous clip,
    whose path starts from 0 as in `slow_noises`.
    """
    batch, frames, _, height, width = noise.shape
    reach = math.ceil(3 * _TIME_STD)
    drawn = (batch * (frames + 1 + 2 * reach), channels, height, width)
    white = _smooth_over_cells(torch.randn(drawn, generator=generator, device=noise.device)).unflatten(0, (batch, -1))
    path = torch.einsum("bfchwk,k->bfchw", white.unfold(1, 2 * reach + 1, 1), _gaussian(_TIME_STD, reach).to(noise))
    known = _correlation_with_later(frames).to(noise).view(1, -1, 1, 1, 1) * continues.view(-1, 1, 1, 1, 1)
    return SlowNoise(path[:, 1:] - known * path[:, :1], share[:, None, None]).mix_into(noise)


def _correlation_with_later(frames: int) -> Tensor:
    """Correlation of a frame of the slow path with the `frames` after it."""
    return torch.exp(-(torch.arange(1.0, frames + 1) ** 2) / (4 * _TIME_STD**2))


def _gaussian(deviation: float, reach: int) -> Tensor:
    """Make the weights of a Gaussian that keeps the deviation of independent noise."""
    weights = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * deviation**2))
    return weights / weights.norm()


def _smooth_over_cells(noise: Tensor) -> Tensor:
    """Smooth independent noise (N, C, h, w) from cell to cell, with deviation 1 at the edges too."""
    reach = math.ceil(3 * _CELL_STD)
    weights, maps = _gaussian(_CELL_STD, reach).to(noise), noise.flatten(0, 1)[:, None]
    for kernel in (weights.view(1, 1, -1, 1), weights.view(1, 1, 1, -1)):
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
        inside = F.conv2d(torch.ones_like(maps[:1]), kernel.square(), padding=padding)
        maps = F.conv2d(maps, kernel, padding=padding) / inside.sqrt()
    return maps[:, 0].unflatten(0, noise.shape[:2])

"""Noise that slow movement begins with: heads and hands that move as wholes, and go on moving where clips meet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Noise of frames that follow each other. What changes slowly, as heads and hands do, then is not drowned by noise that
# changes with every frame.


_REACH = 4  # frames to either side that a frame's noise is made of


def progressive_noise(noise: Tensor, correlation: float, control_channels: int = 0) -> Tensor:
    """What to train with: independent noise (B, F, C, ...)

    of deviation 1 -> the same deviation, with `correlation` in 0..1 between a frame and the next (the progressive noise
    of Ge et al. 2023, arXiv 2305.10474). The last `control_channels` channels stay independent: lips do not move
    slowly, and rest in silence.
    """
    if not correlation:
        return noise
    body = noise[:, :, : noise.shape[2] - control_channels]
    frames = [body[:, 0]]
    for fresh in body.unbind(1)[1:]:
        frames.append(correlation * frames[-1] + (1 - correlation**2) ** 0.5 * fresh)
    return torch.cat([torch.stack(frames, 1), noise[:, :, noise.shape[2] - control_channels :]], 2)


def smooth_noise(
    shape: tuple[int, ...],
    correlation: float,
    control_channels: int = 0,
    follows: Sequence[bool] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """What to sample with: noise (B, F, C, ...)

    of deviation 1 and `correlation` in 0..1 between a frame and the next (a little less below 0.6), drawn where the
    generator is: on the CPU, a seed gives the same for every device.

    Progressive noise is a path that turns at every frame, and so does what is made of it; this one is smooth (a
    Gaussian over time), so that as much slow movement comes with less trembling. follows: items that go on where a clip
    before left off. Their noise sets out from 0, as a path does of which the frame before is known, so that they do not
    set out with a jump. The last `control_channels` channels are independent, as in training.
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
    if any(follows):
        known = torch.tensor(
            [[float(item) * correlation ** (k**2) for k in range(1, frames + 1)] for item in follows], device=device
        )
        path = path - known.view(*known.shape, *[1] * (path.ndim - 2)) * before
    return torch.cat([path, white[:, -frames:, body:]], 2)


LIVELIEST = 2.0
"""The most of a model's own sway that a movement is asked for with (docs/results.md)."""
_FRAMES = 8.0  # deviation of the Gaussian over time that the noise is smoothed with
_CELLS = 2.5  # the same over the latent's cells: about a head


def movement_scale(amount: float, usual: float) -> float:
    """What a model's own sway is multiplied by for a movement of `amount` in 0..1, of which `usual` is its own: 0 for
    none, up to `LIVELIEST`.
    """
    amount = min(max(amount, 0.0), 1.0)
    return amount / usual if amount <= usual else 1 + (LIVELIEST - 1) * (amount - usual) / (1 - usual)


@dataclass(frozen=True)
class SlowNoise:
    """A clip's slow noise `path` (1, F, C', h, w) for the first C' channels of a latent, and `share` (1, 1, 1, h, w)
    in 0..1, how much of the variance it is.

    Independent noise tells every cell to move by itself, so that little moves as a whole: a network that is asked what
    a head does from noise that is alike all over the head answers with a movement of the head.
    """

    path: Tensor
    share: Tensor

    def into(self, noise: Tensor) -> Tensor:
        """`noise` (1, F, C, h, w) of deviation 1 with the sway in it."""
        moving = self.path.shape[2]
        return torch.cat(
            [(1 - self.share).sqrt() * noise[:, :, :moving] + self.share.sqrt() * self.path, noise[:, :, moving:]], 2
        )


def slow_noises(share: Tensor, channels: int, frames: int, generator: torch.Generator) -> Iterator[SlowNoise]:
    """Clip after clip of `frames` frames: one path over the whole video, smooth over time and cells, that sets out
    from 0 where a clip begins, for a clip goes on from the pose that the one before ended with. share (1, 1, 1, h, w),
    on the CPU, where `generator` draws: a seed gives the same for every device.
    """
    reach = math.ceil(3 * _FRAMES)
    weights = _bell(_FRAMES, reach)
    known = torch.exp(
        -(torch.arange(1.0, frames + 1) ** 2) / (4 * _FRAMES**2)
    )  # what a frame of a smooth path says of those after it
    fresh = lambda count: _smooth(torch.randn(count, channels, *share.shape[-2:], generator=generator))  # noqa: E731
    white, first = fresh(2 * reach + 1), True
    while True:
        white = torch.cat([white, fresh(frames)])
        path = torch.einsum("fchwk,k->fchw", white.unfold(0, 2 * reach + 1, 1), weights)
        clip = path[1:] if first else path[1:] - known.view(-1, 1, 1, 1) * path[:1]
        yield SlowNoise(clip[None], share)
        white, first = white[-2 * reach - 1 :], False


def _bell(deviation: float, reach: int) -> Tensor:
    """Weights of a Gaussian that leave the deviation of independent noise what it is."""
    weights = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * deviation**2))
    return weights / weights.norm()


def _smooth(noise: Tensor) -> Tensor:
    """Independent noise (N, C, h, w) made alike from cell to cell, of deviation 1 also at the edges."""
    reach = math.ceil(3 * _CELLS)
    bell, maps = _bell(_CELLS, reach), noise.flatten(0, 1)[:, None]
    for kernel in (bell.view(1, 1, -1, 1), bell.view(1, 1, 1, -1)):
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
        inside = F.conv2d(torch.ones_like(maps[:1]), kernel.square(), padding=padding)
        maps = F.conv2d(maps, kernel, padding=padding) / inside.sqrt()
    return maps[:, 0].unflatten(0, noise.shape[:2])

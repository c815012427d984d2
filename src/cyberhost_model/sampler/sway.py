"""Noise that slow movement begins with: heads and hands that move as wholes, and go on moving where clips meet."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LIVELIEST = 2.0
"""The most of a model's own sway that a movement is asked for with (docs/results.md)."""
_FRAMES = 8.0  # deviation of the Gaussian over time that the noise is smoothed with
_CELLS = 2.5  # the same over the latent's cells: about a head


def liveliness(amount: float, usual: float) -> float:
    """What a model's own sway is multiplied by for a movement of `amount` in 0..1, of which `usual` is its own: 0 for none, up to `LIVELIEST`."""
    amount = min(max(amount, 0.0), 1.0)
    return amount / usual if amount <= usual else 1 + (LIVELIEST - 1) * (amount - usual) / (1 - usual)


@dataclass(frozen=True)
class Sway:
    """A clip's slow noise `path` (1, F, C', h, w) for the first C' channels of a latent, and `share` (1, 1, 1, h, w) in 0..1, how much of the variance it is.

    Independent noise tells every cell to move by itself, so that little moves as a whole: a network that is asked what a head does from noise that is alike
    all over the head answers with a movement of the head.
    """

    path: Tensor
    share: Tensor

    def into(self, noise: Tensor) -> Tensor:
        """`noise` (1, F, C, h, w) of deviation 1 with the sway in it."""
        moving = self.path.shape[2]
        return torch.cat([(1 - self.share).sqrt() * noise[:, :, :moving] + self.share.sqrt() * self.path, noise[:, :, moving:]], 2)


def sways(share: Tensor, channels: int, frames: int, generator: torch.Generator) -> Iterator[Sway]:
    """Clip after clip of `frames` frames: one path over the whole video, smooth over time and cells, that sets out from 0 where a clip begins, for a clip goes
    on from the pose that the one before ended with. share (1, 1, 1, h, w), on the CPU, where `generator` draws: a seed gives the same for every device."""
    reach = math.ceil(3 * _FRAMES)
    weights = _bell(_FRAMES, reach)
    known = torch.exp(-torch.arange(1.0, frames + 1) ** 2 / (4 * _FRAMES**2))  # what a frame of a smooth path says of those after it
    fresh = lambda count: _smooth(torch.randn(count, channels, *share.shape[-2:], generator=generator))  # noqa: E731
    white, first = fresh(2 * reach + 1), True
    while True:
        white = torch.cat([white, fresh(frames)])
        path = torch.einsum("fchwk,k->fchw", white.unfold(0, 2 * reach + 1, 1), weights)
        clip = path[1:] if first else path[1:] - known.view(-1, 1, 1, 1) * path[:1]
        yield Sway(clip[None], share)
        white, first = white[-2 * reach - 1 :], False


def _bell(deviation: float, reach: int) -> Tensor:
    """Weights of a Gaussian that leave the deviation of independent noise what it is."""
    weights = torch.exp(-torch.arange(-reach, reach + 1.0) ** 2 / (2 * deviation**2))
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

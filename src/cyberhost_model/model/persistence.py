"""What the clip before leads one to expect of the next: the body stays for a while as it was left."""

from __future__ import annotations

import torch
from torch import Tensor

_SURE = 0.95  # of what stays: were it all, the first frames would be left no way to differ


def persistence(
    last: Tensor, length: float, frames: int, cues: int = 0, expected: Tensor | None = None, known: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What is to be added to `expected` for a clip that goes on where `last` (B, C, h, w), the newest motion frame's latent, leaves off
    (B, frames, C, h, w), and how far frames spread about that, against latents of which nothing is known (B, frames, C, 1, 1), 0..1.

    Of frame k = 1, 2, ... c = exp(-(k / length)^2) stays: the coefficients of a regression on the training clips lie on such a curve. What is left has
    the deviation sqrt(1 - c^2) then. expected (B, frames, C, h, w), by key points: it is where the body is beside them that stays, but where they say
    all, `known` (B, frames, 1, h, w) in 0..1. The last channels, `cues` of them, are left to the sound: lips do not stay.
    """
    k = torch.arange(1, frames + 1, device=last.device, dtype=last.dtype)
    stays = torch.exp(-((k / length) ** 2))[:, None] * torch.ones(last.shape[1], device=last.device, dtype=last.dtype)
    stays[:, last.shape[1] - cues :] = 0
    stays = stays[None, :, :, None, None]
    left = last if expected is None else last - expected[:, 0]
    added = stays * left[:, None]
    spread = (1 - (_SURE * stays) ** 2).sqrt().expand(len(last), -1, -1, -1, -1)
    return added if known is None else added * (1 - known), spread

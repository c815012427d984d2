"""Noise of frames that follow each other. What changes slowly, as heads and hands do, then is not drowned by noise that changes with every frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_REACH = 4  # frames to either side that a frame's noise is made of


def correlated(noise: Tensor, correlation: float, cues: int = 0) -> Tensor:
    """What to train with: independent noise (B, F, C, ...) of deviation 1 -> the same deviation, with `correlation` in 0..1 between a frame and the next
    (the progressive noise of Ge et al. 2023, arXiv 2305.10474). The last `cues` channels stay independent: lips do not move slowly, and rest in silence."""
    if not correlation:
        return noise
    body = noise[:, :, : noise.shape[2] - cues]
    frames = [body[:, 0]]
    for fresh in body.unbind(1)[1:]:
        frames.append(correlation * frames[-1] + (1 - correlation**2) ** 0.5 * fresh)
    return torch.cat([torch.stack(frames, 1), noise[:, :, noise.shape[2] - cues :]], 2)


def smooth_noise(
    shape: tuple[int, ...], correlation: float, cues: int = 0, follows: Sequence[bool] = (), generator: torch.Generator | None = None
) -> Tensor:
    """What to sample with: noise (B, F, C, ...) of deviation 1 and `correlation` in 0..1 between a frame and the next (a little less below 0.6), drawn where
    the generator is: on the CPU, a seed gives the same for every device.

    Progressive noise is a path that turns at every frame, and so does what is made of it; this one is smooth (a Gaussian over time), so that as much slow
    movement comes with less trembling. follows: items that go on where a clip before left off. Their noise sets out from 0, as a path does of which the
    frame before is known, so that they do not set out with a jump. The last `cues` channels are independent, as in training.
    """
    device = generator.device if generator else None
    if not correlation:
        return torch.randn(shape, generator=generator, device=device)
    frames, body = shape[1], shape[2] - cues
    # Noise under a Gaussian of deviation w is correlated by exp(-1 / 4 w^2) from one frame to the next.
    weights = [correlation ** (2 * k**2) for k in range(-_REACH, _REACH + 1)]
    white = torch.randn(shape[0], frames + len(weights), *shape[2:], generator=generator, device=device)
    path = sum(weight * white[:, k : k + frames + 1, :body] for k, weight in enumerate(weights)) / math.hypot(*weights)
    before, path = path[:, :1], path[:, 1:]
    if any(follows):
        known = torch.tensor([[float(item) * correlation ** (k**2) for k in range(1, frames + 1)] for item in follows], device=device)
        path = path - known.view(*known.shape, *[1] * (path.ndim - 2)) * before
    return torch.cat([path, white[:, -frames:, body:]], 2)

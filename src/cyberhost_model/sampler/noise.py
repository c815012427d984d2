"""Noise of frames that follow each other."""

from __future__ import annotations

import torch
from torch import Tensor

LIVELIEST = 0.65
"""The most correlation a movement is asked for with; above it the body leaves what the model was trained on."""


def lively(correlation: float, amount: float, usual: float) -> float:
    """The correlation for a movement of `amount` in 0..1 by a network that was trained with `correlation`, which is the one for `usual`: 0 for none, up to
    `LIVELIEST`. Slow movement is as large as the noise it begins with; the movement map's box alone says little to a small network."""
    amount = min(max(amount, 0.0), 1.0)
    if amount <= usual:
        return correlation * amount / usual
    return correlation + max(LIVELIEST - correlation, 0.0) * (amount - usual) / (1 - usual) if correlation else 0.0


def correlated(noise: Tensor, correlation: float, cues: int = 0) -> Tensor:
    """Independent noise (B, F, C, ...) of deviation 1 -> the same deviation, with `correlation` in 0..1 between a frame and the next (the progressive
    noise of Ge et al. 2023, arXiv 2305.10474). What changes slowly, as heads and hands do, then is not drowned by noise that changes with every frame.
    The last `cues` channels stay independent: lips do not move slowly, and rest in silence."""
    if not correlation:
        return noise
    body = noise[:, :, : noise.shape[2] - cues]
    frames = [body[:, 0]]
    for fresh in body.unbind(1)[1:]:
        frames.append(correlation * frames[-1] + (1 - correlation**2) ** 0.5 * fresh)
    return torch.cat([torch.stack(frames, 1), noise[:, :, noise.shape[2] - cues :]], 2)

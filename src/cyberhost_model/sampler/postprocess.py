"""Post-processing of a clip's latents, between sampling and decoding.

Not in the paper.

Both steps are for latents relative to the reference picture (`CodecTraits.relative`): their mean over time is a
movement between two movements, whereas the mean of two pictures' latents is a blur.
"""

from __future__ import annotations

import torch
from torch import Tensor

_PASSES = 5  # of a weighted mean of three frames, together a Gaussian with a deviation of 1.6 frames
_OPEN_GAP = 0.09  # gap of a wide open mouth, in face heights
# The decoder was trained on puppets, whose smiles close by three quarters: beyond half of a smile's gap a control
# closes less and less. Controls are extended by this share of the gap, so that lips close as far as the puppets'; more
# would thin them.
_EXTRA_CLOSING = 0.5


def smooth_over_time(z: Tensor, past: Tensor | None, control_channels: int) -> Tensor:
    """Average every frame of z (B, F, C, h, w) with its neighbours, without the last `control_channels` channels.

    A body then jitters less and moves as far; the controls of lips and lids, which are faster, stay as they are. past
    (B, M, C, h, w): the frames before the clip. Beyond the clip's end the movement is extrapolated, so that it does not
    halt where clips meet.
    """
    if z.shape[1] < 2:
        return z
    channels = z.shape[2] - control_channels
    body = z[:, :, :channels]
    for _ in range(_PASSES):
        before = 2 * body[:, :1] - body[:, 1:2] if past is None else past[:, -1:, :channels]
        padded = torch.cat([before, body, 2 * body[:, -1:] - body[:, -2:-1]], 1)
        body = (padded[:, :-2] + 2 * body + padded[:, 2:]) / 4
    return torch.cat([body, z[:, :, channels:]], 2)


def open_lips_by_audio(
    z: Tensor,
    opening: Tensor,
    control_maps: Tensor,
    lip_unit: float,
    lip_gap: float = 0.0,
    follows_keypoints: Tensor | None = None,
) -> Tensor:
    """Move the mouth's controls of z (B, F, C, h, w) to the mouth, and open the lips at least as the audio asks.

    A small face's mouth is less than a cell high: the denoiser predicts its opening well and its position a lip's
    breadth wrong, and teeth then appear on the chin. On pictures unlike the training data it may open no mouth at all.

    opening (B, F) in 0..1: share of a wide open mouth, from the audio. control_maps (B, F or 1, controls, h, w):
    positions of mouth and eyes. lip_unit: value of the lips' channel for a gap of one face height (`Codec.lip_unit`).
    lip_gap: gap of the lips in the picture, in face heights. Controls are changes since the picture, and an opening is
    the gap itself: so a smile closes in silence and opens as far as closed lips do. follows_keypoints (B, F), bool: key
    points drive the lips, so the denoised control is a change since the picture. Without them the denoiser hardly sees
    the picture's gap, and its control is taken for the gap itself.
    """
    first = z.shape[2] - control_maps.shape[2]
    mouth = slice(first, first + 2)
    position = control_maps[:, :, :1]
    amount = (z[:, :, mouth] * position).sum((3, 4)) / (position**2).sum((3, 4)).clamp_min(1e-6)
    rest, change = lip_gap / lip_unit, amount[:, :, 0]
    asked = opening.clamp(0, 1) * (_OPEN_GAP / lip_unit + rest)
    own = change if follows_keypoints is None else torch.where(follows_keypoints, change + rest, change)
    lips = torch.maximum(asked, own) - rest
    lips = lips - lips.clamp_max(0) ** 2 * (_EXTRA_CLOSING / max(rest, 1e-6))
    # Where the denoiser closes the mouth further than the picture's, it stays so in silence.
    lips = torch.where(own < 0, torch.minimum(lips, asked + change), lips)
    placed = torch.stack([lips, amount[:, :, 1]], 2)[..., None, None] * position
    return torch.cat([z[:, :, : mouth.start], placed, z[:, :, mouth.stop :]], 2)

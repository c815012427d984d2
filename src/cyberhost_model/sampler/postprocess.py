"""What is done to the latents of a clip after sampling and before decoding. Not in the paper.

Both steps are for latents relative to the reference picture (`CodecTraits.relative`), where zero is the picture itself:
their mean over time is a movement between two movements, where that of two pictures' latents is a blur.
"""

from __future__ import annotations

import torch
from torch import Tensor

_PASSES = 5  # of a mean of three frames; a frame then counts as a Gaussian of 1.6 frames to either side
_WIDE = 0.09  # gap of a wide open mouth, in face heights
# The decoder learnt from puppets, whose smiles close by three quarters: beyond half of a smile's gap a control closes
# less and less. This share of the gap more brings lips as near as the puppets'; a larger one thins them.
_CLOSING = 0.5


def smooth_over_time(z: Tensor, past: Tensor | None, control_channels: int) -> Tensor:
    """Average every frame of z (B, F, C, h, w) with its neighbours, without the last `control_channels` channels.

    A body then trembles less and moves as far; lips are quicker than bodies and stay as they are. past (B, M, C, h, w):
    the frames before. Beyond the clip's end a body is taken to go on as it does there, so that it does not halt where
    clips meet.
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
    """Place the mouth's control channels of z (B, F, C, h, w) where the mouth is, and open the lips at least as far as
    the sound asks.

    A small face's mouth is less than a cell high: the denoiser says well how far it opens and puts it a lip's breadth
    wrong, and teeth then appear on the chin. On pictures unlike those it learnt from it may find no mouth to open.

    opening (B, F) in 0..1, of a wide open mouth. control_maps (B, F or 1, controls, h, w): where mouth and eyes are.
    lip_unit: value of the lips' channel for a gap of one face height (`Codec.lip_unit`). lip_gap: how far the lips are
    apart in the picture, in face heights: an opening is a gap, and controls are changes of it, so a smile closes in
    silence and opens as far beyond itself as closed lips do. follows_keypoints (B, F), bool: key points told the
    denoiser how far the lips are apart in the picture; by itself it hardly sees that, and speaks as if they met.
    """
    first = z.shape[2] - control_maps.shape[2]
    mouth = slice(first, first + 2)
    there = control_maps[:, :, :1]
    amount = (z[:, :, mouth] * there).sum((3, 4)) / (there**2).sum((3, 4)).clamp_min(1e-6)
    rest, change = lip_gap / lip_unit, amount[:, :, 0]
    asked = opening.clamp(0, 1) * (_WIDE / lip_unit + rest)
    own = change if follows_keypoints is None else torch.where(follows_keypoints, change + rest, change)
    lips = torch.maximum(asked, own) - rest
    lips = lips - lips.clamp_max(0) ** 2 * (_CLOSING / max(rest, 1e-6))
    # A mouth that closes further than the picture's stays so in silence.
    lips = torch.where(own < 0, torch.minimum(lips, asked + change), lips)
    placed = torch.stack([lips, amount[:, :, 1]], 2)[..., None, None] * there
    return torch.cat([z[:, :, : mouth.start], placed, z[:, :, mouth.stop :]], 2)

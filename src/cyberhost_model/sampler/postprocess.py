"""Post-processing of a clip's latents, between sampling and decoding.

Not in the paper.

Both steps are for latents relative to the reference picture (`CodecTraits.relative`): their mean over time is a
movement between two movements, whereas the mean of two pictures' latents is a blur.
"""

from __future__ import annotations

import torch
from torch import Tensor

_PASSES = 5  # of a weighted mean of three frames, together a Gaussian with a deviation of 1.6 frames


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


def place_face_controls(z: Tensor, control_maps: Tensor) -> Tensor:
    """Move the face controls of z (B, F, C, h, w) to the mouth and the eyes; how large they are stays as denoised.

    A small face's mouth is less than a cell high: the denoiser predicts its opening well and its position a lip's
    breadth wrong, and teeth then appear on the chin. control_maps (B, F or 1, controls, h, w): positions of mouth and
    eyes (`face_control_maps`).
    """
    first = z.shape[2] - control_maps.shape[2]
    return torch.cat([z[:, :, :first], control_heights(z, control_maps)[..., None, None] * control_maps], 2)


def control_heights(z: Tensor, control_maps: Tensor) -> Tensor:
    """Measure how large the face controls of z (B, F, C, h, w) are at the mouth and the eyes -> (B, F, controls).

    control_maps: see `place_face_controls`. In the codec's deviations.
    """
    controls = z[:, :, -control_maps.shape[2] :]
    return (controls * control_maps).sum((3, 4)) / (control_maps**2).sum((3, 4)).clamp_min(1e-6)

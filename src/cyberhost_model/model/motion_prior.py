"""Priors of a clip's latents, from key points and from the previous clip. Not in the paper.

The Denoising U-Net predicts the residual (`Conditions.to_residual`). `PoseToLatent` predicts latents from the
displacement of key points: nine tenths of a driven body's movement follow from it and from the picture around each
point, and a few convolutions learn that in minutes, where the paper's networks are a thousand times as large.
`motion_prior` predicts that a body stays for a while as the previous clip left it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cyberhost_model.conditions.pose_shift import FINE, MAPS

_CONFIDENCE = 0.95  # of the previous clip's share: at 1 the first frames' deviation would be near 0
_WIDTH = 96
_BLOCKS = 4
_REACH = 2  # cells around a key point whose movement it determines


def motion_prior(
    last: Tensor,
    length: float,
    frames: int,
    control_channels: int = 0,
    prior: Tensor | None = None,
    pose_coverage: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Predict a clip from the newest motion frame: what it adds to `prior`, and the deviation of latents about that.

    Of frame k = 1, 2, ... the share c = exp(-(k / length)^2) of the last latent stays: the coefficients of a regression
    on the training clips lie on such a curve. The residual then has the deviation sqrt(1 - c^2).

    last (B, C, h, w): latent of the newest motion frame. prior (B, frames, C, h, w), from key points: its difference
    from `last` is what stays, except where key points determine the latents, pose_coverage (B, frames, 1, h, w) in
    0..1. The last `control_channels` channels follow the sound: lips do not stay. Returns (B, frames, C, h, w) and
    (B, frames, C, 1, 1) in 0..1.
    """
    k = torch.arange(1, frames + 1, device=last.device, dtype=last.dtype)
    share = torch.exp(-((k / length) ** 2))[:, None] * torch.ones(last.shape[1], device=last.device, dtype=last.dtype)
    share[:, last.shape[1] - control_channels :] = 0
    share = share[None, :, :, None, None]
    difference = last if prior is None else last - prior[:, 0]
    added = share * difference[:, None]
    prior_std = (1 - (_CONFIDENCE * share) ** 2).sqrt().expand(len(last), -1, -1, -1, -1)
    return added if pose_coverage is None else added * (1 - pose_coverage), prior_std


def measure_pose_coverage(pose_shift: Tensor) -> Tensor:
    """Measure where key points determine a clip's movement: (B, F, 10, 2h, 2w) -> (B, F, 1, h, w) in 0..1.

    Each point covers the cells up to two away, and so does the place that it left.
    """
    gaussians = torch.maximum(pose_shift[:, :, 2], pose_shift[:, :, -1]).flatten(0, 1)[:, None]
    near = F.max_pool2d(F.max_pool2d(gaussians, FINE), 2 * _REACH + 1, 1, _REACH)
    return F.avg_pool2d(near, 3, 1, 1, count_include_pad=False).clamp(0, 1).unflatten(0, pose_shift.shape[:2])


class PoseToLatent(nn.Module):
    """Displacement of key points -> latents. Zero at initialisation, and for a frame without key points."""

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.inlet = nn.Conv2d(MAPS * FINE**2 + latent_channels, _WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(8, _WIDTH),
                nn.SiLU(),
                nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            )
            for _ in range(_BLOCKS)
        )
        self.outlet = nn.Conv2d(_WIDTH, latent_channels, 3, padding=1)
        nn.init.zeros_(self.outlet.weight)
        nn.init.zeros_(self.outlet.bias)  # type: ignore[arg-type]

    def forward(self, pose_shift: Tensor, reference_latent: Tensor) -> Tensor:
        """Predict latents (B, F, C, h, w).

        pose_shift (B, F, 10, 2h, 2w) of `conditions.pose_shift`; reference_latent (B, C, h, w).
        """
        batch, frames = pose_shift.shape[:2]
        reference = reference_latent[:, None].expand(-1, frames, -1, -1, -1).flatten(0, 1)
        x = self.inlet(torch.cat([F.pixel_unshuffle(pose_shift.flatten(0, 1), FINE), reference], 1))
        for block in self.blocks:
            x = x + block(x)
        driven = pose_shift.abs().amax((2, 3, 4), keepdim=True) > 0
        return self.outlet(x).unflatten(0, (batch, frames)) * driven

"""PoseToLatent: the latents that key points alone lead one to expect.

Not in the paper, whose networks are a thousand times as large: nine tenths of how a driven body moves follow from the
shift of its key points and from what the picture shows around them, and a few convolutions learn that in minutes. The
denoiser is left what key points do not say.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cyberhost_model.conditions.pose_shift import FINE, MAPS

# What the clip before leads one to expect of the next: the body stays for a while as it was left.


_SURE = 0.95  # of what stays: were it all, the first frames would be left no way to differ


def motion_prior(
    last: Tensor,
    length: float,
    frames: int,
    control_channels: int = 0,
    prior: Tensor | None = None,
    pose_coverage: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What is to be added to `prior` for a clip that goes on where `last` (B, C, h, w), the newest motion frame's
    latent, leaves off (B, frames, C, h, w), and how far frames spread about that, against latents of which nothing is
    known (B, frames, C, 1, 1), 0..1.

    Of frame k = 1, 2, ... c = exp(-(k / length)^2) stays: the coefficients of a regression on the training clips lie on
    such a curve. What is left has the deviation sqrt(1 - c^2) then. prior (B, frames, C, h, w), by key points: it is
    where the body is beside them that stays, but where they say all, `pose_coverage` (B, frames, 1, h, w) in 0..1. The
    last channels, `control_channels` of them, are left to the sound: lips do not stay.
    """
    k = torch.arange(1, frames + 1, device=last.device, dtype=last.dtype)
    stays = torch.exp(-((k / length) ** 2))[:, None] * torch.ones(last.shape[1], device=last.device, dtype=last.dtype)
    stays[:, last.shape[1] - control_channels :] = 0
    stays = stays[None, :, :, None, None]
    left = last if prior is None else last - prior[:, 0]
    added = stays * left[:, None]
    prior_std = (1 - (_SURE * stays) ** 2).sqrt().expand(len(last), -1, -1, -1, -1)
    return added if pose_coverage is None else added * (1 - pose_coverage), prior_std


_WIDTH = 96
_BLOCKS = 4
_NEAR = 2  # cells around a key point where it says how everything moves


def measure_pose_coverage(pose_shift: Tensor) -> Tensor:
    """Where key points say how a clip moves, 0..1: (B, F, 7, 2h, 2w) -> (B, F, 1, h, w).

    A point speaks for two cells around it.
    """
    bells = pose_shift[:, :, 2].flatten(0, 1)[:, None]
    near = F.max_pool2d(F.max_pool2d(bells, FINE), 2 * _NEAR + 1, 1, _NEAR)
    return F.avg_pool2d(near, 3, 1, 1, count_include_pad=False).clamp(0, 1).unflatten(0, pose_shift.shape[:2])


class PoseToLatent(nn.Module):
    """Zero at initialisation, and for a frame without key points."""

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
        """pose_shift (B, F, 7, 2h, 2w) of `conditions.pose_shift`, reference_latent (B, C, h, w) -> (B, F, C, h, w)."""
        batch, frames = pose_shift.shape[:2]
        shown = reference_latent[:, None].expand(-1, frames, -1, -1, -1).flatten(0, 1)
        x = self.inlet(torch.cat([F.pixel_unshuffle(pose_shift.flatten(0, 1), FINE), shown], 1))
        for block in self.blocks:
            x = x + block(x)
        driven = pose_shift.abs().amax((2, 3, 4), keepdim=True) > 0
        return self.outlet(x).unflatten(0, (batch, frames)) * driven

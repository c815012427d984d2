"""FrameNorm: the motion modules' GroupNorm with the statistics of one frame."""

from __future__ import annotations

from torch import Tensor, nn


class FrameNorm(nn.GroupNorm):
    """AnimateDiff's own code, and all that descends from it, normalises every frame of a clip by itself; diffusers normalises the clip as one.

    The weights have the same names.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, h, w), of the same shape out."""
        frames = x.transpose(1, 2)
        return super().forward(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)

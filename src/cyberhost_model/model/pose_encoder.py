"""PoseEncoder: maps of the picture's size (skeleton, body movement) to a residual on the U-Net's first features (section 3.3)."""

from __future__ import annotations

from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from torch import Tensor, nn
from torch.nn import functional


class PoseEncoder(nn.Module):
    """Strided convolutions, the last layer zero at the start: diffusers' ControlNet embedding, which the AnimateAnyone family also uses."""

    def __init__(self, channels: tuple[int, ...], out_channels: int, pool: int) -> None:
        super().__init__()
        self.pool = pool
        self.layers = ControlNetConditioningEmbedding(out_channels, 3, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """maps (B, 3, H, W) in 0..1 -> (B, C0, h, w)."""
        if self.pool > 1:
            maps = functional.avg_pool2d(maps, self.pool)
        return self.layers(maps)

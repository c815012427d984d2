"""HandEncoder and FaceEncoder: the Regional Image Encoder R, which makes identity descriptors of cropped pictures (section 3.2)."""

from __future__ import annotations

import torch
from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D
from torch import Tensor, nn

from cyberhost_model.presets import RegionConfig

HAND_CROP = 128  # pixels, section 3.2
FACE_CROP = 256  # pixels, section 3.2
ARCFACE_DIM = 512
ARCFACE_TOKENS = 4


class CropEncoder(nn.Module):
    """A deeper Pose Encoder: every entry of `channels` halves the crop; all but the first have a residual block. One token a pixel."""

    def __init__(self, crop: int, channels: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels[0], 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            DownEncoderBlock2D(a, b, num_layers=1, resnet_groups=8)
            for a, b in zip(channels[:-1], channels[1:], strict=True)
        )
        side = crop // 2 ** len(channels)
        self.position = nn.Parameter(torch.randn(1, side * side, channels[-1]) * 0.02)
        self.norm = nn.LayerNorm(channels[-1])
        self.out = nn.Linear(channels[-1], dim)

    def forward(self, crops: Tensor) -> Tensor:
        """(B, 3, crop, crop) in [-1, 1] -> (B, tokens, dim)."""
        x = self.conv_in(crops)
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x.flatten(2).mT + self.position))


class HandEncoder(nn.Module):
    """Both hands' crops -> one descriptor: the tokens of the left hand, then those of the right."""

    def __init__(self, config: RegionConfig) -> None:
        super().__init__()
        self.encoder = CropEncoder(HAND_CROP, config.hand_channels, config.identity_dim)
        self.side = nn.Parameter(torch.randn(2, 1, config.identity_dim) * 0.02)

    def forward(self, hands: Tensor) -> Tensor:
        """(B, 2, 3, 128, 128) in [-1, 1], left and right; zeros where a hand is not seen -> (B, 2 * tokens, D)."""
        tokens = self.encoder(hands.flatten(0, 1)).unflatten(0, (-1, 2)) + self.side
        seen = hands.flatten(2).any(dim=-1)[..., None, None]  # a hand that is not seen describes nothing
        return (tokens * seen).flatten(1, 2)


class FaceEncoder(nn.Module):
    """The face -> its descriptor, from the crop by convolutions of our own or from an ArcFace feature the caller computed.

    ArcFace (the paper's choice) is a pretrained network under a non-commercial licence; it stays outside, only its 512 numbers enter.
    """

    def __init__(self, config: RegionConfig) -> None:
        super().__init__()
        self.takes_arcface = not config.face_channels
        if self.takes_arcface:
            self.project = nn.Linear(ARCFACE_DIM, ARCFACE_TOKENS * config.identity_dim)
            self.norm = nn.LayerNorm(config.identity_dim)
        else:
            self.encoder = CropEncoder(FACE_CROP, config.face_channels, config.identity_dim)

    def forward(self, face: Tensor) -> Tensor:
        """(B, 3, 256, 256) in [-1, 1], or (B, 512) for an ArcFace preset; zeros where there is none -> (B, tokens, D)."""
        if self.takes_arcface:
            tokens = self.norm(self.project(face).unflatten(-1, (ARCFACE_TOKENS, -1)))
        else:
            tokens = self.encoder(face)
        return tokens * face.flatten(1).any(dim=-1)[:, None, None]

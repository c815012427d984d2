"""ReferenceCodec: the tiny preset's autoencoder. It codes a frame against the reference picture.

The paper's latents come from Stable Diffusion's VAE (section 3.1). A small VAE trained from scratch blurs eyes and fingers, so here the decoder may
also look at the reference: the latent `z` says where each pixel comes from (a flow), which pixels are new (a mask) and what they look like
(a coarse colour). What the reference shows stays as sharp as the reference. The idea of warping a source by a decoded flow is that of
Siarohin et al., "First Order Motion Model" (2019) and, with diffusion in the latent, Ni et al., "LFDM" (2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FLOW_UNIT = 16.0  # pixels of a 256-pixel picture a unit of the flow head stands for
_STILL = 0.12  # pixels: smaller flows are still background, exactly zero


@dataclass
class ReferenceCodecConfig:
    """Channels of `z` and `r`, widths at 1/4, 1/8 and 1/16 of the picture's size."""

    latent_channels: int = 24
    widths: tuple[int, int, int] = (32, 80, 160)
    downscale: int = 16


@dataclass
class Decoded:
    """What a latent says of a frame: flow (B, 2, H/2, W/2) in pixels, seen (B, 1, H/2, W/2) logits, colour (B, 3, H, W) in about -1..1."""

    flow: Tensor
    seen: Tensor
    colour: Tensor


class _Res(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.body = nn.Sequential(nn.GroupNorm(8, c), nn.SiLU(), nn.Conv2d(c, c, 3, padding=1), nn.SiLU(), nn.Conv2d(c, c, 3, padding=1))
        nn.init.zeros_(self.body[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _Pyramid(nn.Module):
    """Pictures (B, 3k, H, W) -> features at 1/4, 1/8, 1/16."""

    def __init__(self, channels: int, widths: tuple[int, int, int]):
        super().__init__()
        a, b, c = widths
        self.quarter = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(channels * 16, a, 3, padding=1), _Res(a))
        self.eighth = nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), _Res(b))
        self.sixteenth = nn.Sequential(nn.Conv2d(b, c, 3, stride=2, padding=1), _Res(c), _Res(c))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quarter = self.quarter(x)
        eighth = self.eighth(quarter)
        return quarter, eighth, self.sixteenth(eighth)


class ReferenceCodec(nn.Module):
    """See the module's text. Pictures are (B, 3, H, W) in -1..1, sides multiples of 16."""

    def __init__(self, config: ReferenceCodecConfig | None = None):
        super().__init__()
        self.config = config = config or ReferenceCodecConfig()
        (a, b, c), n = config.widths, config.latent_channels
        self.motion = _Pyramid(6, config.widths)
        self.to_z = nn.Conv2d(c, 2 * n, 1)
        self.appearance = _Pyramid(3, config.widths)
        self.to_r = nn.Conv2d(c, n, 1)
        self.join = nn.Sequential(nn.Conv2d(2 * n, c, 3, padding=1), _Res(c), _Res(c))
        self.up_eighth = nn.Conv2d(c, b, 3, padding=1)
        self.at_eighth = nn.Sequential(nn.Conv2d(2 * b, b, 1), _Res(b))
        self.up_quarter = nn.Conv2d(b, a, 3, padding=1)
        self.at_quarter = nn.Sequential(nn.Conv2d(2 * a, a, 1), _Res(a), nn.SiLU())
        self.to_motion = nn.Sequential(nn.Conv2d(a, 3 * 4, 3, padding=1), nn.PixelShuffle(2))
        self.to_colour = nn.Sequential(nn.Conv2d(a, 3 * 16, 3, padding=1), nn.PixelShuffle(4))
        nn.init.zeros_(self.to_motion[0].weight)
        nn.init.zeros_(self.to_motion[0].bias)
        # Latents reach the diffusion model with zero mean and unit deviation a channel (measured once after training).
        self.register_buffer("z_mean", torch.zeros(n))
        self.register_buffer("z_std", torch.ones(n))
        self.register_buffer("r_mean", torch.zeros(n))
        self.register_buffer("r_std", torch.ones(n))

    def _normed(self, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        return (x - mean[:, None, None]) / std[:, None, None]

    def encode_reference(self, reference: Tensor) -> Tensor:
        """The reference's own latent r (B, C, h, w): appearance and place of its parts. reference (B, 3, H, W)."""
        return self._normed(self.to_r(self.appearance(reference)[2]), self.r_mean, self.r_std)

    def posterior(self, frames: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the raw latent, (B, C, h, w) each; frames and reference (B, 3, H, W) pair by pair."""
        mean, logvar = self.to_z(self.motion(torch.cat([frames, reference], 1))[2]).chunk(2, 1)
        return mean, logvar.clamp(-12, 4)

    def encode(self, frames: Tensor, reference: Tensor) -> Tensor:
        """frames (B, F, 3, H, W) against reference (B, 3, H, W) -> z (B, F, C, h, w)."""
        b, f = frames.shape[:2]
        pair = reference[:, None].expand(-1, f, -1, -1, -1).flatten(0, 1)
        mean, _ = self.posterior(frames.flatten(0, 1), pair)
        return self._normed(mean, self.z_mean, self.z_std).unflatten(0, (b, f))

    def read(self, raw_z: Tensor, pyramid: tuple[Tensor, Tensor, Tensor]) -> Decoded:
        """Decode raw latents (B, C, h, w) beside the reference's features (each (B, ...)) into flow, mask and colour."""
        quarter, eighth, sixteenth = pyramid
        x = self.join(torch.cat([raw_z, self.to_r(sixteenth)], 1))
        x = self.up_eighth(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.at_eighth(torch.cat([x, eighth], 1))
        x = self.up_quarter(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.at_quarter(torch.cat([x, quarter], 1))
        flow, seen = self.to_motion(x).split([2, 1], 1)
        flow = flow * _FLOW_UNIT
        size = (flow**2).sum(1, keepdim=True).add(1e-8).sqrt()
        return Decoded(flow * (1 - _STILL / size).clamp_min(0), seen + 3.0, self.to_colour(x))

    def decode(self, z: Tensor, reference: Tensor, picture: Tensor | None = None) -> Tensor:
        """z (B, F, C, h, w) and reference (B, 3, H, W) -> frames (B, F, 3, H, W), or of the size of `picture`: the reference, larger."""
        b, f = z.shape[:2]
        raw = z * self.z_std[:, None, None] + self.z_mean[:, None, None]
        pyramid = self.appearance(reference)
        wide = tuple(p[:, None].expand(-1, f, -1, -1, -1).flatten(0, 1) for p in pyramid)
        decoded = self.read(raw.flatten(0, 1), wide)  # type: ignore[arg-type]
        source = reference if picture is None else picture
        source = source[:, None].expand(-1, f, -1, -1, -1).flatten(0, 1)
        return compose(decoded, source, "bicubic").clamp(-1, 1).unflatten(0, (b, f))


def warp(picture: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """`picture` (B, 3, H, W) read at each pixel's own place plus `flow` (B, 2, H, W) in its pixels."""
    h, w = picture.shape[-2:]
    y, x = torch.meshgrid(torch.arange(h, device=flow.device, dtype=flow.dtype), torch.arange(w, device=flow.device, dtype=flow.dtype), indexing="ij")
    grid = torch.stack([(x + flow[:, 0] + 0.5) * (2 / w) - 1, (y + flow[:, 1] + 0.5) * (2 / h) - 1], -1)
    return F.grid_sample(picture, grid, mode=mode, padding_mode="border", align_corners=False)


def compose(decoded: Decoded, picture: Tensor, mode: str = "bilinear") -> Tensor:
    """The frame: the picture (B, 3, H', W') moved by the flow where it shows what is needed, the decoded colour elsewhere."""
    h, w = picture.shape[-2:]
    scale = h / decoded.colour.shape[-2]
    flow = F.interpolate(decoded.flow, size=(h, w), mode="bilinear", align_corners=False) * scale
    seen = F.interpolate(decoded.seen, size=(h, w), mode="bilinear", align_corners=False).sigmoid()
    colour = decoded.colour if scale == 1 else F.interpolate(decoded.colour, size=(h, w), mode="bicubic", align_corners=False)
    return colour + (warp(picture, flow, mode) - colour) * seen

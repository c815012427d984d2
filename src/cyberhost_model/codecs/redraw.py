"""Redrawing a picture by the maps that a latent of `ReferenceCodec` decodes to: its pixels move, and new ones appear.

Training needs gradients and GPUs have their own kernels, so there it is done by torch. On a CPU OpenCV does the same in
a third of the time, in float32 and with the colours of a pixel side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cyberhost_model.device import supported_device

_STILL = 0.12  # pixels: shorter flows are background and become zero


@dataclass
class DecodedMaps:
    """Maps of a frame that a latent decodes to, before they are applied to a picture (`compose`)."""

    flow: Tensor
    """(B, 2, H/2, W/2), in pixels of the full size."""
    visible: Tensor
    """(B, 1, H/2, W/2), logits: whether the reference shows the pixel."""
    colour: Tensor
    """(B, 3, H, W), about -1..1: colour of pixels that it does not show."""


def zero_small_flow(flow: Tensor) -> Tensor:
    """Set flows (B, 2, H, W) shorter than a tenth of a pixel to zero, so that resampling does not blur the background.

    Not for training: the gradient is zero there.
    """
    size = (flow**2).sum(1, keepdim=True).add(1e-8).sqrt()
    return flow * (1 - _STILL / size).clamp_min(0)


def compose(maps: DecodedMaps, picture: Tensor, mode: str = "bilinear", stretch: float = 0.0) -> Tensor:
    """Warp the picture (B, 3, H', W') by the flow where it shows what is needed, and take the colour elsewhere.

    mode: how the picture is sampled, "bilinear" or "bicubic". stretch: share by which the mask of visibility reaches
    beyond 0..1 before it is limited.
    """
    h, w = picture.shape[-2:]
    scale = h / maps.colour.shape[-2]
    if mode == "bicubic" and _by_opencv(picture):
        return _from_pixels(np.stack(list(_composed(maps, picture, scale, stretch))), picture.dtype)
    flow = F.interpolate(maps.flow.float(), size=(h, w), mode="bilinear", align_corners=False) * scale
    visible = F.interpolate(maps.visible, size=(h, w), mode="bilinear", align_corners=False).sigmoid()
    if stretch:
        visible = ((1 + 2 * stretch) * visible - stretch).clamp(0, 1)
    colour = maps.colour
    if scale != 1:
        colour = F.interpolate(colour, size=(h, w), mode="bicubic", align_corners=False)
    return colour + (warp(picture, flow, mode) - colour) * visible


def warp(picture: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """Sample `picture` (B, 3, H, W) at each pixel's position plus `flow` (B, 2, H, W), in pixels.

    mode: "bilinear" or "bicubic". Computed in float32: half precision is too coarse for positions in a large picture,
    and its bicubic sampling is broken on the CPU.
    """
    h, w = picture.shape[-2:]
    device = supported_device(picture.device)
    flow = flow.to(device, torch.float32)
    y, x = torch.meshgrid(
        torch.arange(h, device=device, dtype=torch.float32),
        torch.arange(w, device=device, dtype=torch.float32),
        indexing="ij",
    )
    grid = torch.stack([(x + flow[:, 0] + 0.5) * (2 / w) - 1, (y + flow[:, 1] + 0.5) * (2 / h) - 1], -1)
    source = picture.to(device, torch.float32)
    moved = F.grid_sample(source, grid, mode=mode, padding_mode="border", align_corners=False)
    return moved.to(picture.device, picture.dtype)


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample maps (N, C, h, w) at a larger `size` (H, W), bilinear."""
    if not _by_opencv(x):
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    large = [_resize(source, size, cv2.INTER_LINEAR) for source in _pixels(x)]
    return _from_pixels(np.stack(large), x.dtype)


def _by_opencv(x: Tensor) -> bool:
    """Return whether OpenCV may do it: on a CPU, where no gradient is needed."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def _composed(maps: DecodedMaps, picture: Tensor, scale: float, stretch: float) -> Iterator[np.ndarray]:
    """Do what `compose` does, frame by frame, float32 (H', W', 3)."""
    size = h, w = picture.shape[-2], picture.shape[-1]
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    each = (_pixels(values) for values in (picture, maps.flow, maps.visible, maps.colour))
    for source, flow, visible, colour in zip(*each, strict=True):
        across, down = cv2.split(_resize(flow, size, cv2.INTER_LINEAR))
        across, down = cv2.scaleAdd(across, scale, x), cv2.scaleAdd(down, scale, y)
        moved = cv2.remap(source, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        share = 1 / (1 + cv2.exp(-_resize(visible[..., 0], size, cv2.INTER_LINEAR)))
        if stretch:
            share = np.clip((1 + 2 * stretch) * share - stretch, 0, 1, out=share)
        colour = colour if scale == 1 else _resize(colour, size, cv2.INTER_CUBIC)
        cv2.subtract(moved, colour, moved)
        cv2.multiply(moved, cv2.merge([share] * 3), moved)
        yield cv2.add(moved, colour, moved)


def _resize(x: np.ndarray, size: tuple[int, int], way: int) -> np.ndarray:
    """Resample (h, w) or (h, w, n) at `size` (H, W)."""
    return x if x.shape[:2] == size else cv2.resize(x, size[::-1], interpolation=way)


def _pixels(x: Tensor) -> np.ndarray:
    """Lay the numbers of a pixel side by side: (N, C, H, W) -> float32 (N, H, W, C)."""
    return x.float().permute(0, 2, 3, 1).contiguous().numpy()


def _from_pixels(x: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Invert `_pixels`; in memory the numbers of a pixel stay side by side."""
    return torch.from_numpy(x).permute(0, 3, 1, 2).to(dtype)

"""CloseUp: the face around the mouth, cut out and enlarged.

In a half-body picture a mouth is a few of the codec's pixels high: too little for it to tell lips from teeth, and it
then moves neither. So it parts the lips here, where they are large, on the picture as it stands; the frame's flow then
moves that instead of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cyberhost_model.device import supported_device

SIDE = 160
"""Pixels of the enlarged square, a multiple of the codec's 16."""
FACES = 1.8
"""Its side in face heights (chin to brows), as in the close-ups the codec learned (`training.codec_stage`)."""
_FULL, _NONE = 0.55, 0.95  # shares of the half side: what is parted counts wholly up to here, and no more from here on


@dataclass(frozen=True)
class CloseUp:
    """corner (x, y) and side of the square in pixels of the picture, which it may leave; small (B, 3, SIDE, SIDE) in
    -1..1; control_maps (B, controls, SIDE / 16, SIDE / 16), where its controls stand (`face_control_maps`).
    """

    corner: tuple[int, int]
    side: int
    small: Tensor
    control_maps: Tensor

    @property
    def window(self) -> Tensor:
        """How much of the square counts, (side, side) in 0..1: all in its middle, nothing at its edge."""
        across = torch.linspace(-1, 1, self.side, device=self.small.device, dtype=self.small.dtype).abs()
        share = ((_NONE - across) / (_NONE - _FULL)).clamp(0, 1)
        share = share * share * (3 - 2 * share)
        return share[:, None] * share[None]

    def cut(self, picture: Tensor) -> Tensor:
        """The square out of (B, 3, H, W); where it leaves the picture the edge goes on."""
        (x, y), (h, w) = self.corner, picture.shape[-2:]
        rows = torch.arange(y, y + self.side, device=picture.device).clamp(0, h - 1)
        columns = torch.arange(x, x + self.side, device=picture.device).clamp(0, w - 1)
        return picture[..., rows, :][..., columns]

    def put(self, square: Tensor, picture: Tensor) -> Tensor:
        """`picture` (B, 3, H, W) with the square (B, 3, side, side) on it."""
        (x, y), (h, w) = self.corner, picture.shape[-2:]
        top, left, bottom, right = max(y, 0), max(x, 0), min(y + self.side, h), min(x + self.side, w)
        inside = slice(top - y, bottom - y), slice(left - x, right - x)
        out = picture.clone()
        under = out[..., top:bottom, left:right]
        under += (square[..., inside[0], inside[1]] - under) * self.window[inside]
        return out


def enlarge(picture: Tensor, corner: tuple[int, int], side: int, control_maps: Tensor) -> CloseUp:
    """The square of `picture` (B, 3, H, W); see `CloseUp`."""
    square = CloseUp(corner, side, picture, control_maps).cut(picture)
    square = square.to(supported_device(picture.device), torch.float32)
    small = F.interpolate(square, size=(SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)
    return CloseUp(corner, side, small.to(picture.device, picture.dtype), control_maps)

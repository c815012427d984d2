"""CloseUp: a square around the mouth or the eyes, cropped from the picture and enlarged.

In a half-body picture a mouth is a few of the codec's pixels high, and an eye even less: too small to tell lips from
teeth or a lid from an eye, and neither would move. So the codec moves them on these squares, where they are large; the
frame's flow then moves the result instead of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cyberhost_model.device import supported_device
from cyberhost_model.perception import face_controls
from cyberhost_model.perception.geometry import face_height

SIDE = 160
"""Side of the enlarged square in pixels, a multiple of the codec's 16."""
_BLEND_FROM, _BLEND_TO = 0.55, 0.95  # shares of the half side between which the square fades into the picture


@dataclass(frozen=True)
class Part:
    """A part of the face that moves in close-up, in use and in the codec's training (`lab.training.stages.codec`)."""

    points: slice
    """Its points among the 68; their mean is the middle of the square."""
    side: float
    """Side of the square in face heights (chin to brows)."""
    controls: slice
    """The face controls that move it (`perception.face_controls.CONTROLS`)."""
    rests: float
    """Deviations of its controls below which it is not decoded in close-up: too little to see."""
    spacing: tuple[float, ...]
    """Deviations of each control between looks that a video decodes (`CloseUpTable`); those between are interpolated.
    """
    usual: tuple[tuple[float, float], ...]
    """Deviations of each control between which most frames of a speech are."""

    def square(self, face: np.ndarray) -> tuple[np.ndarray, float]:
        """Place its square over the 68 points (68, 2) of a face: top left corner (x, y) and side, in their unit."""
        side = self.side * face_height(face)
        return face[self.points].mean(0) - side / 2, side


MOUTH = Part(face_controls.MOUTH, 1.8, slice(0, 2), 0.05, (0.5, 3.0), ((-5.0, 3.5), (-12.0, 0.0)))
EYES = Part(slice(36, 48), 1.2, slice(2, 3), 0.2, (0.25,), ((-7.0, 0.5),))


@dataclass(frozen=True)
class CloseUp:
    """A square of the picture around a part of the face, and its copy at the codec's size."""

    part: Part
    corner: tuple[int, int]
    """(x, y) in pixels of the picture; the square may reach beyond its edges."""
    side: int
    """In pixels of the picture."""
    small: Tensor
    """(B, 3, SIDE, SIDE) in -1..1."""
    control_maps: Tensor
    """(B, controls, SIDE / 16, SIDE / 16): positions of mouth and eyes in the square (`face_control_maps`)."""

    @cached_property
    def window(self) -> Tensor:
        """Weight of the square when it is pasted, (side, side): 1 in its middle, 0 at its edge."""
        across = torch.linspace(-1, 1, self.side, device=self.small.device, dtype=self.small.dtype).abs()
        share = ((_BLEND_TO - across) / (_BLEND_TO - _BLEND_FROM)).clamp(0, 1)
        share = share * share * (3 - 2 * share)
        return share[:, None] * share[None]

    def crop(self, picture: Tensor) -> Tensor:
        """Copy the square out of (B, 3, H, W) -> (B, 3, side, side); beyond the picture its edge is repeated."""
        (x, y), (h, w) = self.corner, picture.shape[-2:]
        if 0 <= x <= w - self.side and 0 <= y <= h - self.side:
            return picture[..., y : y + self.side, x : x + self.side].clone()
        rows = torch.arange(y, y + self.side, device=picture.device).clamp(0, h - 1)
        columns = torch.arange(x, x + self.side, device=picture.device).clamp(0, w - 1)
        return picture[..., rows, :][..., columns]

    def paste(self, square: Tensor, picture: Tensor) -> Tensor:
        """Blend the square (B, 3, side, side) into `picture` (B, 3, H, W), which is changed and returned."""
        (x, y), (h, w) = self.corner, picture.shape[-2:]
        top, left, bottom, right = max(y, 0), max(x, 0), min(y + self.side, h), min(x + self.side, w)
        inside = slice(top - y, bottom - y), slice(left - x, right - x)
        under = picture[..., top:bottom, left:right]
        under += (square[..., inside[0], inside[1]] - under) * self.window[inside]
        return picture


def make_close_up(picture: Tensor, part: Part, corner: tuple[int, int], side: int, control_maps: Tensor) -> CloseUp:
    """Crop a square of `picture` (B, 3, H, W) and enlarge it; arguments are the fields of `CloseUp`."""
    square = CloseUp(part, corner, side, picture, control_maps).crop(picture)
    square = square.to(supported_device(picture.device), torch.float32)
    small = F.interpolate(square, size=(SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)
    return CloseUp(part, corner, side, small.to(picture.device, picture.dtype), control_maps)

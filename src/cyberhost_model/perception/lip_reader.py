"""LipReader: measures the gap between lips in a picture of the mouth.

The face network places 68 points to 2% of the face's height each, and a gap between lips is 2 to 8% of it: the gap
between its inner lips is no measure of the mouth. They are good enough to cut the mouth out, and in that picture a
small network measures the gap as one number.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from cyberhost_model.perception.crops import rotated_crop
from cyberhost_model.perception.geometry import down_direction, face_height
from cyberhost_model.perception.heat_net import normalise_crops
from cyberhost_model.perception.keypoints import LIPS

CROP = 48, 64
"""(H, W) of the picture of a mouth in pixels."""
SPAN = 0.62
"""Its width in face heights."""
_UNIT = 0.05  # of the network's output in face heights: half of what a smile opens
# Inner upper and lower lip, the outer ones above and below them, and the gap there as a share of the mean gap: lips
# meet in the corners.
_PAIRS = ((61, 67, 50, 58, 0.9), (62, 66, 51, 57, 1.2), (63, 65, 52, 56, 0.9))
_THIN = 0.012  # face heights: a lip stays as thick where its inner edge would come out of the outer one


class LipReader(nn.Module):
    """Estimates the gap of the lips from pictures that `crop_mouth` cuts. No norm depends on the batch."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(4, b), nn.SiLU()]
        cells = CROP[0] * CROP[1] // 4 ** len(widths)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(widths[-1] * cells, 1))

    def forward(self, crops_u8: torch.Tensor) -> torch.Tensor:
        """Estimate the gap (N,) in face heights, chin to brows, from uint8 (N, 48, 64, 3).

        It is about 0 where lips meet, and hardly above 0.15.
        """
        return self.body(normalise_crops(crops_u8))[:, 0] * _UNIT


def crop_mouth(picture_u8: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Cut the mouth out of `picture_u8` (H, W, 3), upright and of one size: uint8 (48, 64, 3).

    face: 68 points (68, 2) in pixels.
    """
    return middle_rows(crop_about_mouth(picture_u8, face, SPAN, CROP[1]))


def crop_about_mouth(picture_u8: np.ndarray, face: np.ndarray, span: float, side: int) -> np.ndarray:
    """Cut the upright square of `span` face heights about the mouth: uint8 (side, side, 3).

    face: 68 points (68, 2) in pixels.
    """
    down = down_direction(face)
    return rotated_crop(
        picture_u8, face[LIPS].mean(0), span * face_height(face), float(np.arctan2(-down[0], down[1])), side
    )[0]


def middle_rows(square: np.ndarray) -> np.ndarray:
    """Cut the middle rows of (64, 64, 3): (48, 64, 3)."""
    rest = (CROP[1] - CROP[0]) // 2
    return square[rest : rest + CROP[0]]


def set_lip_gap(face: np.ndarray, gap: float) -> np.ndarray:
    """Move the inner lips of 68 points (68, 2) `gap` face heights apart (0 and more), as `lips_gap` measures it.

    Returns a copy. The inner lips part about their own middle; outer ones move only where the inner ones would come out
    of them.
    """
    out, down, height = face.copy(), down_direction(face), face_height(face)
    for high, low, above, below, share in _PAIRS:
        middle = (face[high] + face[low]) / 2
        for inner, outer, side in ((high, above, -1), (low, below, 1)):
            out[inner] += ((middle - face[inner]) @ down + side * max(gap, 0.0) * share * height / 2) * down
            out[outer] += side * max(0.0, _THIN * height - side * float((face[outer] - out[inner]) @ down)) * down
    return out

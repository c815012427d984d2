"""LipReader: how far lips are apart, read off a picture of the mouth.

The face network places 68 points to 2% of the face's height each, and a gap between lips is 2 to 8% of it: the gap
between its inner lips says nothing of the mouth. Where the mouth is they know well enough to cut it out, and off that
picture a small network reads the gap as one number.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from cyberhost_model.perception.crops import turned_crop
from cyberhost_model.perception.geometry import face_height, upright
from cyberhost_model.perception.heat_net import normalised
from cyberhost_model.perception.keypoints import LIPS

CROP = 48, 64
"""(H, W) of the picture of a mouth in pixels."""
SPAN = 0.62
"""Its width in face heights."""
_UNIT = 0.05  # of the network's output in face heights: half of what a smile opens
# Inner upper and lower lip, the outer ones above and below them, and the gap there in shares of the mean one: lips meet
# in the corners.
_PAIRS = ((61, 67, 50, 58, 0.9), (62, 66, 51, 57, 1.2), (63, 65, 52, 56, 0.9))
_THIN = 0.012  # face heights: a lip stays as thick where its inner edge would come out of the outer one


class LipReader(nn.Module):
    """Pictures of mouths as `mouth_crop` cuts them -> the lips' gap. No norm depends on the batch."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(4, b), nn.SiLU()]
        cells = CROP[0] * CROP[1] // 4 ** len(widths)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(widths[-1] * cells, 1))

    def forward(self, crops_u8: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 48, 64, 3) -> the gap (N,) in face heights, chin to brows; about 0 where lips meet, hardly above
        0.15.
        """
        return self.body(normalised(crops_u8))[:, 0] * _UNIT


def mouth_crop(picture_u8: np.ndarray, face: np.ndarray) -> np.ndarray:
    """uint8 (48, 64, 3): the mouth of `picture_u8` (H, W, 3), upright and of one size.

    face: 68 points (68, 2) in pixels.
    """
    return middle_rows(about_mouth(picture_u8, face, SPAN, CROP[1]))


def about_mouth(picture_u8: np.ndarray, face: np.ndarray, span: float, side: int) -> np.ndarray:
    """uint8 (side, side, 3): the upright square of `span` face heights about the mouth of 68 points (68, 2) in
    pixels.
    """
    down = upright(face)
    return turned_crop(
        picture_u8, face[LIPS].mean(0), span * face_height(face), float(np.arctan2(-down[0], down[1])), side
    )[0]


def middle_rows(square: np.ndarray) -> np.ndarray:
    """(64, 64, 3) -> (48, 64, 3)."""
    rest = (CROP[1] - CROP[0]) // 2
    return square[rest : rest + CROP[0]]


def with_gap(face: np.ndarray, gap: float) -> np.ndarray:
    """68 points (68, 2), a copy, whose inner lips are `gap` of their face height apart (0 and more), as `face_cues`
    measures it.

    The inner lips part about their own middle; outer ones move only where the inner ones would come out of them.
    """
    out, down, height = face.copy(), upright(face), face_height(face)
    for high, low, above, below, share in _PAIRS:
        middle = (face[high] + face[low]) / 2
        for inner, outer, side in ((high, above, -1), (low, below, 1)):
            out[inner] += ((middle - face[inner]) @ down + side * max(gap, 0.0) * share * height / 2) * down
            out[outer] += side * max(0.0, _THIN * height - side * float((face[outer] - out[inner]) @ down)) * down
    return out

"""How well a codec brings frames back from their own latents, no network between: PSNR whole, of mouth and hands."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from cyberhost_model.codecs.base import Codec
from cyberhost_model.lab.synthetic.clips import Clip
from cyberhost_model.lab.training.codec_inputs import codec_close_ups, to_signed
from cyberhost_model.perception.keypoints import LIPS, VISIBLE, Keypoints
from cyberhost_model.runtime.prepare import to_pixels

REGIONS = ("whole", "mouth", "hands")
GOALS = {"whole": 33.0, "mouth": 28.0, "hands": 30.0}
"""dB below which a codec is too poor for what it coded: a network learns its errors."""
FRAMES = 4
"""Frames of a clip that are measured."""
_MOST = 60.0  # dB that a frame counts at most: equal pixels have no bound


@dataclass
class Fidelity:
    """PSNR of decoded frames in dB, a value for each frame that shows the region."""

    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in REGIONS})

    def add(self, codec: Codec, clip: Clip, z: Tensor, frames: int | None = FRAMES) -> None:
        """Decode frames of a clip from its latents z (T, C, h, w) and compare them with it.

        frames: so many, at equal distances; None: all.
        """
        chosen = np.unique(np.linspace(0, len(z) - 1, frames or len(z)).round().astype(int))
        for i, decoded in zip(chosen, decode_clip(codec, clip, z[chosen]), strict=True):
            frame = clip.frames[i]
            error = (decoded.astype(np.float64) - frame.picture_u8) ** 2
            for name, mask in region_masks(frame.keypoints, clip.reference.size).items():
                if mask.any():
                    self.values[name].append(min(float(10 * np.log10(255**2 / max(error[mask].mean(), 1e-9))), _MOST))

    def extend(self, other: Fidelity) -> None:
        """Add the values of another."""
        for name, values in other.values.items():
            self.values[name] += values

    def psnr(self) -> dict[str, float]:
        """Average over frames: region -> dB, without regions that no frame shows."""
        return {name: float(np.mean(values)) for name, values in self.values.items() if values}

    def too_low(self) -> dict[str, float]:
        """List the regions below `GOALS`."""
        return {name: value for name, value in self.psnr().items() if value < GOALS[name]}


@torch.inference_mode()
def decode_clip(codec: Codec, clip: Clip, z: Tensor) -> np.ndarray:
    """Decode latents (T, C, h, w) against the clip's reference, as a video is decoded: uint8 (T, H, W, 3)."""
    like = next(codec.parameters())
    reference = to_signed(clip.reference.picture_u8)[None].to(like.device)
    close_ups = codec_close_ups(codec, reference, clip.reference.keypoints)
    frames = codec.decode_coded(z[None].to(like.device, like.dtype), reference, close_ups)[0]
    return to_pixels(frames)


def region_masks(keypoints: Keypoints, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Mark the pixels of each region of a frame of `size` (W, H), bool (H, W); empty where it is not seen."""
    w, h = size
    masks = {name: np.zeros((h, w), np.uint8) for name in REGIONS}
    masks["whole"][:] = 1
    parts = [("mouth", keypoints.face[LIPS])] if keypoints.face_score[LIPS].max() > VISIBLE else []
    parts += [
        ("hands", points)
        for points, score in zip(keypoints.hands, keypoints.hands_score, strict=True)
        if score.max() > VISIBLE
    ]
    for name, points in parts:
        hull = cv2.convexHull(np.round(points * [w, h]).astype(np.int32))
        cv2.fillConvexPoly(masks[name], hull, 1)
    return {name: mask.astype(bool) for name, mask in masks.items()}

"""Mouths for the lip reader to learn from: of labelled stills, of photo puppets of them that speak, and of drawn people."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from ..conditions.crops import turned_crop
from ..conditions.detector import LIPS_FROM
from ..conditions.face_cues import face_height, lips_gap
from ..conditions.lip_reader import CROP, SPAN, about_mouth, middle_rows
from ..data.puppet import Pose, Puppet
from ..data.stills import Still, crop_still
from .detector_scenes import look

PATCH = 128  # pixels of a face's height, which is what a patch shows
_HEAD, _PUPPET = 2.4, 288  # what a puppet is made of: a square of so many face heights, in pixels
# How far the detector's points are off on held-out stills (deviations: 0.009, 0.02, 0.02), and more.
_SHIFT, _SCALE, _TURN = 0.014, 0.04, 0.04


@dataclass
class Mouth:
    """patch uint8 (128, 128, 3), a face's height wide, upright about the mouth; the lips' gap in face heights."""

    patch: np.ndarray
    gap: float


def mouth_of(picture_u8: np.ndarray, face: np.ndarray) -> Mouth:
    """The mouth of 68 labelled points (68, 2) in pixels."""
    return Mouth(about_mouth(picture_u8, face, 1.0, PATCH), lips_gap(face))


def speaking(still: Still, count: int, rng: np.random.Generator) -> list[Mouth]:
    """`count` mouths of a photo puppet of `still`, which is open and shut at random."""
    face = still.keypoints.face * still.size
    middle, half = (face.min(0) + face.max(0)) / 2, _HEAD * face_height(face) / 2
    puppet, out = Puppet(crop_still(still, (*(middle - half), *(middle + half)), (_PUPPET, _PUPPET))), []
    for _ in range(count):
        opening = 0.0 if rng.random() < 0.25 else float(rng.uniform(0, 1) ** 1.3)
        shift = rng.normal(0, 0.4, 5).clip(-1, 1) * [1, 1, 0.25, 0.15, 0.1]
        made = puppet.render(Pose(opening, shift[0], float(rng.random() < 0.1), shift[1], shift[2], shift[3], shift[4]))
        out.append(mouth_of(made.picture_u8, made.keypoints.face * puppet.size))
    return out


class LipSamples(Dataset):
    """Item i is the batch of step i, a function of (seed, i) alone. `groups` of mouths are shown in the shares `shares`."""

    def __init__(self, groups: list[list[Mouth]], shares: list[float], seed: int, batch: int, steps: int = 1_000_000) -> None:
        kept = [(g, s) for g, s in zip(groups, shares, strict=True) if g]
        self.groups = [g for g, _ in kept]
        self.shares = np.array([s for _, s in kept]) / sum(s for _, s in kept)
        self.seed, self.batch, self.steps = seed, batch, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng((self.seed, i))
        crops, gaps = [], []
        for group in rng.choice(len(self.groups), self.batch, p=self.shares):
            mouth = self.groups[group][int(rng.integers(len(self.groups[group])))]
            crops.append(seen(rng, mouth))
            gaps.append(mouth.gap)
        return {"crops": torch.from_numpy(np.stack(crops)), "gap": torch.tensor(gaps, dtype=torch.float32)}


def seen(rng: np.random.Generator, mouth: Mouth) -> np.ndarray:
    """uint8 (48, 64, 3): the mouth as the detector will cut it, off its place by a little, of a face of any size, as another camera would have it."""
    side = round(float(np.exp(rng.uniform(np.log(LIPS_FROM), np.log(PATCH)))))
    small = cv2.resize(mouth.patch, (side, side), interpolation=cv2.INTER_AREA)
    centre = side * (0.5 + rng.normal(0, _SHIFT, 2))
    square, _ = turned_crop(small, centre, SPAN * side * float(np.exp(rng.normal(0, _SCALE))), float(rng.normal(0, _TURN)), CROP[1])
    crop = middle_rows(look(rng, square.astype(np.float32), holes=False))
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)

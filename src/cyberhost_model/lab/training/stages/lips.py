"""Stage lips: train the lip reader, which measures the gap between the lips.

The mouths are those of labelled stills, of photo puppets of these that speak, of drawn people, and of filmed people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from cyberhost_model.lab.synthetic.puppet import Pose, Puppet
from cyberhost_model.lab.synthetic.sources import drawn_stills, training_stills
from cyberhost_model.lab.synthetic.stills import Still, crop_still
from cyberhost_model.lab.training.filmed_stills import filmed_stills
from cyberhost_model.lab.training.picture_augment import degrade
from cyberhost_model.lab.training.registry import StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.perception.crops import rotated_crop
from cyberhost_model.perception.face_controls import lips_gap
from cyberhost_model.perception.geometry import face_height
from cyberhost_model.perception.keypoint_detector import LIPS_FROM
from cyberhost_model.perception.lip_reader import CROP, SPAN, LipReader, crop_about_mouth, middle_rows

PATCH = 128  # side of a patch in pixels; it shows one face height
_PUPPET_FACES, _PUPPET_SIDE = 2.4, 288  # side of the square a puppet is cut from, in face heights and in pixels
# Somewhat more than the errors of the detector's points on held-out stills (deviations 0.009, 0.02 and 0.02).
_SHIFT, _SCALE, _TURN = 0.014, 0.04, 0.04
_SHARES = [0.5, 0.4, 0.1]  # of stills, puppets and drawn people
_BETA = 0.01  # face heights; where the loss goes from squares to absolute values


@dataclass
class Mouth:
    """A mouth and its label."""

    patch: np.ndarray
    """uint8 (128, 128, 3), one face height wide, upright, centred on the mouth."""
    gap: float
    """Gap between the lips, in face heights."""


def cut_mouth(picture_u8: np.ndarray, face: np.ndarray) -> Mouth:
    """Cut out the mouth of a face with 68 labelled points (68, 2) in pixels."""
    return Mouth(crop_about_mouth(picture_u8, face, 1.0, PATCH), lips_gap(face))


def puppet_mouths(still: Still, count: int, rng: np.random.Generator) -> list[Mouth]:
    """Cut out `count` mouths of a photo puppet of `still`, open and shut at random."""
    face = still.keypoints.face * still.size
    centre, half = (face.min(0) + face.max(0)) / 2, _PUPPET_FACES * face_height(face) / 2
    crop = crop_still(still, (*(centre - half), *(centre + half)), (_PUPPET_SIDE, _PUPPET_SIDE))
    puppet, mouths = Puppet(crop), []
    for _ in range(count):
        opening = 0.0 if rng.random() < 0.25 else float(rng.uniform(0, 1) ** 1.3)
        shift = rng.normal(0, 0.4, 5).clip(-1, 1) * [1, 1, 0.25, 0.15, 0.1]
        made = puppet.render(Pose(opening, shift[0], float(rng.random() < 0.1), shift[1], shift[2], shift[3], shift[4]))
        mouths.append(cut_mouth(made.picture_u8, made.keypoints.face * puppet.size))
    return mouths


class LipSamples(Dataset):
    """Batches of mouths from `groups`, in the shares `shares`; item i depends on (seed, i) alone."""

    def __init__(
        self, groups: list[list[Mouth]], shares: list[float], seed: int, batch: int, steps: int = 1_000_000
    ) -> None:
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
            crops.append(detector_crop(rng, mouth))
            gaps.append(mouth.gap)
        return {"crops": torch.from_numpy(np.stack(crops)), "gap": torch.tensor(gaps, dtype=torch.float32)}


def detector_crop(rng: np.random.Generator, mouth: Mouth) -> np.ndarray:
    """Cut a mouth as the detector would, uint8 (48, 64, 3).

    A little off its place, of a face of random size, degraded as by another camera, mirrored in half of the cases.
    """
    side = round(float(np.exp(rng.uniform(np.log(LIPS_FROM), np.log(PATCH)))))
    small = cv2.resize(mouth.patch, (side, side), interpolation=cv2.INTER_AREA)
    centre = side * (0.5 + rng.normal(0, _SHIFT, 2))
    square, _ = rotated_crop(
        small, centre, SPAN * side * float(np.exp(rng.normal(0, _SCALE))), float(rng.normal(0, _TURN)), CROP[1]
    )
    crop = middle_rows(degrade(rng, square.astype(np.float32), occlude=False))
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


@dataclass
class LipsStageConfig:
    """Settings of stage lips."""

    drawn: int = 0
    """Drawn people, made once."""
    puppets: int = 8
    """Mouths of the photo puppet of each still."""
    frames: int = 12
    """Frames of each clip of filmed people, where datasets of them are given."""


class LipsStage:
    """Regression of the gap between the lips.

    puppets: mouths of the photo puppet of each still. filmed: frames of filmed people, which count as stills do.
    """

    name = "lips"

    def __init__(
        self,
        stills: list[Still],
        drawn: list[Still],
        puppets: int = 8,
        batch: int = 32,
        seed: int = 0,
        filmed: Sequence[Still] = (),
    ) -> None:
        rng = np.random.default_rng(seed)
        photographed, painted = (
            [cut_mouth(s.picture_u8, s.keypoints.face * s.size) for s in some] for some in ([*stills, *filmed], drawn)
        )
        moved = [mouth for still in stills for mouth in puppet_mouths(still, puppets, rng)] if puppets else []
        self.groups, self.batch = [photographed, moved, painted], batch
        self.module: nn.Module = LipReader()

    def dataset(self, seed: int) -> Dataset:
        """Make the batches, see `LipSamples`."""
        return LipSamples(self.groups, _SHARES, seed, self.batch)

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Compute the smooth L1 error of the gap, in hundredths of a face height; and as "off" its mean, in heights."""
        self.module.train()
        gap = self.module(batch["crops"])
        loss = F.smooth_l1_loss(gap, batch["gap"], beta=_BETA) / _BETA
        return {"loss": loss, "off": (gap - batch["gap"]).abs().mean()}


@register_stage("lips", LipsStageConfig, sources=("stills",))
def build(inputs: StageInputs) -> Stage:
    """Build stage lips."""
    stills = training_stills(inputs.sources.stills)
    drawn = drawn_stills(inputs.config.drawn, inputs.seed)
    filmed = filmed_stills(inputs.sources.filmed, inputs.config.frames, lips=True)
    return LipsStage(stills, drawn, inputs.config.puppets, seed=inputs.seed, filmed=filmed)

"""The stage that trains the lip reader, and its measurements."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from cyberhost_model.lab.synthetic.puppet import Pose, Puppet
from cyberhost_model.lab.synthetic.stills import Still, crop_still
from cyberhost_model.lab.training.stages.detector_samples import look
from cyberhost_model.perception.crops import rotated_crop
from cyberhost_model.perception.face_controls import lips_gap
from cyberhost_model.perception.geometry import face_height
from cyberhost_model.perception.keypoint_detector import LIPS_FROM
from cyberhost_model.perception.lip_reader import CROP, SPAN, LipReader, crop_about_mouth, crop_mouth, middle_rows

# Mouths for the lip reader to learn from: of labelled stills, of photo puppets of them that speak, and of drawn people.


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
    return Mouth(crop_about_mouth(picture_u8, face, 1.0, PATCH), lips_gap(face))


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
    """Item i is the batch of step i, a function of (seed, i) alone.

    `groups` of mouths are shown in the shares `shares`.
    """

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
            crops.append(visible(rng, mouth))
            gaps.append(mouth.gap)
        return {"crops": torch.from_numpy(np.stack(crops)), "gap": torch.tensor(gaps, dtype=torch.float32)}


def visible(rng: np.random.Generator, mouth: Mouth) -> np.ndarray:
    """uint8 (48, 64, 3): the mouth as the detector will cut it, off its place by a little, of a face of any size, as
    another camera would have it.
    """
    side = round(float(np.exp(rng.uniform(np.log(LIPS_FROM), np.log(PATCH)))))
    small = cv2.resize(mouth.patch, (side, side), interpolation=cv2.INTER_AREA)
    centre = side * (0.5 + rng.normal(0, _SHIFT, 2))
    square, _ = rotated_crop(
        small, centre, SPAN * side * float(np.exp(rng.normal(0, _SCALE))), float(rng.normal(0, _TURN)), CROP[1]
    )
    crop = middle_rows(look(rng, square.astype(np.float32), holes=False))
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


_SHARES = [0.5, 0.4, 0.1]  # of stills, puppets and drawn people
_BETA = 0.01  # face heights; larger errors count by their size alone


class LipsStage:
    """Trains the reader. puppets: mouths that a photo puppet of each still lends."""

    name = "lips"

    def __init__(
        self, stills: list[Still], drawn: list[Still], puppets: int = 8, batch: int = 32, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        photographed, painted = (
            [mouth_of(s.picture_u8, s.keypoints.face * s.size) for s in some] for some in (stills, drawn)
        )
        moved = [mouth for still in stills for mouth in speaking(still, puppets, rng)] if puppets else []
        self.groups, self.batch = [photographed, moved, painted], batch
        self.module: nn.Module = LipReader()

    def dataset(self, seed: int) -> Dataset:
        """See `LipSamples`."""
        return LipSamples(self.groups, _SHARES, seed, self.batch)

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """How far the gap is off: its mean square where that is little, its mean where it is not, in hundredths of a
        face's height; and plainly.
        """
        self.module.train()
        gap = self.module(batch["crops"])
        loss = F.smooth_l1_loss(gap, batch["gap"], beta=_BETA) / _BETA
        return {"loss": loss, "off": (gap - batch["gap"]).abs().mean()}


def evaluate(reader: LipReader, faces: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, float]:
    """On faces (picture, the detector's 68 points, the labelled ones; in pixels): correlation of the gaps read with
    the true ones, and how far they are off in face heights, of all and of mouths that are shut (below 0.01).
    """
    truth = np.array([lips_gap(labelled) for *_, labelled in faces])
    crops = np.stack([crop_mouth(picture, points) for picture, points, _ in faces])
    with torch.inference_mode():
        read = reader.eval()(torch.from_numpy(crops)).numpy().clip(0)
    off, shut = np.abs(read - truth), truth < 0.01
    return {
        "faces": len(faces),
        "correlation": float(np.corrcoef(read, truth)[0, 1]),
        "off": float(off.mean()),
        "off_shut": float(off[shut].mean()),
        "worst": float(off.max()),
    }

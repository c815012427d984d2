"""The stage that trains the lip reader, and its measurements."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..conditions.face_cues import lips_gap
from ..conditions.lip_reader import LipReader, mouth_crop
from ..data.stills import Still
from .lips_data import LipSamples, mouth_of, speaking

_SHARES = [0.5, 0.4, 0.1]  # of stills, puppets and drawn people
_BETA = 0.01  # face heights; larger errors count by their size alone


class LipsStage:
    """Trains the reader. puppets: mouths that a photo puppet of each still lends."""

    name = "lips"

    def __init__(self, stills: list[Still], drawn: list[Still], puppets: int = 8, batch: int = 32, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        photographed, painted = ([mouth_of(s.picture_u8, s.keypoints.face * s.size) for s in some] for some in (stills, drawn))
        moved = [mouth for still in stills for mouth in speaking(still, puppets, rng)] if puppets else []
        self.groups, self.batch = [photographed, moved, painted], batch
        self.module: nn.Module = LipReader()

    def dataset(self, seed: int) -> Dataset:
        """See `LipSamples`."""
        return LipSamples(self.groups, _SHARES, seed, self.batch)

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """How far the gap is off: its mean square where that is little, its mean where it is not, in hundredths of a face's height; and plainly."""
        self.module.train()
        gap = self.module(batch["crops"])
        loss = F.smooth_l1_loss(gap, batch["gap"], beta=_BETA) / _BETA
        return {"loss": loss, "off": (gap - batch["gap"]).abs().mean()}


def evaluate(reader: LipReader, faces: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, float]:
    """On faces (picture, the detector's 68 points, the labelled ones; in pixels): correlation of the gaps read with the true ones, and how far they are
    off in face heights, of all and of mouths that are shut (below 0.01)."""
    truth = np.array([lips_gap(labelled) for *_, labelled in faces])
    crops = np.stack([mouth_crop(picture, points) for picture, points, _ in faces])
    with torch.inference_mode():
        read = reader.eval()(torch.from_numpy(crops)).numpy().clip(0)
    off, shut = np.abs(read - truth), truth < 0.01
    return {"faces": len(faces), "correlation": float(np.corrcoef(read, truth)[0, 1]), "off": float(off.mean()), "off_shut": float(off[shut].mean()),
            "worst": float(off.max())}  # fmt: skip

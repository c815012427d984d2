"""Stage detector: train the key point detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.synthetic.sources import drawn_stills, training_stills
from cyberhost_model.lab.synthetic.stills import Still, has_labels
from cyberhost_model.lab.training.detector_init import detector_of
from cyberhost_model.lab.training.detector_samples import PARTS, BatchSizes, DetectorSamples
from cyberhost_model.lab.training.filmed_stills import filmed_stills
from cyberhost_model.lab.training.registry import StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.perception.keypoint_detector import KeypointDetector

_SIGMA = 1.3  # of the Gaussian targets of points, in cells
LOSS_WEIGHTS = {"body": 0.1}
"""Weights of the losses in their sum; 1 for those not listed."""


def focal_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute CornerNet's penalty-reduced focal loss of Gaussian heat maps, divided by the number of positives.

    Law and Deng, arXiv 1808.01244, eq. 1.
    """
    positive = target > 0.995
    p = logits.sigmoid()
    hit = -(F.logsigmoid(logits) * (1 - p) ** 2)[positive].sum()
    miss = -(F.logsigmoid(-logits) * p**2 * (1 - target) ** 4)[~positive].sum()
    return (hit + miss) / positive.sum().clamp_min(1)


def heat_map_loss(logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Compute the cross entropy of Gaussian heat maps (B, N, h, w), summed over each map.

    Cells near a point weigh more. It gives calibrated scores and exact positions. known: bool (B, N), the maps that
    count.
    """
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * (1 + 9 * target)
    return (loss.sum((2, 3)) * known).sum() / known.sum().clamp_min(1)


def point_loss(logits: torch.Tensor, points: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Compare the softmax of each map with a Gaussian about its point: the mean Kullback-Leibler divergence.

    logits (B, N, h, w); points (B, N, 2) in 0..1, those outside do not count; present (B,), 0 for crops without a
    person.
    """
    cells = logits.shape[-1]
    at = torch.arange(cells, device=logits.device) + 0.5
    p = points * cells
    across, down = (torch.exp(-((at - p[..., i : i + 1]) ** 2) / (2 * _SIGMA**2)) for i in (0, 1))
    target = (down[..., :, None] * across[..., None, :]).flatten(2)
    target = target / target.sum(2, keepdim=True).clamp_min(1e-6)
    cross = -(target * logits.flatten(2).log_softmax(2)).sum(2)
    entropy = -(target * target.clamp_min(1e-9).log()).sum(2)  # the least possible cross entropy
    weight = present[:, None] * ((points > 0) & (points < 1)).all(2)
    return ((cross - entropy) * weight).sum() / weight.sum().clamp_min(1)


@dataclass
class DetectorStageConfig:
    """Settings of stage detector."""

    drawn: int = 0
    """Drawn people, made once."""
    wide: float = 0.0
    """Share of them who gesture widely, as people who sign."""
    frames: int = 4
    """Frames of each clip of filmed people, where datasets of them are given."""
    parts: list[str] = field(default_factory=lambda: list(PARTS))
    """Networks that train; the others keep the weights that the run begins with."""
    filmed: float = 0.0
    """Share of the photographed people that are filmed ones; 0 counts labelled pictures of films as stills."""
    looks: float = 0.0
    """How often people get clothes and skin of other colours, see `DetectorSamples`."""
    edges: float = 0.0
    """How often the picture ends at an arm."""
    body: int = BatchSizes.body
    """Crops of bodies in a batch."""
    hand: int = BatchSizes.hand
    """Crops of hands in a batch."""


class DetectorStage:
    """Train finder, face, body and hand network side by side, one batch of each a step."""

    name = "detector"

    def __init__(
        self,
        stills: list[Still],
        drawn: list[Still],
        sizes: BatchSizes | None = None,
        filmed: Sequence[Still] = (),
        detector: KeypointDetector | None = None,
        config: DetectorStageConfig | None = None,
    ):
        self.stills, self.drawn, self.sizes, self.filmed = stills, drawn, sizes or BatchSizes(), filmed
        self.config = config or DetectorStageConfig()
        self.module: nn.Module = detector or KeypointDetector()
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in self.config.parts)

    def dataset(self, seed: int) -> Dataset:
        """Make the batches, see `DetectorSamples`."""
        return DetectorSamples(
            self.stills,
            self.drawn,
            seed,
            self.sizes,
            filmed=self.filmed,
            filmed_share=self.config.filmed,
            parts=self.config.parts,
            looks=self.config.looks,
            edges=self.config.edges,
        )

    def loss(self, batch: dict, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Compute the losses of the networks that train, and as "loss" their weighted sum."""
        self.module.eval()  # networks that stay keep the statistics of their batch norms, too
        losses: dict[str, torch.Tensor] = {}
        for name in self.config.parts:
            getattr(self.module, name).train()
            losses |= getattr(self, f"_{name}")(batch)
        total = sum(LOSS_WEIGHTS.get(name, 1.0) * value for name, value in losses.items())
        return {"loss": total, **losses}  # type: ignore[dict-item]

    def _finder(self, batch: dict) -> dict[str, torch.Tensor]:
        maps, _ = self.module.finder(batch["finder_crops"])
        weight = batch["finder_weight"][:, None]
        box = F.smooth_l1_loss(maps[:, 1:], batch["finder_regress"], reduction="none", beta=0.2) * weight
        return {
            "finder": focal_loss(maps[:, 0], batch["finder_heat"]),
            "box": box.sum() / weight.sum().clamp_min(1),
        }

    def _face(self, batch: dict) -> dict[str, torch.Tensor]:
        logits, presence = self.module.face(batch["face_crops"])
        return {
            "face": point_loss(logits, batch["face_points"], batch["face_present"]),
            "face_there": F.binary_cross_entropy_with_logits(presence, batch["face_present"]),
        }

    def _body(self, batch: dict) -> dict[str, torch.Tensor]:
        maps, _ = self.module.body(batch["body_crops"])
        hands, side = batch["body_seen"][:, 18:], maps.shape[-1]
        cell = (batch["body_places"][:, 18:] * side).long().clamp(0, side - 1)
        sizes = maps[:, 20:].flatten(2).gather(2, (cell[..., 1] * side + cell[..., 0])[..., None])[..., 0]
        hand_size = F.smooth_l1_loss(sizes, batch["body_sizes"], reduction="none", beta=0.2) * hands
        return {
            "body": heat_map_loss(maps[:, :20], batch["body_heat"], batch["body_known"]),
            "hand_size": hand_size.sum() / hands.sum().clamp_min(1),
        }

    def _hand(self, batch: dict) -> dict[str, torch.Tensor]:
        logits, presence = self.module.hand(batch["hand_crops"])
        return {
            "hand": point_loss(logits, batch["hand_points"], batch["hand_present"]),
            "hand_there": F.binary_cross_entropy_with_logits(presence, batch["hand_present"]),
        }


@register_stage("detector", DetectorStageConfig, sources=("stills",), own_init=True)
def build(inputs: StageInputs) -> Stage:
    """Build stage detector. Labelled pictures among what was filmed are stills to it.

    Raises TrainingError for parts that a detector does not have.
    """
    sources, config = inputs.sources, inputs.config
    if not config.parts or any(part not in PARTS for part in config.parts):
        raise TrainingError(f"parts = {config.parts}: name some of {', '.join(PARTS)}")
    labelled = [folder for folder in sources.filmed if has_labels(folder)]
    filmed = filmed_stills([folder for folder in sources.filmed if folder not in labelled], config.frames)
    seen = training_stills(labelled)
    stills = training_stills(sources.stills) + ([] if config.filmed else seen)
    drawn = drawn_stills(config.drawn, inputs.seed, wide=config.wide)
    return DetectorStage(
        stills,
        drawn,
        BatchSizes(body=config.body, hand=config.hand),
        [*filmed, *(seen if config.filmed else [])],
        detector_of(inputs.weights) if inputs.weights else None,
        config,
    )

"""Stage pose: the PoseFollower learns what key points alone say of a clip's latents.

Minutes, before stage 2, which leaves it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.clips import LatentClips
from cyberhost_model.lab.training.driving import DrivingMix
from cyberhost_model.model.network import CyberHostNetwork


@dataclass
class PoseStageConfig:
    """batch clips of `frames` frames a step; alpha: extra weight of face and hands (eq. 6); driving: shares of whole
    skeletons and of hands alone, the rest of the batches being of no use here.
    """

    batch: int = 4
    frames: int = 12
    alpha: float = 1.0
    driving: DrivingMix = field(default_factory=lambda: DrivingMix(skeleton=0.7, hands=0.3))

    def __post_init__(self) -> None:
        if isinstance(self.driving, dict):
            self.driving = DrivingMix(**self.driving)


class PoseStage:
    """Least squares on coded clips.

    The module is the whole network, of which only the follower trains, so that a run can begin stage 2.
    """

    name = "stage pose"

    def __init__(self, data: str | Path, network: CyberHostNetwork, config: PoseStageConfig) -> None:
        if network.pose_to_latent is None:
            raise TrainingError(
                "stage pose trains what reads the pose shift, and this preset has none (pose_shift = true in the "
                "recipe)"
            )
        self.data, self.module, self.config = data, network, config
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith("pose_to_latent"))

    def dataset(self, seed: int) -> Dataset:
        return LatentClips(
            self.data, self.module.preset, seed, self.config.batch, self.config.frames, driving=self.config.driving
        )

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        assert self.module.pose_to_latent is not None
        z = batch["z"]
        error = (self.module.pose_to_latent(batch["pose_shift"], batch["r"]) - z).pow(2)
        weight = 1 + self.config.alpha * batch["masks"].amax(2, keepdim=True)
        unexplained = (weight * error).sum() / (weight * z.pow(2)).sum().clamp_min(1e-6)
        return {"loss": (weight * error).mean(), "unexplained": unexplained}

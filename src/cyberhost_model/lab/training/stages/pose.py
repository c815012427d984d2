"""Stage pose: train `PoseToLatent`, which predicts a clip's latents from key points alone.

It takes minutes and comes before stage 2, which leaves these weights unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.clips import ClipFolders, LatentClips
from cyberhost_model.lab.training.driving import DrivingMix
from cyberhost_model.lab.training.losses import critical_region_weight, pseudo_huber
from cyberhost_model.lab.training.registry import StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.lab.training.stages.clip import initial_network
from cyberhost_model.model.network import CyberHostNetwork


@dataclass
class PoseStageConfig:
    """Settings of stage pose."""

    batch: int = 4
    """Clips of a batch."""
    frames: int = 12
    """Frames of a clip."""
    alpha: float = 1.0
    """Extra weight of face and hands (alpha of eq. 6)."""
    huber: float = 0.5
    """c of the pseudo-Huber loss, in units of the latent: where squares become absolute values, so that a hand far away
    does not outweigh all faces.
    """
    driving: DrivingMix = field(default_factory=lambda: DrivingMix(skeleton=0.7, hands=0.3))
    """Shares of whole skeletons and of hands alone; batches without skeletons teach nothing here."""

    def __post_init__(self) -> None:
        if isinstance(self.driving, dict):
            self.driving = DrivingMix(**self.driving)


class PoseStage:
    """Pseudo-Huber distance to encoded clips.

    The module is the whole network, of which only the pose follower trains, so that stage 2 can start from the run.
    """

    name = "stage pose"

    def __init__(self, data: ClipFolders, network: CyberHostNetwork, config: PoseStageConfig) -> None:
        if network.pose_to_latent is None:
            raise TrainingError(
                "stage pose trains what reads the pose shift, and this preset has none (pose_shift = true in the "
                "recipe)"
            )
        self.data, self.module, self.config = data, network, config
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith("pose_to_latent"))

    def dataset(self, seed: int) -> Dataset:
        """Make the batches, see `LatentClips`."""
        return LatentClips(
            self.data, self.module.preset, seed, self.config.batch, self.config.frames, driving=self.config.driving
        )

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the weighed distance, and as "unexplained" the share of the latents' weighed square that is left."""
        assert self.module.pose_to_latent is not None
        z = batch["z"]
        off = self.module.pose_to_latent(batch["pose_shift"], batch["r"]) - z
        weight = critical_region_weight(batch, self.config.alpha)
        unexplained = (weight * off.detach().pow(2)).sum() / (weight * z.pow(2)).sum().clamp_min(1e-6)
        return {"loss": (weight * pseudo_huber(off, self.config.huber)).mean(), "unexplained": unexplained}


@register_stage("pose", PoseStageConfig, sources=("clips",), network=("preset",))
def build(inputs: StageInputs) -> Stage:
    """Build stage pose."""
    network = initial_network(inputs, replace(inputs.preset, pose_shift=True))
    return PoseStage(inputs.clips, network, inputs.config)

"""Stage hear: train the audio projection to tell how lips move and how loud somebody speaks.

It takes minutes, because no U-Net runs, and comes before stage 1, which goes on teaching the same (`losses.TERMS`).
Not in the paper, whose speech encoder and U-Net learn from a thousand times as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cyberhost_model.config import Preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.clips import ClipFolders, find_clips
from cyberhost_model.lab.training.registry import StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.lab.training.stages.clip import initial_network
from cyberhost_model.model.denoising_unet import HEARD, HEARD_UNIT, heard
from cyberhost_model.model.network import CyberHostNetwork


@dataclass
class HearStageConfig:
    """Settings of stage hear."""

    batch: int = 16
    """Clips of a batch."""
    frames: int = 12
    """Frames of a clip."""


class SpokenClips(Dataset):
    """Batches of speech features (B, F, L, layers, D) and what they tell (B, F, 4); item i depends on (seed, i)."""

    def __init__(self, folder: ClipFolders, preset: Preset, seed: int, config: HearStageConfig) -> None:
        self.seed, self.config, self.tokens = seed, config, preset.audio.tokens
        self.clips = find_clips(folder, preset, config.frames)

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        rng, audio, labels = np.random.default_rng([self.seed, i]), [], []
        for number in rng.integers(len(self.clips), size=self.config.batch):
            saved = self.clips[number].open()
            start = int(rng.integers(saved.frames - self.config.frames + 1))
            stop = start + self.config.frames
            audio.append(saved.windows(start, stop, self.tokens))
            labels.append(saved.rows("heard", start, stop).float())
        return {"audio": torch.stack(audio), "heard": torch.stack(labels)}


class HearStage:
    """Least squares on the first channels of the audio tokens.

    The module is the whole network, of which only the audio projection trains, so that stage 1 can start from the run.
    """

    name = "stage hear"

    def __init__(self, data: ClipFolders, network: CyberHostNetwork, config: HearStageConfig) -> None:
        if not network.preset.audio.project or not network.preset.uses_audio:
            raise TrainingError("stage hear trains the audio projection, and this preset has none")
        self.data, self.module, self.config = data, network, config
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith("audio_projection"))

    def dataset(self, seed: int) -> Dataset:
        """Make the batches, see `SpokenClips`."""
        return SpokenClips(self.data, self.module.preset, seed, self.config)

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the squared error, and of each of HEARD its share of the label's variance ("unexplained")."""
        told, truth = heard(self.module.audio_projection(batch["audio"])), batch["heard"]
        error = (told - truth).pow(2).mean((0, 1))
        shares = error / truth.flatten(0, 1).var(0).clamp_min(1e-4)
        return {"loss": HEARD_UNIT**2 * error.mean(), **dict(zip(HEARD, shares, strict=True))}


@register_stage("hear", HearStageConfig, sources=("clips",), network=("preset",))
def build(inputs: StageInputs) -> Stage:
    """Build stage hear."""
    return HearStage(inputs.clips, initial_network(inputs, inputs.preset), inputs.config)

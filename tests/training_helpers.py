"""A stage small enough to train in milliseconds: the paper's losses on the smallest network and random clips of
several sizes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch.utils.data import Dataset

from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.lab.training.stages.clip import ClipStage, ClipStageConfig
from model_helpers import MINI, make_network

SMALL = dataclasses.replace(MINI, region=dataclasses.replace(MINI.region, face_channels=()))
"""The face as an ArcFace feature, which costs nothing."""
SIZES = ((4, 4), (4, 8), (8, 4))


def small_config(**changes) -> LoopConfig:
    """Settings of a loop of two steps that saves at its end alone."""
    return LoopConfig(
        **{"steps": 2, "lr": 1e-3, "warmup": 0, "workers": 0, "log_every": 1, "save_seconds": 1e9, **changes}
    )


class RandomClips(Dataset):
    """Item i: one clip of noise with the tensors of `LatentClips`; its size turns with i when `mixed`."""

    def __init__(self, seed: int, mixed: bool, preset=SMALL) -> None:
        self.seed, self.mixed, self.preset = seed, mixed, preset

    def __len__(self) -> int:
        return 2**31

    def files(self, i: int) -> list[str]:
        return [f"clip-{i}.safetensors"]

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        preset, g = self.preset, torch.Generator().manual_seed(self.seed * 7919 + i)
        (h, w), f, c = SIZES[i % 3 if self.mixed else 0], preset.frames, preset.latent_channels
        size = (h * preset.latent_factor, w * preset.latent_factor)
        draw = lambda *shape: torch.randn(1, *shape, generator=g)  # noqa: E731
        chance = lambda *shape: torch.rand(1, *shape, generator=g)  # noqa: E731
        audio = preset.audio
        return {
            "z": draw(f, c, h, w),
            "motion": draw(preset.motion_frames, c, h, w),
            "r": draw(c, h, w),
            "audio": draw(f, audio.tokens, audio.layers, audio.dim),
            "face": draw(512),
            "hands": draw(2, 3, 128, 128),
            "skeleton": chance(3, *size),
            "pose": chance(1, 3, *size),
            "pose_shift": draw(f, 10, 2 * h, 2 * w),
            "driven": torch.tensor([False]),
            "deaf": torch.tensor([False]),
            "head": torch.tensor([False]),
            "clarity": chance(f),
            "lips": (chance(f, h, w) > 0.7).float(),
            "masks": (chance(f, 2, h, w) > 0.5).float(),
            "heatmaps": chance(f, 42, h, w),
            "heard": chance(f, 4),
            "eyes": (chance(f, h, w) > 0.9).float(),
            "shut": chance(f),
            "lip_gap": 0.1 * chance(),
        }


class RandomStage(ClipStage):
    """Stage 2 on `RandomClips`; conditions are dropped often, so that parts of the network have no gradient in one
    batch or another.
    """

    def __init__(self, mixed: bool = False, preset=SMALL, **settings) -> None:
        config = {"batch": 1, "drop_audio": 0.3, "drop_reference": 0.3, "motion": 0.5, "hear": 0.3, **settings}
        super().__init__(Path(), make_network(preset).train(), ClipStageConfig("2", frames=preset.frames, **config))
        self.mixed = mixed

    def dataset(self, seed: int) -> Dataset:
        return RandomClips(seed, self.mixed, self.preset)

"""A network small enough to test in milliseconds, and random conditions for it."""

from __future__ import annotations

import dataclasses

import torch

from cyberhost_model.config import (
    AudioConfig,
    DiffusionConfig,
    Preset,
    RegionConfig,
    SamplingConfig,
    UNetConfig,
    preset,
)
from cyberhost_model.model.network import CyberHostNetwork

MINI = dataclasses.replace(
    preset("tiny"),
    latent_channels=4,
    frames=3,
    motion_frames=2,
    unet=UNetConfig(
        block_out_channels=(32, 64),
        attention_levels=(True, True),
        layers_per_block=1,
        heads=(2, 2),
        motion_heads=(1, 2),
        cross_attention_dim=16,
        norm_num_groups=8,
        use_linear_projection=True,
    ),
    audio=AudioConfig(dim=12, layers=3, tokens=2),
    region=RegionConfig(
        stages=("down_blocks.0", "mid_block", "up_blocks.1"),
        codebook_dim=16,
        spatial_vectors=6,
        temporal_vectors=4,
        heads=2,
        identity_dim=8,
        hand_channels=(8, 8, 8, 8, 8),
        face_channels=(8, 8, 8, 8, 8, 8),
    ),
    diffusion=DiffusionConfig(prediction="flow"),
    sampling=SamplingConfig(sampler="flow", steps=3),
    pose_channels=(4, 8, 8, 8),
    pose_shift=False,  # PoseToLatent has a stage and tests of its own,
    motion_prior=0.0,  # and so has the motion prior
)
"""All parts of the paper on, trimmed as the embedded model is."""
FULL = dataclasses.replace(
    MINI,
    audio_in_time=False,
    unet=dataclasses.replace(MINI.unet, use_linear_projection=False, trim_reference=False, trim_motion=False),
)
"""The same untrimmed, as sd15 is: every key is diffusers'."""


def make_network(config: Preset = MINI, seed: int = 0, randomize: bool = True) -> CyberHostNetwork:
    """A network in evaluation mode; `randomize` replaces zeros of initialisation, so that every part has an effect."""
    torch.manual_seed(seed)
    network = CyberHostNetwork(config).eval()
    if randomize:
        with torch.no_grad():
            for parameter in network.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.1)
    return network


def raw_conditions(config: Preset = MINI, batch: int = 2, size: tuple[int, int] = (4, 4), seed: int = 1) -> dict:
    """Arguments of `CyberHostNetwork.conditions`: everything given. `size` is the latent's (h, w)."""
    g = torch.Generator().manual_seed(seed)
    height, width = (side * config.latent_factor for side in size)
    frames, audio = config.frames, config.audio

    def latents(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, config.latent_channels, *size, generator=g)

    given = {
        "reference_latent": latents(batch),
        "reference_pose": torch.rand(batch, 3, height, width, generator=g),
        "face": torch.randn(batch, 3, 256, 256, generator=g),
        "hands": torch.randn(batch, 2, 3, 128, 128, generator=g),
        "audio": torch.randn(batch, frames, audio.tokens, audio.layers, audio.dim, generator=g),
        "motion_latents": latents(batch, config.motion_frames),
        "pose": torch.rand(batch, frames, 3, height, width, generator=g),
        "hand_clarity": torch.rand(batch, frames, generator=g) + 0.1,
    }
    if config.face_state:
        given |= {"lip_gap": torch.rand(batch, generator=g) * 0.1, "shut": torch.rand(batch, frames, generator=g)}
    return given


def noisy_clip(config: Preset = MINI, batch: int = 2, size: tuple[int, int] = (4, 4), seed: int = 2) -> tuple:
    """(noisy latents (B, F, C, h, w), time steps (B,))."""
    g = torch.Generator().manual_seed(seed)
    shape = (batch, config.frames, config.latent_channels, *size)
    return torch.randn(shape, generator=g), torch.linspace(300.5, 700.5, batch)

"""What several implementations build alike, with torch and diffusers alone."""

from __future__ import annotations

import torch

SD_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
}
"""Stable Diffusion's VAE."""


DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def vae(size, device, dtype):
    """Stable Diffusion's, random; a quarter as wide at the size that tries the benchmark."""
    from diffusers import AutoencoderKL

    small = {"block_out_channels": (32, 64, 64, 64)} if size.name == "small" else {}
    with device:
        return AutoencoderKL(**{**SD_VAE, **small}).to(device, dtype).eval()


def jobs(size, make):
    """A whole job, and one of a single step that warms up what it needs besides; make(steps) does it."""
    return {"job": lambda: make(size.job_steps), "job's warming up": lambda: make(1)}


def on(device, dtype, *shape):
    """Random numbers."""
    return torch.randn(*shape, device=device, dtype=dtype)

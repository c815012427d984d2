"""What a published model would take that is not on this machine: counted on tensors that have sizes and no memory,
against the rate of matrix products here.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from cyberhost_model.codecs.sd_vae import AT_ONCE
from cyberhost_model.config import GenerationConfig, Preset
from cyberhost_model.hub.registry import ADAPTERS, load_adapter
from cyberhost_model.model.cost import CostCounter, raw_conditions
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.runtime.pipeline import guidance_of
from cyberhost_model.sampler.guidance import GuidedConditions
from cyberhost_model.sampler.schedule import Schedule

SD_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
"""Stable Diffusion's VAE, which all published models have."""
SHARE = {torch.float32: 0.6, torch.float16: 0.3, torch.bfloat16: 0.3}
"""Of the rate of large matrix products that steps reach (docs/reference/performance.md): 0.3 in fp16 on an H100; 0.3 -
0.5 in bf16 and 0.6 in fp32 on a CPU.
"""
_BESIDE = 500_000_000  # bytes: speech encoder and detector in fp32
_MATRIX = {"cpu": 1536, "cuda": 8192}  # side


@dataclass(frozen=True)
class Counted:
    """Right to a factor of two or so.

    tflop: of a step with all branches of guidance; memory: bytes of weights and of what a step or decoding holds.
    """

    seconds: float
    memory: int
    tflop: float


def counted(model: str, look: GenerationConfig, total: int, device: torch.device, dtype: torch.dtype) -> Counted | None:
    """A video of `total` frames by a published model, at its own size; None for a model of which nothing is known
    before it is fetched, and where counting fails: no job depends on it.
    """
    if model not in ADAPTERS:
        return None
    try:
        return _counted(load_adapter(model).full_size(), look, total, device, dtype)
    except (RuntimeError, MemoryError):
        return None


def _counted(preset: Preset, look: GenerationConfig, total: int, device: torch.device, dtype: torch.dtype) -> Counted:
    step, held, weights = _step(preset, look, dtype)
    decoding, more, vae = _decoding(preset, dtype)
    guidance, timesteps = (
        guidance_of(look, preset.sampling),
        Schedule(preset.diffusion, preset.sampling, None, look.steps).timesteps,
    )
    guided = sum(guidance.acts_at(float(t)) for t in timesteps)
    steps = guided + (len(timesteps) - guided) / guidance.branches
    work = math.ceil(total / preset.frames) * (steps * step + preset.frames * decoding)
    return Counted(
        work / (SHARE[dtype] * matrix_rate(device, dtype)), int(weights + vae + _BESIDE + max(held, more)), step / 1e12
    )


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of products of large matrices, the best of three."""
    side = _MATRIX.get(device.type, 4096)
    matrix, taken = torch.randn(side, side, device=device, dtype=dtype), []
    for _ in range(4):
        began = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # which waits for it
        taken.append(time.perf_counter() - began)
    return 2 * side**3 / min(taken[1:])


def _step(preset: Preset, look: GenerationConfig, dtype: torch.dtype) -> tuple[float, float, float]:
    """(FLOPs, peak bytes beyond the weights, bytes of the weights) of a step with all branches."""
    with FakeTensorMode(), torch.no_grad(), _made_as(dtype):
        network = CyberHostNetwork(preset)
        raw: dict[str, Tensor | None] = raw_conditions(preset, 1, preset.frames, preset.motion_frames > 0)
        given = GuidedConditions(network.conditions(**raw), guidance_of(look, preset.sampling))  # type: ignore[arg-type]
        noisy = torch.empty(
            1, preset.frames, preset.latent_channels, *(side // preset.latent_factor for side in preset.size)
        )
        with CostCounter() as live:
            given.predict(network, noisy, torch.empty(1))
        return live.flops, float(live.peak), _bytes(network)


def _decoding(preset: Preset, dtype: torch.dtype) -> tuple[float, float, float]:
    """(FLOPs of a frame, peak bytes beyond the weights, bytes of the weights)."""
    with FakeTensorMode(), torch.no_grad(), _made_as(dtype):
        vae = AutoencoderKL(**SD_VAE)
        latent = torch.empty(AT_ONCE, 4, *(side // preset.latent_factor for side in preset.size))
        with CostCounter() as live:
            vae.decode(latent)
        return live.flops / AT_ONCE, float(live.peak), _bytes(vae)


def _bytes(module: torch.nn.Module) -> float:
    return float(sum(weights.numel() * weights.element_size() for weights in module.parameters()))


@contextlib.contextmanager
def _made_as(dtype: torch.dtype) -> Iterator[None]:
    """Tensors made inside are of this precision: fake ones cannot be moved to another."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)

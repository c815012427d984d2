"""What a run would take, before it runs: parameters, memory, FLOPs.

Stages 1 and 2 are traced on fake tensors, which have sizes but no memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cyberhost_model.config import Preset
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.lab.training.stages.clip import ClipStageConfig, leave_out
from cyberhost_model.model.cost import CostCounter, raw_conditions
from cyberhost_model.model.network import CyberHostNetwork

OPTIMIZER_BYTES = {"adamw": 8.0, "adamw-fused": 8.0, "adamw8bit": 2.03}
"""A trained parameter: two moments in float32, or in 8 bits with a float32 scale for every 256."""


@dataclass
class Module:
    """Parameters of a part of the model, and how many of them train."""

    name: str
    parameters: int
    trained: int


@dataclass
class Memory:
    """Bytes on one device at the peak of a step."""

    weights: float
    gradients: float
    optimizer: float
    average: float
    activations: float | None
    """What forward and backward hold at their peak beyond weights and whole gradients; None: not known."""
    gathered: float = 0.0
    """FSDP: the whole weights and gradients, while a step lasts."""

    @property
    def total(self) -> float:
        """All of it."""
        return sum(asdict(self)[name] or 0.0 for name in asdict(self))


def modules(module: nn.Module) -> list[Module]:
    """Parts of `module`; parts of a U-Net that hold motion modules or region attention are told apart."""
    rows: dict[str, Module] = {}
    for name, parameter in module.named_parameters():
        parts = name.split(".")
        key = parts[0]
        if key == "denoising_unet":
            inner = ("motion modules" if "motion_modules" in name else "2D layers") if parts[1] == "unet" else parts[1]
            key = f"{key}: {inner}"
        row = rows.setdefault(key, Module(key, 0, 0))
        row.parameters += parameter.numel()
        row.trained += parameter.numel() * parameter.requires_grad
    return list(rows.values())


def memory(rows: list[Module], config: LoopConfig, peak: float | None, processes: int = 1) -> Memory:
    """Exact sizes of what stays, and `peak` (of activations and gradients together, from `CostCounter`).

    On several processes as `config.parallel` says.
    """
    total, trained = sum(row.parameters for row in rows), sum(row.trained for row in rows)
    share = processes if config.parallel == "fsdp" else 1
    held = 4.0 * trained
    # Without fusion AdamW needs another copy of a moment for a moment, when activations are gone.
    step = held if config.optimizer == "adamw" else 0.0
    activations = None if peak is None else max(peak - held, step, 0.0)
    average = 0.0 if config.ema_device == "cpu" else 4.0 * total / share
    gathered = 4.0 * (total + trained) if share > 1 else 0.0
    return Memory(
        4.0 * total / share,
        held / share,
        OPTIMIZER_BYTES[config.optimizer] * trained / share,
        average,
        activations,
        gathered,
    )


@dataclass
class Trace:
    """What a forward and backward takes.

    peak: bytes; flops: of forward and backward, without what is computed twice.
    """

    modules: list[Module]
    peak: float
    flops: float


def trace_network(
    preset: Preset, stage: ClipStageConfig, config: LoopConfig, freeze: Callable[[nn.Module], None]
) -> Trace:
    """Build the network of a clip stage on fake tensors and run a forward and backward with every condition given, at
    the preset's size.

    As under CUDA's autocast, norms compute in float32 in bf16 and fp16 as well.
    """
    with FakeTensorMode():
        network = CyberHostNetwork(preset)
        network.denoising_unet.temporal = stage.temporal
        leave_out(network, stage)
        freeze(network)
        network.enable_gradient_checkpointing(config.gradient_checkpointing)
        rows = modules(network)
        half = config.precision != "fp32"
        if half:
            for part in network.modules():
                if isinstance(part, (nn.GroupNorm, nn.LayerNorm)):
                    part.register_forward_pre_hook(lambda _, given: tuple(value.float() for value in given))
        raw = raw_conditions(preset, stage.batch, stage.frames, stage.temporal)
        latent = tuple(side // preset.latent_factor for side in preset.size)
        noisy = torch.empty(stage.batch, stage.frames, preset.latent_channels, *latent)
        with CostCounter() as live:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                out = network(noisy, torch.empty(len(noisy)), network.conditions(**raw), heatmaps=True)
                forward = live.flops
                loss = out.prediction.float().square().mean()
                for item in (*out.region_masks, *out.heatmaps) if stage.regions else ():
                    loss = loss + item.values.float().square().mean()
            del out
            loss.backward()
        return Trace(rows, float(live.peak), 3 * forward)

"""`cyberhost train --dry-run`: the parameters, memory, FLOPs and time of a stage, without training it.

Stages 1 and 2 are traced on fake tensors, which have sizes and no memory (see `model.cost`). The others are built and
measured on one batch.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cyberhost_model.config import Preset
from cyberhost_model.lab.training.init import freeze, preset_for_weights
from cyberhost_model.lab.training.loop import Trainer
from cyberhost_model.lab.training.process import join_processes
from cyberhost_model.lab.training.recipe import build_stage, stage_settings
from cyberhost_model.lab.training.registry import Sources
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.lab.training.stages.clip import ClipStageConfig, freeze_untrained
from cyberhost_model.model.cost import CostCounter, empty_latents, raw_conditions
from cyberhost_model.model.network import CyberHostNetwork

TIMED_STEPS = 3
SLOW_STEP = 2e12
"""FLOPs of a step above which steps are not timed on a CPU."""
FSDP_PROCESSES = 8
"""Processes of the second memory estimate."""
OPTIMIZER_BYTES = {"adamw": 8.0, "adamw-fused": 8.0, "adamw8bit": 2.03}
"""For each trained parameter: two moments in float32, or in 8 bits with a float32 scale for every 256."""


def dry_run(
    stage: str, sources: Sources, config: LoopConfig, settings: dict[str, Any], init: str | None = None
) -> dict[str, Any]:
    """Estimate what a stage would take.

    Returns parameters, memory in bytes, FLOPs, steps and hours; None where a number is unknown. Stages 1 and 2 need no
    data: every condition counts, at the preset's size. With data, a few steps are timed in a temporary folder, except
    where a CPU would need minutes for one.
    """
    config.check()
    shape, stage_config, frozen = stage_settings(stage, settings)
    built: Stage | None = None
    if type(stage_config) is ClipStageConfig:
        if init:  # before anything is computed: there may be no such weights
            shape = preset_for_weights(shape, init)
        cost = trace_step(shape, stage_config, config, frozen)
        how, samples = "simulated on fake tensors at the preset's size", stage_config.batch
        slow = config.device == "cpu" and cost.flops * config.accumulate > SLOW_STEP
        if sources.clips and not slow:
            built = build_stage(stage, sources, settings, init, config.seed)
    else:
        built = build_stage(stage, sources, settings, init, config.seed)
        (cost, samples), how, slow = measure_step(built, config), "measured on one batch", False
    seconds, why = (
        None,
        "a step on this CPU takes minutes" if slow and sources.clips else "no --data to time steps with",
    )
    if built is not None:
        seconds = time_steps(built, config)
    single = estimate_memory(cost, config)
    sharded = estimate_memory(cost, dataclasses.replace(config, parallel="fsdp"), FSDP_PROCESSES)
    return {
        "stage": stage,
        "modules": [asdict(row) for row in cost.modules],
        "parameters": cost.parameters,
        "trained": cost.trained,
        "precision": config.precision,
        "gradient_checkpointing": config.gradient_checkpointing,
        "optimizer": config.optimizer,
        "memory": {**asdict(single), "total": single.total},
        f"memory_fsdp_{FSDP_PROCESSES}": {**asdict(sharded), "total": sharded.total},
        "activations_are": how,
        "flops_per_batch": cost.flops,
        "steps": config.steps,
        "samples": config.steps * config.accumulate * samples,
        "seconds_per_step": seconds,
        "hours": None if seconds is None else seconds * config.steps / 3600,
        "hours_unknown_because": None if seconds else why,
    }


@dataclass
class ModuleSize:
    """Parameters of a part of the model, and how many of them train."""

    name: str
    parameters: int
    trained: int


def count_parameters(module: nn.Module) -> list[ModuleSize]:
    """Count the parameters of each part; a U-Net's motion modules and region attention are parts of their own."""
    rows: dict[str, ModuleSize] = {}
    for name, parameter in module.named_parameters():
        parts = name.split(".")
        key = parts[0]
        if key == "denoising_unet":
            inner = ("motion modules" if "motion_modules" in name else "2D layers") if parts[1] == "unet" else parts[1]
            key = f"{key}: {inner}"
        row = rows.setdefault(key, ModuleSize(key, 0, 0))
        row.parameters += parameter.numel()
        row.trained += parameter.numel() * parameter.requires_grad
    return list(rows.values())


@dataclass
class StepCost:
    """The cost of one forward and backward pass."""

    modules: list[ModuleSize]
    peak: float
    """Bytes of activations and gradients at their peak."""
    flops: float
    """Forward and backward, without what gradient checkpointing computes twice."""

    @property
    def parameters(self) -> int:
        """All parameters."""
        return sum(row.parameters for row in self.modules)

    @property
    def trained(self) -> int:
        """Parameters that train."""
        return sum(row.trained for row in self.modules)


def trace_step(preset: Preset, stage: ClipStageConfig, config: LoopConfig, frozen: Sequence[str] = ()) -> StepCost:
    """Build the network of a clip stage on fake tensors and run it forward and backward with every condition given.

    As under CUDA's autocast, norms compute in float32 in bf16 and fp16 as well.
    """
    with FakeTensorMode():
        network = CyberHostNetwork(preset)
        network.denoising_unet.temporal = stage.temporal
        freeze_untrained(network, stage)
        freeze(network, list(frozen))
        network.enable_gradient_checkpointing(config.gradient_checkpointing)
        rows = count_parameters(network)
        half = config.precision != "fp32"
        if half:
            for part in network.modules():
                if isinstance(part, (nn.GroupNorm, nn.LayerNorm)):
                    part.register_forward_pre_hook(lambda _, given: tuple(value.float() for value in given))
        raw = raw_conditions(preset, stage.batch, stage.frames, stage.temporal)
        noisy = empty_latents(preset, stage.batch, stage.frames)
        with CostCounter() as live:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                out = network(noisy, torch.empty(len(noisy)), network.conditions(**raw), heatmaps=True)
                forward = live.flops
                loss = out.prediction.float().square().mean()
                for item in (*out.region_masks, *out.heatmaps) if stage.regions else ():
                    loss = loss + item.values.float().square().mean()
            del out
            loss.backward()
        return StepCost(rows, float(live.peak), 3 * forward)


def measure_step(stage: Stage, config: LoopConfig) -> tuple[StepCost, int]:
    """Run a real batch forward and backward; returns its cost and its number of samples."""
    world = join_processes(config.device)
    module = stage.module.to(world.device)
    batch = {
        k: v.to(world.device) if isinstance(v, torch.Tensor) else v for k, v in stage.dataset(config.seed)[0].items()
    }
    with CostCounter() as live:
        loss = stage.loss(batch, torch.Generator(world.device).manual_seed(config.seed))["loss"]
        forward = live.flops
        loss.backward()
    module.zero_grad()
    return StepCost(count_parameters(module), float(live.peak), 3 * forward), len(next(iter(batch.values())))


@dataclass
class Memory:
    """Bytes on one device at the peak of a step."""

    weights: float
    gradients: float
    optimizer: float
    average: float
    activations: float
    """At their peak, beyond weights and whole gradients."""
    gathered: float
    """Under FSDP: the whole weights and gradients during a step."""

    @property
    def total(self) -> float:
        """The sum of all of them."""
        return sum(asdict(self).values())


def estimate_memory(cost: StepCost, config: LoopConfig, processes: int = 1) -> Memory:
    """Compute the memory of a step on one of several processes, in the way of `config.parallel`.

    Exact but for the activations.
    """
    shards = processes if config.parallel == "fsdp" else 1
    gradients = 4.0 * cost.trained
    # Without fusion AdamW briefly needs another copy of a moment, when activations are gone.
    step = gradients if config.optimizer == "adamw" else 0.0
    return Memory(
        weights=4.0 * cost.parameters / shards,
        gradients=gradients / shards,
        optimizer=OPTIMIZER_BYTES[config.optimizer] * cost.trained / shards,
        average=0.0 if config.ema_device == "cpu" else 4.0 * cost.parameters / shards,
        activations=max(cost.peak - gradients, step, 0.0),
        gathered=4.0 * (cost.parameters + cost.trained) if shards > 1 else 0.0,
    )


def time_steps(stage: Stage, config: LoopConfig) -> float:
    """Time a few steps after the first, data included; returns the mean in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        short = dataclasses.replace(config, steps=TIMED_STEPS + 1, report=[])
        trainer = Trainer(stage, Path(folder), short, join_processes(config.device))
        trainer.prepare()
        batches = trainer.batches()
        trainer.step(0, batches)
        began = time.monotonic()
        for step in range(1, TIMED_STEPS + 1):
            trainer.step(step, batches)
        return (time.monotonic() - began) / TIMED_STEPS

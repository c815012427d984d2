"""`cyberhost train --dry-run`: what a stage would train, hold and take, without training it."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cyberhost_model.lab.training.estimate import Trace, memory, modules, trace_network
from cyberhost_model.lab.training.init import as_taught
from cyberhost_model.lab.training.loop import Trainer
from cyberhost_model.lab.training.process import join_processes
from cyberhost_model.lab.training.recipe import Sources, build_stage, clip_settings, freeze
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.model.cost import CostCounter

TIMED = 3
PATIENT = 2e12
"""FLOPs of a step up to which a CPU is asked to make four of them."""
MANY = 8
"""Processes of the second memory estimate."""


def dry_run(
    stage: str, sources: Sources, config: LoopConfig, settings: dict[str, Any], init: str | None = None
) -> dict[str, Any]:
    """Parameters, memory in bytes, FLOPs, steps and hours as one dictionary; None is what cannot be told.

    Stages 1 and 2 need no data: their network is traced on fake tensors at the preset's size, every condition given.
    The others are built and measured on one batch. With data, a few steps are timed in a folder that is thrown away,
    except where a CPU would need minutes for one.
    """
    config.check()
    built: Stage | None = None
    if stage in ("1", "2"):
        shape, clip, frozen = clip_settings(stage, settings)
        shape = as_taught(shape, init) if init else shape  # and whether there is such a thing, before GPUs are booked
        found, how = (
            trace_network(shape, clip, config, lambda network: freeze(network, frozen)),
            "simulated on fake tensors at the preset's size",
        )
        samples, slow = clip.batch, config.device == "cpu" and found.flops * config.accumulate > PATIENT
        if sources.clips and not slow:
            built = build_stage(stage, sources, settings, init, config.seed)
    else:
        built = build_stage(stage, sources, settings, init, config.seed)
        (found, samples), how, slow = measure(built, config), "measured on one batch", False
    seconds = time_steps(built, config) if built is not None else None
    why = (
        None
        if seconds
        else "a step on this CPU takes minutes"
        if slow and sources.clips
        else "no --data to time steps with"
    )
    one, many = (
        memory(found.modules, config, found.peak),
        memory(found.modules, dataclasses.replace(config, parallel="fsdp"), found.peak, MANY),
    )
    return {
        "stage": stage,
        "modules": [asdict(row) for row in found.modules],
        "parameters": sum(row.parameters for row in found.modules),
        "trained": sum(row.trained for row in found.modules),
        "precision": config.precision,
        "gradient_checkpointing": config.gradient_checkpointing,
        "optimizer": config.optimizer,
        "memory": {**asdict(one), "total": one.total},
        f"memory_fsdp_{MANY}": {**asdict(many), "total": many.total},
        "activations_are": how,
        "flops_per_batch": found.flops,
        "steps": config.steps,
        "samples": config.steps * config.accumulate * samples,
        "seconds_per_step": seconds,
        "hours": None if seconds is None else seconds * config.steps / 3600,
        "hours_unknown_because": why,
    }


def measure(stage: Stage, config: LoopConfig) -> tuple[Trace, int]:
    """The trace of a real batch, and how many samples it has."""
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
    return Trace(modules(module), float(live.peak), 3 * forward), len(next(iter(batch.values())))


def time_steps(stage: Stage, config: LoopConfig) -> float:
    """Seconds of a step: the mean of a few after the first, data included."""
    with tempfile.TemporaryDirectory() as folder:
        short = dataclasses.replace(config, steps=TIMED + 1, report=[])
        trainer = Trainer(stage, Path(folder), short, join_processes(config.device))
        trainer.prepare()
        batches = trainer.batches()
        trainer.step(0, batches)
        began = time.monotonic()
        for step in range(1, TIMED + 1):
            trainer.step(step, batches)
        return (time.monotonic() - began) / TIMED

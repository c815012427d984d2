"""The training loop: one for every part of the model. A stage says what is built, what a batch is and what the loss is.

A run folder holds `config.json`, `curves.csv`, `last/` (everything needed to go on) and `ema/` (the weights to ship). Everything random derives from
(seed, step), so a run that was killed goes on with the same batches and the same noise.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..errors import TrainingError

Batch = dict[str, Any]


@dataclass
class LoopConfig:
    """How long and how fast: steps, peak learning rate, warm-up and decay in steps, EMA, clipping, seconds between checkpoints, data workers."""

    steps: int
    lr: float = 1e-3
    warmup: int = 100
    decay: int = 0  # the last `decay` steps go down to 5% of `lr` along a cosine
    ema: float = 0.999
    clip: float = 1.0
    weight_decay: float = 0.01
    seed: int = 0
    save_seconds: float = 300.0
    log_every: int = 20
    workers: int = 1
    threads: int = 1
    minutes: float = 0.0  # stop (with a checkpoint) after so long; 0 = never
    device: str = "cpu"


class Stage(Protocol):
    """What the loop needs to know of a stage. `module` holds every parameter that trains (requires_grad) and every one that ships."""

    name: str
    module: nn.Module

    def dataset(self, seed: int) -> Dataset:
        """Map-style: item i is the whole batch of step i, a dict of tensors, made from (seed, i) alone."""
        ...

    def loss(self, batch: Batch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Scalar losses by name; `loss` is the one that trains, the others are logged."""
        ...


class _From(Dataset):
    """`dataset` beginning at item `start` and ending at `stop`: what a resumed run reads."""

    def __init__(self, dataset: Dataset, start: int, stop: int):
        self.dataset, self.start, self.stop = dataset, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, i: int) -> Batch:
        return self.dataset[self.start + i]


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up, flat, cosine decay at the end."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    left = config.steps - step
    if config.decay and left < config.decay:
        return config.lr * (0.05 + 0.95 * 0.5 * (1 - math.cos(math.pi * left / config.decay)))
    return config.lr


def _write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a checkpoint folder beside its name, then rename: it is there whole or not at all."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for stale in (fresh, old):
        shutil.rmtree(stale, ignore_errors=True)
    fresh.mkdir(parents=True)
    write(fresh)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def _flat_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {f"{i}.{k}": v.detach().cpu().contiguous() for i, s in optimizer.state_dict()["state"].items() for k, v in s.items()}


def _load_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def train(stage: Stage, run: str | Path, config: LoopConfig, progress: Callable[[int, int, dict[str, float]], None] | None = None) -> Path:
    """Train `stage` in the folder `run`, going on where an earlier call stopped; returns the folder with the EMA weights.

    `progress(step, steps, losses)` is called at every logged step. Raises TrainingError when a loss is not finite (the last good checkpoint stays) or
    when `run` belongs to another stage.
    """
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    module = stage.module.to(config.device)
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.99), foreach=True)
    ema = {k: v.detach().clone() for k, v in module.state_dict().items()}
    start, last, began = 0, run / "last", time.monotonic()
    if not last.exists() and (run / "last.old").exists():  # killed between the two renames
        os.replace(run / "last.old", last)
    if last.exists():
        state = json.loads((last / "state.json").read_text())
        if state["stage"] != stage.name:
            raise TrainingError(f"{run} is a run of stage {state['stage']}, not {stage.name}: choose another folder")
        start = state["step"]
        module.load_state_dict(load_file(last / "model.safetensors"))
        _load_optimizer(optimizer, load_file(last / "optimizer.safetensors"))
        ema = {k: v.to(config.device) for k, v in load_file(last / "ema.safetensors").items()}
    (run / "config.json").write_text(json.dumps({"stage": stage.name, **asdict(config)}, indent=2))

    def save(step: int) -> None:
        def write(folder: Path) -> None:
            save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / "model.safetensors")
            save_file({k: v.contiguous() for k, v in ema.items()}, folder / "ema.safetensors")
            save_file(_flat_optimizer(optimizer), folder / "optimizer.safetensors")
            (folder / "state.json").write_text(json.dumps({"stage": stage.name, "step": step}))

        _write_whole(last, write)

    if start >= config.steps:
        return last
    data = _From(stage.dataset(config.seed), start, config.steps)
    loader = DataLoader(data, batch_size=None, num_workers=config.workers, prefetch_factor=4 if config.workers else None)
    curves = open(run / "curves.csv", "a", newline="")
    sums: dict[str, float] = {}
    saved, count, done = time.monotonic(), 0, start
    try:
        for step, batch in enumerate(loader, start):
            batch = {k: v.to(config.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
            generator = torch.Generator(config.device).manual_seed(config.seed * 1_000_003 + step)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config)
            losses = stage.loss(batch, generator)
            if not torch.isfinite(losses["loss"]):
                raise TrainingError(f"the loss is not finite at step {step}: lower the learning rate; the last checkpoint is step {done}")
            optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            nn.utils.clip_grad_norm_(trained, config.clip)
            optimizer.step()
            keep = min(config.ema, (step + 1) / (step + 10))
            with torch.no_grad():
                for k, v in module.state_dict().items():
                    ema[k].lerp_(v, 1 - keep) if v.dtype.is_floating_point else ema[k].copy_(v)
            for k, v in losses.items():
                sums[k] = sums.get(k, 0.0) + float(v.detach())
            count += 1
            if (step + 1) % config.log_every == 0:
                means = {k: v / count for k, v in sums.items()}
                csv.writer(curves).writerow([step + 1, round(time.monotonic() - began, 1), *(f"{k}={v:.5g}" for k, v in means.items())])
                curves.flush()
                sums, count = {}, 0
                if progress:
                    progress(step + 1, config.steps, means)
            out_of_time = config.minutes and time.monotonic() - began > config.minutes * 60
            if time.monotonic() - saved > config.save_seconds or step + 1 == config.steps or out_of_time:
                save(step + 1)
                saved, done = time.monotonic(), step + 1
            if out_of_time:
                break
    finally:
        curves.close()
    return last

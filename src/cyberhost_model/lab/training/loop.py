"""The training loop: one for every part of the model.

A stage says what is built, what a batch is and what the loss is.

A run folder holds `config.json` (the loop and, of a network, its preset), `curves.csv`, `last/` (everything needed to
go on, and `ema.safetensors`, the weights to ship) and `older/`. Everything random derives from the seed and the number
of the item, so a run that was killed goes on with the same batches and the same noise.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from cyberhost_model.errors import CyberHostError, TrainingError
from cyberhost_model.lab.training.checkpoint import (
    NO_ROOM,
    Checkpoints,
    check_same_run,
    hold,
    preset_of,
    trained_names,
    unwritable,
)
from cyberhost_model.lab.training.optimizer import Ema, build_optimizer, flat_state, learning_rate, load_flat_state
from cyberhost_model.lab.training.process import (
    Process,
    clip_gradients,
    gathered,
    hand_over_gradients,
    join_processes,
    parallelize,
    synchronized,
    trained_parts,
)
from cyberhost_model.lab.training.reports import Report, Speed, open_reports, peak_flops
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.lab.training.stage import Batch, Share, Stage, describe_item, memory_advice

__all__ = ["LoopConfig", "Stage", "learning_rate", "train"]

Progress = Callable[[int, int, dict[str, float]], None]
Sampler = Callable[[int, dict[str, Tensor]], Path | None]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def train(
    stage: Stage, run: str | Path, config: LoopConfig, progress: Progress | None = None, sample: Sampler | None = None
) -> Path:
    """Train `stage` in the folder `run`, going on where an earlier call stopped; returns the newest checkpoint.

    Under `torchrun` or `accelerate launch` every process calls this and they train one model. `progress(step, steps,
    values)` is called in the first process at every logged step, with the mean losses and the speed (`meters.NAMES`);
    `sample(step, weights)` there with the averaged weights every `config.sample_every` steps; the video it returns goes
    to the reports. Raises TrainingError when a loss is not finite (the last good checkpoint stays) or when `run`
    belongs to another stage or another process is training in it, ResourceError when memory is short, OutputError when
    `run` cannot be written.
    """
    run = Path(run)
    config.check()
    world = join_processes(config.device)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    checkpoints = hasattr(stage.module, "enable_gradient_checkpointing")
    if config.gradient_checkpointing:
        if not checkpoints:
            raise TrainingError(f"{stage.name} has no gradient checkpointing: leave out --gradient-checkpointing")
        stage.module.enable_gradient_checkpointing()
    with hold(run, world), memory_advice(config, checkpoints, world.size):
        try:
            return Trainer(stage, run, config, world).train(progress, sample)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise unwritable(run, error) from error
            raise


class Trainer:
    """A stage with all that trains it: made from the last checkpoint, if there is one."""

    def __init__(self, stage: Stage, run: Path, config: LoopConfig, world: Process) -> None:
        self.stage, self.run, self.config, self.world = stage, run, config, world
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(run, error) from error
        self.module = stage.module.to(world.device)
        self.checkpoints = Checkpoints(run, stage.name, config.keep, world)
        saved = self.checkpoints.read()
        self.start, self.first_item = (saved.step, saved.items) if saved else (0, 0)
        if saved:
            check_same_run(run, stage.module, config, saved.extra)
            self.module.load_state_dict(saved.weights("model"))
        self.replica = parallelize(stage, world, config.parallel)
        self.trained = [p for p in self.module.parameters() if p.requires_grad]
        self.parts = trained_parts(self.module)
        self.sharded = any(part is not whole for part, whole in zip(self.parts, self.trained, strict=True))
        self.optimizer = build_optimizer(self.parts, config, self.sharded)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=config.precision == "fp16")
        self.average = Ema(self.module, config, world)
        if saved:
            load_flat_state(self.optimizer, saved.weights("optimizer"), self.trained, world)
            self.average.load(saved.weights("ema"))
            if config.precision == "fp16" and "scaler" in saved.extra:
                self.scaler.load_state_dict(saved.extra["scaler"])
        if hasattr(stage, "follow"):
            if self.sharded:
                raise TrainingError(
                    f"{stage.name} learns from the averaged weights, which must be whole: use --parallel ddp"
                )
            stage.follow(self.average.weights)
        if world.main:
            (run / "config.json").write_text(
                json.dumps({"stage": stage.name, **asdict(config), **preset_of(stage.module)}, indent=2)
            )

    def train(self, progress: Progress | None, sample: Sampler | None) -> Path:
        """All steps that are left."""
        config, world = self.config, self.world
        if self.start >= config.steps:
            return self.checkpoints.last
        self.prepare()
        batches = self.batches()
        reports = (
            open_reports(self.run, config, {"stage": self.stage.name, **asdict(config)}, self.start)
            if world.main
            else []
        )
        began = saved = time.monotonic()
        logged: dict[str, list[Tensor]] = {}
        try:
            for step in range(self.start, config.steps):
                for name, value in self.step(step, batches).items():
                    logged.setdefault(name, []).append(value)
                if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
                    self._report(step, logged, reports, progress)
                    logged = {}
                now = time.monotonic()
                out_of_time = bool(config.minutes) and now - began > config.minutes * 60
                due, out_of_time = world.any(now - saved > config.save_seconds, out_of_time)
                if due or step + 1 == config.steps or out_of_time:
                    with self.speed.pause():
                        self.save(step + 1)
                    saved = time.monotonic()
                if sample and config.sample_every and (step + 1) % config.sample_every == 0:
                    with self.speed.pause():
                        self._sample(step + 1, sample, reports)
                if out_of_time:
                    break
        finally:
            for report in reports:
                report.close()
        return self.checkpoints.last

    def prepare(self) -> None:
        """What the first step wants: this process's share of the data, and a clock."""
        config, world = self.config, self.world
        self.speed = Speed(world.size, peak_flops(world.device, config.precision, config.peak_tflops))
        data = self.stage.dataset(config.seed)
        if len(data) == 0:  # type: ignore[arg-type]
            raise TrainingError(f"{self.stage.name}: the dataset is empty")
        self.share = Share(
            data, self.first_item, (config.steps - self.start) * config.accumulate, world.rank, world.size
        )
        self.done = self.start

    def save(self, step: int) -> None:
        """Write a checkpoint after `step` steps."""
        items = self.first_item + (step - self.start) * self.config.accumulate * self.world.size
        extra: dict[str, Any] = {"trained": trained_names(self.module)}
        if self.config.precision == "fp16":
            extra["scaler"] = self.scaler.state_dict()
        parts = {
            "model": lambda: {k: gathered(v, v, self.world) for k, v in self.module.state_dict().items()},
            "ema": self.average.whole,
            "optimizer": lambda: flat_state(self.optimizer, self.trained, self.world),
        }
        self.checkpoints.write(step, items, parts, extra)
        self.done = step

    def batches(self) -> Iterator[Batch | CyberHostError]:
        """This process's batches, made by `config.workers` others."""
        workers, pin = self.config.workers, self.world.device.type == "cuda"
        if workers:
            cv2.setNumThreads(1)  # a pool of OpenCV's, as measuring leaves one, would hang the processes forked here
        return iter(
            DataLoader(
                self.share, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None, pin_memory=pin
            )
        )

    def step(self, step: int, batches: Iterator[Batch | CyberHostError]) -> dict[str, Tensor]:
        """One optimizer step; returns the losses, averaged over its batches."""
        config, device = self.config, self.world.device
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        self.optimizer.zero_grad(set_to_none=True)
        found: list[dict[str, Tensor]] = []
        for part in range(config.accumulate):
            with self.speed.waiting():
                batch = next(batches)
            if isinstance(batch, CyberHostError):
                raise batch
            batch = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
            item = self.share.item((step - self.start) * config.accumulate + part)
            generator = torch.Generator(device).manual_seed(config.seed * 1_000_003 + item)
            self.speed.batch(batch, self.module, lambda batch=batch: self._trial(batch))  # type: ignore[misc]
            with synchronized(self.replica, part == config.accumulate - 1):
                with self._autocast():
                    losses = self.replica(batch, generator)
                self._check_finite(step, item, losses["loss"])
                loss = losses["loss"] if config.accumulate == 1 else losses["loss"] / config.accumulate
                self.scaler.scale(loss).backward()
            found.append({k: v.detach() for k, v in losses.items()})
        if self.sharded:
            hand_over_gradients(self.module, self.parts)
            self._agree_on_overflow()
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.parts, config.clip, self.world, self.sharded)
        if not self.scaler.is_enabled():  # a loss scale skips the step by itself, and is lowered
            self._check_gradient(step, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update(step)
        means = (
            found[0] if len(found) == 1 else {k: torch.stack([losses[k] for losses in found]).mean() for k in found[0]}
        )
        return {**means, "grad_norm": norm.detach()}

    def _agree_on_overflow(self) -> None:
        """fp16: every process must skip a step that overflowed in the shard of one."""
        if self.scaler.is_enabled():
            gradients = [p.grad for p in self.parts if p.grad is not None]
            if self.world.any(not all(bool(torch.isfinite(g).all()) for g in gradients))[0]:
                gradients[0].fill_(float("inf"))

    def _trial(self, batch: Batch) -> None:
        """The loss of a batch, for nothing but counting; DDP is left out, for it would wait for the other processes."""
        replica = self.replica.module if isinstance(self.replica, DistributedDataParallel) else self.replica
        with self._autocast():
            replica(batch, torch.Generator(self.world.device).manual_seed(0))

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.world.device.type, DTYPES[self.config.precision])

    def _check_finite(self, step: int, item: int, loss: Tensor) -> None:
        bad = not torch.isfinite(loss)
        if not self.world.any(bad)[0]:
            return
        raise self._not_finite("loss", step, [item] if bad else [])

    def _check_gradient(self, step: int, norm: Tensor) -> None:
        """A finite loss may have a gradient that is not: the optimizer would make all weights NaN of it."""
        if self.world.any(not torch.isfinite(norm))[0]:
            first = (step - self.start) * self.config.accumulate
            raise self._not_finite(
                "gradient", step, [self.share.item(first + part) for part in range(self.config.accumulate)]
            )

    def _not_finite(self, what: str, step: int, items: list[int]) -> TrainingError:
        """Names the items of all processes; every process must call it."""
        own = "; ".join(describe_item(self.share.dataset, item) for item in items)
        named = "; ".join(text for text in self.world.collect(own) if text)
        kept = f"the last checkpoint is step {self.done}" if self.done else "there is no checkpoint yet"
        return TrainingError(
            f"the {what} is not finite at step {step} ({named}): look at that batch, or lower the learning rate; {kept}"
        )

    def _report(
        self, step: int, logged: dict[str, list[Tensor]], reports: list[Report], progress: Progress | None
    ) -> None:
        means = {k: sum(torch.stack(values).tolist()) / len(values) for k, values in logged.items()}
        speed = self.speed.values()
        values = self.world.mean({**means, "lr": learning_rate(step, self.config), **speed})
        for report in reports:
            report.add(step + 1, values)
        if progress and self.world.main:
            progress(step + 1, self.config.steps, values)

    def _sample(self, step: int, sample: Sampler, reports: list[Report]) -> None:
        weights, error = self.average.whole(), None
        if self.world.main:
            try:
                if (video := sample(step, weights)) is not None:
                    for report in reports:
                        report.film(step, video)
            except Exception as failed:
                error = failed
        if self.world.any(error is not None)[0]:
            self.save(step)  # days of training must not be lost for a video
        self.world.raise_together(error)

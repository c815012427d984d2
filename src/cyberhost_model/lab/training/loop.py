"""The training loop: one for every part of the model; a stage defines the module, the batches and the loss.

A run folder holds `config.json` (the loop's settings and a network's preset), `curves.csv`, `last/` (everything needed
to resume, and `ema.safetensors`, the weights to ship) and `older/`. Everything random derives from the seed and the
number of the item, so a run that was killed resumes with the same batches and the same noise.
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
from torch.utils.data import DataLoader

from cyberhost_model.errors import CyberHostError, TrainingError
from cyberhost_model.lab.training.checkpoint import (
    NO_ROOM,
    Checkpoints,
    check_same_run,
    fitting,
    lock_run,
    preset_of,
    trained_names,
    write_error,
)
from cyberhost_model.lab.training.optimizer import (
    Ema,
    build_optimizer,
    decaying,
    flat_state,
    learning_rate,
    load_flat_state,
)
from cyberhost_model.lab.training.process import (
    Process,
    clip_gradients,
    gather_tensors,
    join_processes,
    move_gradients,
    optimizer_parameters,
    parallelize,
    synchronized,
)
from cyberhost_model.lab.training.record import RECORD, check_same_record, record_of
from cyberhost_model.lab.training.reports import Report, Speed, open_reports, peak_flops
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.lab.training.stage import Batch, ProcessItems, Stage, describe_item, memory_advice
from cyberhost_model.lab.training.validation import Validation, keep_best, lowest_error

__all__ = ["LoopConfig", "Stage", "learning_rate", "train"]

Progress = Callable[[int, int, dict[str, float]], None]
Sampler = Callable[[int, dict[str, Tensor]], Path | None]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def train(
    stage: Stage,
    run: str | Path,
    config: LoopConfig,
    progress: Progress | None = None,
    sample: Sampler | None = None,
    validation: Validation | None = None,
    origin: dict[str, Any] | None = None,
) -> Path:
    """Train `stage` in the folder `run`, resuming where an earlier call stopped; returns the newest checkpoint.

    Under `torchrun` or `accelerate launch` every process calls this, and they train one model. progress(step, steps,
    values): called in the first process at every logged step, with the mean losses and the speed
    (`reports.SPEED_NAMES`). sample(step, weights): called there every `config.sample_every` steps with the averaged
    weights; the video it returns goes to the reports. validation: measured every `config.validate_every` steps and at
    the end; `RUN/best` keeps the averaged weights of the lowest error. origin: what the run begins with, for its record
    (`record.origin_of`); None: as it is recorded. Raises TrainingError when a loss is not finite (the last good
    checkpoint stays), when `run` belongs to another stage, or when another process is training in it;
    ResourceError when memory is short; OutputError when `run` cannot be written.
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
    with lock_run(run, world), memory_advice(config, checkpoints, world.size):
        try:
            return Trainer(stage, run, config, world, validation, origin).train(progress, sample)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise write_error(run, error) from error
            raise


class Trainer:
    """A stage with its optimizer, averaged weights and checkpoints, loaded from the last checkpoint if there is one."""

    def __init__(
        self,
        stage: Stage,
        run: Path,
        config: LoopConfig,
        world: Process,
        validation: Validation | None = None,
        origin: dict[str, Any] | None = None,
    ) -> None:
        self.stage, self.run, self.config, self.world = stage, run, config, world
        self.validation = validation if config.validate_every else None
        if self.validation is not None:
            self.validation.dataset(stage)  # so that what is wrong with it is told before the first step
        self.lowest = lowest_error(run)
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(run, error) from error
        self.module = stage.module.to(world.device)
        self.checkpoints = Checkpoints(run, stage.name, config.keep, world)
        saved = self.checkpoints.read()
        self.start, self.first_item = (saved.step, saved.items) if saved else (0, 0)
        record = record_of(stage, run, origin) if world.main else {}
        if saved:
            check_same_run(run, stage.module, config, saved.extra)
            world.raise_together(self._changed(record) if world.main else None)
            with fitting(saved):
                self.module.load_state_dict(saved.weights("model"))
        decays = decaying(self.module)  # before FSDP puts other tensors in the parameters' places
        self.replica = parallelize(stage, world, config.parallel)
        self.trained = [p for p in self.module.parameters() if p.requires_grad]
        self.parts = optimizer_parameters(self.module)
        self.sharded = any(part is not whole for part, whole in zip(self.parts, self.trained, strict=True))
        self.optimizer = build_optimizer(self.parts, config, self.sharded, decays)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=config.precision == "fp16")
        self.average = Ema(self.module, config, world)
        if saved:
            with fitting(saved):
                load_flat_state(self.optimizer, saved.weights("optimizer"), self.parts, self.trained, world)
                self.average.load(saved.weights("ema"))
                if config.precision == "fp16" and "scaler" in saved.extra:
                    self.scaler.load_state_dict(saved.extra["scaler"])
        if world.main:
            (run / "config.json").write_text(
                json.dumps({"stage": stage.name, **asdict(config), **preset_of(stage.module), RECORD: record}, indent=2)
            )

    def _changed(self, record: dict[str, Any]) -> TrainingError | None:
        """Make the error of a run that goes on with other settings or data."""
        try:
            check_same_record(self.run, record, self.config.allow_changed)
        except TrainingError as error:
            return error
        return None

    def train(self, progress: Progress | None, sample: Sampler | None) -> Path:
        """Train the remaining steps; returns the newest checkpoint."""
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
                valid = self._validate(step + 1) if self._validates(step + 1) else {}
                if (step + 1) % config.log_every == 0 or step + 1 == config.steps or valid:
                    self._report(step, logged, reports, progress, valid)
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
        """Make this process's items of the data, and start the clock."""
        config, world = self.config, self.world
        self.speed = Speed(world.size, peak_flops(world.device, config.precision, config.peak_tflops))
        data = self.stage.dataset(config.seed)
        if len(data) == 0:  # type: ignore[arg-type]
            raise TrainingError(f"{self.stage.name}: the dataset is empty")
        self.items = ProcessItems(
            data, self.first_item, (config.steps - self.start) * config.accumulate, world.rank, world.size
        )
        self.done = self.start

    def save(self, step: int) -> None:
        """Write a checkpoint after `step` steps; every process must call it."""
        items = self.first_item + (step - self.start) * self.config.accumulate * self.world.size
        extra: dict[str, Any] = {"trained": trained_names(self.module)}
        if self.config.precision == "fp16":
            extra["scaler"] = self.scaler.state_dict()
        own = self.module.state_dict()
        parts = {
            "model": lambda: gather_tensors(own, own, self.world),
            "ema": self.average.whole,
            "optimizer": lambda: flat_state(self.optimizer, self.parts, self.trained, self.world),
        }
        self.checkpoints.write(step, items, parts, extra)
        self.done = step

    def batches(self) -> Iterator[Batch | CyberHostError]:
        """Iterate over this process's batches, made by `config.workers` other processes."""
        workers, pin = self.config.workers, self.world.device.type == "cuda"
        if workers:
            cv2.setNumThreads(1)  # an OpenCV thread pool would hang the processes forked here
        return iter(
            DataLoader(
                self.items, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None, pin_memory=pin
            )
        )

    def step(self, step: int, batches: Iterator[Batch | CyberHostError]) -> dict[str, Tensor]:
        """Take one optimizer step; returns the losses, averaged over its batches, and the norm of the gradient.

        Where they are due, the terms' shares of the gradient of its first batch are among the losses.
        """
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        self.optimizer.zero_grad(set_to_none=True)
        found = [self._backward(step, part, batches) for part in range(config.accumulate)]
        if self.sharded:
            move_gradients(self.module, self.parts)
            self._agree_on_overflow()
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.parts, config.clip, self.world, self.sharded)
        if not self.scaler.is_enabled():  # a loss scale skips the step by itself, and is lowered
            self._check_gradient(step, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update(step)
        means = {k: torch.stack([losses[k] for losses in found if k in losses]).mean() for k in found[0]}
        return {**means, "grad_norm": norm.detach()}

    def _backward(self, step: int, part: int, batches: Iterator[Batch | CyberHostError]) -> dict[str, Tensor]:
        """Add the gradients of one batch of a step; returns its losses."""
        config, device = self.config, self.world.device
        with self.speed.waiting():
            batch = next(batches)
        if isinstance(batch, CyberHostError):
            raise batch
        batch = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
        item = self.items.item((step - self.start) * config.accumulate + part)

        def drawing() -> torch.Generator:
            return torch.Generator(device).manual_seed(config.seed * 1_000_003 + item)

        shares = self._gradient_shares(batch, drawing()) if part == 0 and self._shares_due(step) else {}
        with synchronized(self.replica, part == config.accumulate - 1):
            with self._autocast(), self.speed.forward(batch):
                losses = self.replica(batch, drawing())
            self._check_finite(step, item, losses["loss"])
            loss = losses["loss"] if config.accumulate == 1 else losses["loss"] / config.accumulate
            self.scaler.scale(loss).backward()
        return {**{k: v.detach() for k, v in losses.items()}, **shares}

    def _shares_due(self, step: int) -> bool:
        """Whether the terms' shares of the gradient are measured in a step; FSDP's shards know no whole gradient."""
        every = self.config.shares_every
        return bool(every) and (step + 1) % every == 0 and not self.sharded and hasattr(self.stage, "gradient_shares")

    def _gradient_shares(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Measure the terms' shares in a pass of its own, beside DDP, which would average the gradients."""
        with self.speed.pause(), self._autocast():
            return self.stage.gradient_shares(batch, generator)  # type: ignore[attr-defined]

    def _agree_on_overflow(self) -> None:
        """Make every process skip an fp16 step that overflowed in the shard of one."""
        if self.scaler.is_enabled():
            gradients = [p.grad for p in self.parts if p.grad is not None]
            if self.world.any(not all(bool(torch.isfinite(g).all()) for g in gradients))[0]:
                gradients[0].fill_(float("inf"))

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.world.device.type, DTYPES[self.config.precision])

    def _check_finite(self, step: int, item: int, loss: Tensor) -> None:
        """Raise TrainingError in every process for a loss that is not finite in one."""
        bad = not torch.isfinite(loss)
        if not self.world.any(bad)[0]:
            return
        raise self._not_finite("loss", step, [item] if bad else [])

    def _check_gradient(self, step: int, norm: Tensor) -> None:
        """Raise TrainingError for a gradient that is not finite: a finite loss may have one, and spoil all weights."""
        if self.world.any(not torch.isfinite(norm))[0]:
            first = (step - self.start) * self.config.accumulate
            raise self._not_finite(
                "gradient", step, [self.items.item(first + part) for part in range(self.config.accumulate)]
            )

    def _not_finite(self, what: str, step: int, items: list[int]) -> TrainingError:
        """Make the error that names the items of all processes; every process must call it."""
        own = "; ".join(describe_item(self.items.dataset, item) for item in items)
        named = "; ".join(text for text in self.world.collect(own) if text)
        kept = f"the last checkpoint is step {self.done}" if self.done else "there is no checkpoint yet"
        return TrainingError(
            f"the {what} is not finite at step {step} ({named}): look at that batch, or lower the learning rate; {kept}"
        )

    def _report(
        self,
        step: int,
        logged: dict[str, list[Tensor]],
        reports: list[Report],
        progress: Progress | None,
        valid: dict[str, float],
    ) -> None:
        """Write the means since the last row, with the speed and a validation of this step, to the reports."""
        means = {k: sum(torch.stack(values).tolist()) / len(values) for k, values in logged.items()}
        speed = self.speed.values()
        values = {**self.world.mean({**means, "lr": learning_rate(step, self.config), **speed}), **valid}
        for report in reports:
            report.add(step + 1, values)
        if progress and self.world.main:
            progress(step + 1, self.config.steps, values)

    def _validates(self, step: int) -> bool:
        """Whether a validation is due after `step` steps; the last step always has one."""
        every = self.config.validate_every
        return self.validation is not None and (step % every == 0 or step == self.config.steps)

    def _validate(self, step: int) -> dict[str, float]:
        """Measure the averaged weights on held-out clips, and keep the best; every process must call it."""
        assert self.validation is not None
        with self.speed.pause():
            with self.average.in_place(), self._autocast():
                values = self.validation.measure(self.stage, self.world)
            if values["valid"] < self.lowest:
                self.lowest = values["valid"]
                weights, error = self.average.whole(), None
                if self.world.main:
                    try:
                        keep_best(self.run, weights, {"stage": self.stage.name, "step": step, "valid": self.lowest})
                    except OSError as failed:
                        error = write_error(self.run, failed)
                self.world.raise_together(error)
        return values

    def _sample(self, step: int, sample: Sampler, reports: list[Report]) -> None:
        """Make a sample video in the first process; where that fails, save a checkpoint and raise the error."""
        weights, error = self.average.whole(), None
        if self.world.main:
            try:
                if (video := sample(step, weights)) is not None:
                    for report in reports:
                        report.add_video(step, video)
            except Exception as failed:
                error = failed
        if self.world.any(error is not None)[0]:
            self.save(step)  # a failed video must not cost days of training
        self.world.raise_together(error)

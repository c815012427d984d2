"""One of several training processes, for test_training_distributed: `training_worker.py OUT`, started as torchrun
would start it.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.loop import LoopConfig, Trainer, train
from cyberhost_model.lab.training.process import gather_tensors, join_processes, leave_processes
from cyberhost_model.lab.training.stages.distill import DistillStage, DistillStageConfig
from model_helpers import make_network
from training_helpers import SMALL, RandomClips, RandomStage

ONE_LEVEL = dataclasses.replace(
    SMALL,
    unet=dataclasses.replace(
        SMALL.unet, block_out_channels=(32,), attention_levels=(True,), heads=(2,), motion_heads=(1,)
    ),
    region=dataclasses.replace(SMALL.region, stages=("down_blocks.0", "mid_block", "up_blocks.0")),
)
"""A third fewer parameters: processes exchange and keep each by itself, which is what takes the time."""


def config(parallel: str = "ddp", **changes) -> LoopConfig:
    return LoopConfig(
        **{
            "steps": 2,
            "lr": 1e-3,
            "warmup": 0,
            "workers": 0,
            "log_every": 2,
            "save_seconds": 1e9,
            "clip": 1e9,
            "parallel": parallel,
            **changes,
        }
    )


class SharedStage(RandomStage):
    """The stage that all processes train."""

    def __init__(self, mixed: bool = False) -> None:
        super().__init__(mixed, ONE_LEVEL)


class SharedDistillation(DistillStage):
    """Distillation to two steps, in all processes."""

    def __init__(self) -> None:
        settings = DistillStageConfig("distill", batch=1, frames=ONE_LEVEL.frames, motion=0.5)
        super().__init__(Path(), make_network(ONE_LEVEL).train(), settings)

    def dataset(self, seed: int) -> RandomClips:
        return RandomClips(seed, True, ONE_LEVEL)


def first_gradients(run: Path, settings: LoopConfig) -> dict[str, torch.Tensor]:
    """Gradients of the first step on clips of mixed sizes, whole, in the first process."""
    trainer = Trainer(SharedStage(mixed=True), run, settings, join_processes("cpu"))
    kept: dict[str, torch.Tensor] = {}

    def keep(*_) -> None:
        names = [name for name, p in trainer.module.named_parameters() if p.requires_grad]
        parts = {name: part.grad for name, part in zip(names, trainer.parts, strict=True) if part.grad is not None}
        whole = gather_tensors(parts, dict(zip(names, trainer.trained, strict=True)), trainer.world)
        kept.update({name: value.clone() for name, value in whole.items()})

    trainer.optimizer.register_step_pre_hook(keep)
    trainer.prepare()
    trainer.step(0, trainer.batches())
    return kept


class Poisoned(SharedStage):
    """Its loss is not a number in item 3."""

    def loss(self, batch, generator):
        losses = super().loss(batch, generator)
        bad = generator.initial_seed() == 3 and torch.is_grad_enabled()
        return {**losses, "loss": losses["loss"] * float("nan")} if bad else losses


def main(out: Path) -> None:
    """All that is done in several processes, in one start of them."""
    torch.set_num_threads(1)
    world = join_processes("cpu")
    for parallel in ("ddp", "fsdp"):
        found = first_gradients(out / "gradients", config(parallel, accumulate=2))
        if world.main:
            save_file(found, out / f"{parallel}.safetensors")
    train(SharedStage(mixed=True), out / "whole", config("fsdp"))
    train(SharedStage(mixed=True), out / "parts", config("fsdp", steps=1))
    train(SharedStage(mixed=True), out / "parts", config("fsdp"))
    for parallel in ("ddp", "fsdp"):
        train(SharedDistillation(), out / f"distilled-{parallel}", config(parallel))
    resumed = Trainer(SharedStage(mixed=True), out / "single", config("fsdp"), world)
    resumed.prepare()
    resumed.save(1)
    train(
        SharedStage(),
        out / "fp16",
        config("fsdp", steps=1, precision="fp16", gradient_checkpointing=True, ema_device="cpu"),
    )
    try:
        train(Poisoned(), out / "poisoned", config("ddp"))
    except TrainingError as error:
        (out / f"error-{world.rank}.txt").write_text(str(error))
    try:
        train(SharedStage(), out / "held", config("ddp"))
    except TrainingError as error:
        (out / f"held-{world.rank}.txt").write_text(str(error))
    torch.distributed.barrier()  # nobody leaves while another still talks
    leave_processes()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

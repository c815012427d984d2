"""How a run trains, apart from what it trains: one dataclass, filled from a recipe and the command line."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch

from cyberhost_model.errors import TrainingError

PRECISIONS = ("fp32", "bf16", "fp16")
PARALLEL = ("ddp", "fsdp")
OPTIMIZERS = ("adamw", "adamw-fused", "adamw8bit")
REPORTS = ("tensorboard", "wandb")
DEVICES = ("cpu", "cuda", "mps")


def check_types(settings: Any, where: str = "") -> None:
    """Whether the numbers, words and switches of a dataclass are such; a recipe's file may say anything.

    Raises TrainingError.
    """
    for entry in dataclasses.fields(settings):
        value, wanted = getattr(settings, entry.name), entry.type
        kinds = {"int": int, "float": (int, float), "bool": bool, "str": str}.get(str(wanted))
        wrong = kinds is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and wanted != "bool"))  # type: ignore[arg-type]
        if wrong:
            raise TrainingError(f"{where}{entry.name} = {value!r}: not of the kind {wanted}")


def torch_device(name: str) -> torch.device:
    """ "cpu", "cuda", "cuda:1" or "mps". Raises TrainingError for another name."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in DEVICES:
        raise TrainingError(f"device = {name!r} is unknown; choose one of {', '.join(DEVICES)}")
    return device


@dataclass
class LoopConfig:
    """Settings of the loop; `[loop]` and the stage's section of a recipe."""

    steps: int
    """Optimizer steps in all, those of earlier calls included."""
    lr: float = 1e-3
    """Peak learning rate."""
    warmup: int = 100
    """Steps of linear warm-up."""
    decay: int = 0
    """The last `decay` steps go down to 5% of `lr` along a cosine."""
    ema: float = 0.999
    """Share of the averaged weights that stays at each step."""
    ema_every: int = 1
    """Steps between two updates of the average (with `ema` raised to that power)."""
    ema_device: str = ""
    """Where the average is held: "" beside the weights, "cpu" to spare the GPU's memory."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    weight_decay: float = 0.01
    optimizer: str = "adamw"
    """"adamw", "adamw-fused" (one kernel) or "adamw8bit" (bitsandbytes: a quarter of the optimizer's memory)."""
    accumulate: int = 1
    """Batches a process takes for one step."""
    precision: str = "fp32"
    """"fp32", "bf16" or "fp16" (with a loss scale); weights and optimizer stay float32."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    parallel: str = "ddp"
    """With several processes: "ddp" copies the model to each, "fsdp" shards weights, gradients, optimizer and
    average.
    """
    seed: int = 0
    save_seconds: float = 300.0
    """Seconds between checkpoints."""
    keep: int = 2
    """Checkpoints that stay: `last` and `keep` - 1 in `older`."""
    log_every: int = 20
    """Steps between two rows of curves.csv."""
    report: list[str] = field(default_factory=list)
    """"tensorboard", "wandb" or both, beside curves.csv."""
    workers: int = 1
    """Processes that make batches, for each training process."""
    threads: int = 1
    """CPU threads of each training process."""
    minutes: float = 0.0
    """Stop (with a checkpoint) after so long; 0 = never."""
    device: str = "cpu"
    sample_every: int = 0
    """Steps between two sample videos; 0 = none."""
    sample_model: str = "tiny"
    """Model whose codec, speech encoder and detector make sample videos."""
    peak_tflops: float = 0.0
    """The device's peak for MFU; 0 takes it from a table of GPUs."""

    def check(self) -> None:
        """Raises TrainingError for a value that cannot be trained with."""
        check_types(self)
        torch_device(self.device)
        for name, known in (
            ("precision", PRECISIONS),
            ("parallel", PARALLEL),
            ("optimizer", OPTIMIZERS),
            ("ema_device", ("", "cpu")),
        ):
            if getattr(self, name) not in known:
                raise TrainingError(
                    f"{name} = {getattr(self, name)!r} is unknown; choose one of {', '.join(repr(k) for k in known)}"
                )
        for name in ("steps", "accumulate", "keep", "log_every", "ema_every", "threads"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in (
            "warmup",
            "decay",
            "weight_decay",
            "seed",
            "save_seconds",
            "workers",
            "minutes",
            "sample_every",
            "peak_tflops",
        ):
            if getattr(self, name) < 0:
                raise TrainingError(f"{name} must not be below 0, and is {getattr(self, name)}")
        if not 0 <= self.ema <= 1 or self.clip <= 0 or self.lr <= 0:
            raise TrainingError("ema must be within 0..1, clip and lr above 0")
        if unknown := [name for name in self.report if name not in REPORTS]:
            raise TrainingError(f"report = {unknown[0]!r} is unknown; choose one of {', '.join(REPORTS)}")

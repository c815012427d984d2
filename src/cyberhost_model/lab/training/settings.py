"""Settings of the training loop: one dataclass, filled from a recipe and the command line."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING, Any

from cyberhost_model.config import parse_device
from cyberhost_model.errors import InputError, TrainingError
from cyberhost_model.options import SEEDS, check_changes, option
from cyberhost_model.reading import Unreadable, convert, short

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "bf16", "fp16")
PARALLEL = ("ddp", "fsdp")
OPTIMIZERS = ("adamw", "adamw-fused", "adamw8bit")
REPORTS = ("tensorboard", "wandb")
DEVICES = ("cpu", "cuda", "mps")
BOUNDED = ("steps", "accumulate", "seed", "save_seconds", "keep", "workers", "threads", "minutes", "sample_every")
"""Fields of `LoopConfig` whose bounds are those of their options."""


def check_types(settings: Any, where: str = "") -> None:
    """Check the types of a dataclass's fields, whose values come from a recipe's file; numbers must be finite.

    Raises TrainingError.
    """
    hints = typing.get_type_hints(type(settings))
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        try:
            convert(hints[entry.name], value, entry.name)
        except Unreadable:
            kind = entry.type if isinstance(entry.type, str) else getattr(entry.type, "__name__", entry.type)
            raise TrainingError(f"{where}{entry.name} = {short(value)}: not of the kind {kind}") from None


def torch_device(name: str) -> torch.device:
    """Return the device "cpu", "cuda", "cuda:1" or "mps". Raises TrainingError for another name."""
    import torch  # late: the command line reads the settings before it needs torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in DEVICES:
        raise TrainingError(f"device = {name!r} is unknown; choose one of {', '.join(DEVICES)}")
    return device


def _parse_ema_device(text: str) -> str:
    """Read --ema-device. Raises InputError for all but "cpu"."""
    if text != "cpu":
        raise InputError(f"the averaged weights can be held beside the weights, or on the cpu, not on {text[:40]!r}")
    return text


@dataclass
class LoopConfig:
    """Settings of the loop; `[loop]` and the stage's section of a recipe."""

    steps: int = option(MISSING, "Optimizer steps. [default: the recipe's]", min=1, max=10**9)
    """Optimizer steps in all, those of earlier calls included."""
    lr: float = option(1e-3, "Peak learning rate. [default: the recipe's]", min=1e-12, max=1e3)
    """Peak learning rate."""
    warmup: int = 100
    """Steps of linear warm-up."""
    decay: int = 0
    """The last `decay` steps go down to 5% of `lr` along a cosine."""
    ema: float = 0.999
    """Share of the averaged weights that stays at each step."""
    ema_every: int = 1
    """Steps between two updates of the average (with `ema` raised to that power)."""
    ema_device: str = option(
        "", "Hold the averaged weights in the CPU's memory.", metavar="cpu", parse=_parse_ema_device
    )
    """Where the average is held: "" beside the weights, "cpu" to spare the GPU's memory."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    weight_decay: float = 0.01
    optimizer: str = option("adamw", "Kind of AdamW.", choices=OPTIMIZERS)
    """"adamw", "adamw-fused" (one kernel) or "adamw8bit" (bitsandbytes: a quarter of the optimizer's memory)."""
    accumulate: int = option(1, "Batches a process takes for one optimizer step.", min=1, max=65536)
    """Batches a process takes for one optimizer step."""
    precision: str = option("fp32", "Numbers to compute with.", choices=PRECISIONS)
    """"fp32", "bf16" or "fp16" (with a loss scale); weights and optimizer stay float32."""
    gradient_checkpointing: bool = option(False, "Compute activations again in the backward pass, to save memory.")
    """Compute activations again in the backward pass instead of keeping them."""
    parallel: str = option(
        "ddp", "With torchrun or accelerate launch: a model each, or one in shards.", choices=PARALLEL
    )
    """With several processes: "ddp" copies the model to each, "fsdp" shards weights, gradients, optimizer and
    average.
    """
    seed: int = option(0, "Same seed, same batches and noise.", min=0, max=SEEDS)
    save_seconds: float = option(300.0, "Minutes between checkpoints.", "--save-minutes", min=0, max=6e9, scale=60)
    """Seconds between checkpoints."""
    keep: int = option(2, "Checkpoints that are kept.", min=1, max=10_000)
    """Checkpoints that stay: `last` and `keep` - 1 in `older`."""
    log_every: int = 20
    """Steps between two rows of curves.csv."""
    shares_every: int = 100
    """Steps between two measurements of each loss term's share of the gradient; 0 = none."""
    report: list[str] = option([], "Curves beside curves.csv; may be repeated.", choices=REPORTS)
    """"tensorboard", "wandb" or both, beside curves.csv."""
    workers: int = option(1, "Processes that make batches.", min=0, max=1024)
    """Processes that make batches, for each training process."""
    threads: int = option(1, "CPU threads. [default: 1]", min=1, max=1024)
    """CPU threads of each training process."""
    minutes: float = option(0.0, "Stop after these minutes, with a checkpoint. [default: 0 = never]", min=0, max=1e8)
    """Stop (with a checkpoint) after so long; 0 = never."""
    allow_changed: bool = option(False, "Go on with a run though its stage's settings or its data have changed.")
    """Go on with a run though what `record.check_same_record` compares has changed."""
    device: str = option("cpu", "cpu, cuda or mps. [default: cpu]", metavar="TEXT", parse=parse_device)
    sample_every: int = option(0, "Steps between sample videos; 0 = none.", min=0, max=10**9)
    """Steps between two sample videos; 0 = none."""
    validate_every: int = option(0, "Steps between two measurements on --validate; 0 = none.", min=0, max=10**9)
    """Steps between two measurements on held-out clips (`validation`); 0 = none."""
    sample_model: str = "tiny"
    """Model whose codec, speech encoder and detector make sample videos."""
    peak_tflops: float = option(0.0, "The device's peak, for MFU. [default: known for common GPUs]", min=0, max=1e6)
    """The device's peak for MFU; 0 takes it from a table of GPUs."""

    def check(self) -> None:
        """Check all values. Raises TrainingError for one out of its bounds."""
        check_types(self)
        try:
            check_changes(self, {name: getattr(self, name) for name in BOUNDED})
        except InputError as error:
            raise TrainingError(str(error)) from None
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
            "validate_every",
            "shares_every",
            "peak_tflops",
        ):
            if getattr(self, name) < 0:
                raise TrainingError(f"{name} must not be below 0, and is {getattr(self, name)}")
        if not 0 <= self.ema <= 1 or self.clip <= 0 or self.lr <= 0:
            raise TrainingError("ema must be within 0..1, clip and lr above 0")
        if unknown := [name for name in self.report if name not in REPORTS]:
            raise TrainingError(f"report = {unknown[0]!r} is unknown; choose one of {', '.join(REPORTS)}")

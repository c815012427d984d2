"""The protocol of a stage, its loss as a module, and the items of its data that a process takes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from cyberhost_model.errors import CyberHostError, ResourceError, TrainingError, lacks_memory
from cyberhost_model.lab.training.settings import LoopConfig

# torch's message for a worker process that died. An error that a worker raised says "Caught ... in DataLoader worker
# process" instead, and has other causes than memory.
LOST_WORKER = re.compile(r"DataLoader worker \(pid")


@contextlib.contextmanager
def memory_advice(config: LoopConfig, checkpoints: bool, processes: int) -> Iterator[None]:
    """Turn errors about memory, of the GPU or of the machine, into a ResourceError that names the options to change.

    checkpoints: whether the stage's network has gradient checkpointing.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if lacks_memory(error):
            raise ResourceError(too_little_memory(config, checkpoints, processes)) from error
        if LOST_WORKER.search(str(error)):
            reason = (
                "a process that makes batches died, most likely because memory was short, its own or shared (/dev/shm, "
                "which containers keep small)"
            )
            raise ResourceError(
                f"{reason}: use fewer workers (--workers, now {config.workers}), smaller batches, or give it more "
                "memory"
            ) from error
        raise


def too_little_memory(config: LoopConfig, checkpoints: bool, processes: int) -> str:
    """List the options that would need less memory and are not used yet."""
    where = "GPU" if config.device.startswith("cuda") else "machine's"
    advice = []
    if checkpoints and not config.gradient_checkpointing:
        advice.append("--gradient-checkpointing")
    if config.precision == "fp32":
        advice.append("--precision bf16")
    advice.append("a smaller batch in the recipe with a larger --accumulate")
    if (
        config.optimizer != "adamw8bit"
        and config.device.startswith("cuda")
        and not (processes > 1 and config.parallel == "fsdp")
    ):
        advice.append("--optimizer adamw8bit")
    if not config.ema_device and config.device.startswith("cuda"):
        advice.append("--ema-device cpu")
    if processes > 1 and config.parallel == "ddp":
        advice.append("--parallel fsdp")
    return f"not enough {where} memory to train: try {', '.join(advice)}"


Batch = dict[str, Any]


class Stage(Protocol):
    """A stage of training: a module, its batches and its loss."""

    name: str
    module: nn.Module
    """Holds every parameter that trains (requires_grad) and every one that ships."""

    def dataset(self, seed: int) -> Dataset:
        """Make the batches: item i is a whole batch, a dict of tensors, and depends on (seed, i) alone.

        Sizes may differ from item to item. Where the dataset has a method `files(i)`, errors name the files of an item.
        """
        ...

    def loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute scalar losses by name; "loss" is the one that trains, the others are logged.

        A stage with a method `gradient_shares(batch, generator)` tells now and then which share of the gradient each
        term of its loss has.
        """
        ...


class StageLoss(nn.Module):
    """A stage's loss as the forward of a module, so that DDP and FSDP see every call of the network."""

    def __init__(self, stage: Stage, zero_gradients: bool = False) -> None:
        """Wrap a stage.

        zero_gradients: parameters that a batch does not use get a gradient of zero, for FSDP, where all processes must
        have gradients of the same parameters.
        """
        super().__init__()
        self.module = stage.module
        self.stage = stage
        self.zero_gradients = zero_gradients

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the stage's losses; only "loss" has a gradient, because DDP follows every output that has one."""
        losses = {
            name: value if name == "loss" else value.detach()
            for name, value in self.stage.loss(batch, generator).items()
        }
        if self.zero_gradients:
            losses["loss"] = _ZeroGradients.apply(
                losses["loss"], *(p for p in self.module.parameters() if p.requires_grad)
            )
        return losses


class _ZeroGradients(torch.autograd.Function):
    """Return the first argument, with gradients of zero for the others."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, *parameters: Tensor) -> Tensor:
        ctx.shapes = [(p.shape, p.dtype) for p in parameters]
        return loss.clone()  # a view would lose FSDP's hooks

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        zeros = (gradients[0].new_zeros((), dtype=dtype).expand(shape) for shape, dtype in ctx.shapes)
        return (gradients[0], *zeros)


class ProcessItems(Dataset):
    """The items that one process takes, in order: start + (step * accumulate + part) * size + rank.

    All processes together take every item once, whatever their number. One process with accumulate = n and n processes
    take the same items for a step.
    """

    def __init__(self, dataset: Dataset, start: int, batches: int, rank: int = 0, size: int = 1) -> None:
        self.dataset, self.start, self.batches, self.rank, self.size = dataset, start, batches, rank, size

    def __len__(self) -> int:
        return self.batches

    def item(self, i: int) -> int:
        """Return the number of the item that is this process's batch i."""
        return self.start + i * self.size + self.rank

    def __getitem__(self, i: int) -> Batch | CyberHostError:
        try:
            return self.dataset[self.item(i)]
        except CyberHostError as error:
            return error  # the loop raises it: from a worker process it would come as a traceback
        except Exception as error:
            if lacks_memory(error):
                raise
            unusable = TrainingError(
                f"{self._named(i)} cannot be used ({type(error).__name__}: {' '.join(str(error).split())}); leave it "
                "out or make it again"
            )
            unusable.__cause__ = error
            return unusable

    def _named(self, i: int) -> str:
        """Name the item with its files, or with its number alone where finding the files fails."""
        try:
            return describe_item(self.dataset, self.item(i))
        except Exception:
            return f"item {self.item(i)}"


def describe_item(dataset: Any, item: int) -> str:
    """Name an item: "item 7", with its files where the dataset has a method `files`."""
    if not hasattr(dataset, "files"):
        return f"item {item}"
    return f"item {item}: {', '.join(str(file) for file in dataset.files(item))}"

"""Several processes as one: who am I, DDP and FSDP around a stage's loss, and what processes tell each other.

Processes come from `torchrun` or `accelerate launch`; accelerate's PartialState reads what either left in the
environment and picks the backend and the device. Without them there is one process and nothing here costs anything.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from cyberhost_model.errors import ResourceError
from cyberhost_model.lab.training.settings import torch_device
from cyberhost_model.lab.training.stage import Stage, StageLoss

PATIENCE = timedelta(hours=1)  # the others wait while the first process makes a sample video or writes a checkpoint


@dataclass(frozen=True)
class Process:
    """This process among all that train one model."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """Each flag, true if it is in any process."""
        if self.size == 1:
            return list(flags)
        told = torch.tensor([float(flag) for flag in flags], device=self.device)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in told.tolist()]

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Averages over all processes; each must have the same names."""
        if self.size == 1 or not values:
            return values
        told = torch.tensor([values[name] for name in sorted(values)], device=self.device)
        dist.all_reduce(told)
        averaged = dict(zip(sorted(values), (told / self.size).tolist(), strict=True))
        return {name: averaged[name] for name in values}

    def collect(self, text: str) -> list[str]:
        """The text of every process, in order."""
        if self.size == 1:
            return [text]
        told: list[Any] = [None] * self.size
        dist.all_gather_object(told, text)
        return told

    def raise_together(self, error: Exception | None) -> None:
        """Raise in every process what the first one met, so that none waits for it."""
        told = [error]
        if self.size > 1:
            dist.broadcast_object_list(told, src=0)
        if told[0] is not None:
            raise told[0]


def join_processes(device: str) -> Process:
    """This process's place.

    `device` is "cpu", "cuda" or "mps"; one of several processes takes the GPU of its own number.

    Raises TrainingError for a name that is no device's, ResourceError for a device that is not there.
    """
    kind = torch_device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise ResourceError("no CUDA device is available: use --device cpu, or install a torch build with CUDA")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("no Apple GPU is available: use --device cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Process(torch.device(device))
    from accelerate import PartialState

    state = PartialState(cpu=kind == "cpu", timeout=PATIENCE)
    return Process(state.device, state.process_index, state.num_processes)


def leave_processes() -> None:
    """End the process group, if there is one."""
    if dist.is_initialized():
        gc.collect()  # what is left of ended trainings works in the group's threads, which must not outlive it
        dist.destroy_process_group()


def parallelize(stage: Stage, world: Process, parallel: str) -> nn.Module:
    """`StageLoss` of the stage, ready for `world`: as it is, in DDP or sharded by FSDP.

    A batch need not use every parameter (dropped conditions, heat maps): DDP searches for unused ones; under FSDP they
    get gradients of zero. FSDP shards weights, gradients and optimizer in one group and gathers the weights for the
    whole step, because which parts of the network take part in a backward pass differs between processes, and smaller
    groups would wait for each other.
    """
    if world.size == 1:
        return StageLoss(stage)
    if parallel == "fsdp":
        loss = StageLoss(stage, touch=True)
        for value in (*loss.parameters(), *loss.buffers()):
            dist.broadcast(value.detach(), src=0)
        fully_shard(loss, mesh=init_device_mesh(world.device.type, (world.size,)), reshard_after_forward=False)
        return loss
    devices = [world.device.index] if world.device.type == "cuda" else None
    return DistributedDataParallel(
        StageLoss(stage), device_ids=devices, find_unused_parameters=True, gradient_as_bucket_view=True
    )


@contextlib.contextmanager
def synchronized(module: nn.Module, now: bool) -> Iterator[None]:
    """While inside, gradients are averaged over processes if `now`, else only added up (all but the last batch of a
    step).
    """
    if isinstance(module, DistributedDataParallel) and not now:
        with module.no_sync():
            yield
        return
    if hasattr(module, "set_requires_gradient_sync"):
        module.set_requires_gradient_sync(now)
    yield


def trained_parts(module: nn.Module) -> list[nn.Parameter]:
    """What the optimizer sees of the parameters that train: themselves, or this process's shards of them as plain
    tensors of the same memory.

    AdamW and clipping work element by element, so shards need none of DTensor's bookkeeping.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    return [nn.Parameter(local(p.detach())) if isinstance(p, DTensor) else p for p in trained]


def hand_over_gradients(module: nn.Module, parts: list[nn.Parameter]) -> None:
    """Give the shards of `trained_parts` the gradients FSDP left with the parameters."""
    for parameter, part in zip((p for p in module.parameters() if p.requires_grad), parts, strict=True):
        if part is not parameter:
            part.grad = None if parameter.grad is None else local(parameter.grad)
            parameter.grad = None


def clip_gradients(parts: list[nn.Parameter], largest: float, world: Process, sharded: bool) -> Tensor:
    """Scale gradients to a norm of at most `largest`; returns the norm they had, over all shards."""
    if not sharded:
        return nn.utils.clip_grad_norm_(parts, largest)
    gradients = [p.grad for p in parts if p.grad is not None]
    square = nn.utils.get_total_norm(gradients).square() if gradients else torch.zeros((), device=world.device)
    dist.all_reduce(square)
    norm = square.sqrt()
    nn.utils.clip_grads_with_norm_(parts, largest, norm)
    return norm


def local(value: Tensor) -> Tensor:
    """The part of a tensor that lies in this process."""
    return value.to_local() if isinstance(value, DTensor) else value


def gathered(part: Tensor, model: Tensor, world: Process) -> Tensor:
    """The whole of what `part` is this process's share of, laid out as `model`, in the first process; every process
    must call it, the others get an empty tensor where something was gathered.
    """
    part = local(part.detach())
    if not isinstance(model, DTensor):
        return part
    rows = -(-model.shape[0] // world.size)  # fully_shard cuts the first dimension as torch.chunk does
    padded = torch.zeros(rows, *model.shape[1:], dtype=part.dtype, device=world.device)
    padded[: len(part)] = part
    parts = [torch.empty_like(padded) for _ in range(world.size)] if world.main else None
    dist.gather(padded, parts)
    return padded[:0] if parts is None else torch.cat(parts)[: model.shape[0]].cpu()


def share_of(whole: Tensor, model: Tensor, world: Process) -> Tensor:
    """Inverse of `gathered`: this process's part of a tensor that every process has, on the device of `model`."""
    if not isinstance(model, DTensor):
        return whole.to(model.device)
    parts = whole.chunk(world.size)
    return (parts[world.rank] if world.rank < len(parts) else whole[:0]).to(world.device)

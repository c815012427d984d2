"""Training in several processes: joining them, DDP and FSDP around a stage's loss, shards and whole tensors.

Processes are started by `torchrun` or `accelerate launch`; accelerate's PartialState reads the environment variables
of either and picks the backend and the device. Without them there is one process, and nothing here takes time.
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

TIMEOUT = timedelta(hours=1)  # the others wait while the first process makes a sample video or writes a checkpoint
MESSAGE = 1 << 24
"""Numbers after which shards are gathered in another message."""


@dataclass(frozen=True)
class Process:
    """This process among all processes that train one model."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process is the first, which writes files and reports."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """Combine each flag over all processes: true if it is true in any."""
        if self.size == 1:
            return list(flags)
        values = torch.tensor([float(flag) for flag in flags], device=self.device)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in values.tolist()]

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Average the values over all processes, which must have the same names."""
        if self.size == 1 or not values:
            return values
        total = torch.tensor([values[name] for name in sorted(values)], device=self.device)
        dist.all_reduce(total)
        averaged = dict(zip(sorted(values), (total / self.size).tolist(), strict=True))
        return {name: averaged[name] for name in values}

    def collect(self, text: str) -> list[str]:
        """Collect the text of every process, in order."""
        if self.size == 1:
            return [text]
        texts: list[Any] = [None] * self.size
        dist.all_gather_object(texts, text)
        return texts

    def raise_together(self, error: Exception | None) -> None:
        """Raise the first process's error in every process, so that none waits for it."""
        errors = [error]
        if self.size > 1:
            dist.broadcast_object_list(errors, src=0)
        if errors[0] is not None:
            raise errors[0]


def join_processes(device: str) -> Process:
    """Join the processes that were started together.

    device: "cpu", "cuda" or "mps"; each of several processes takes the GPU of its own number. Raises TrainingError for
    an unknown device, ResourceError for one that this machine lacks.
    """
    kind = torch_device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise ResourceError("no CUDA device is available: use --device cpu, or install a torch build with CUDA")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("no Apple GPU is available: use --device cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Process(torch.device(device))
    from accelerate import PartialState

    state = PartialState(cpu=kind == "cpu", timeout=TIMEOUT)
    return Process(state.device, state.process_index, state.num_processes)


def leave_processes() -> None:
    """End the process group, if there is one."""
    if dist.is_initialized():
        gc.collect()  # objects of ended trainings use the group's threads, so they must go before it
        dist.destroy_process_group()


def parallelize(stage: Stage, world: Process, parallel: str) -> nn.Module:
    """Wrap the stage in `StageLoss`, and that in DDP or FSDP where there are several processes.

    A batch need not use every parameter (dropped conditions, heat maps): DDP searches for unused ones, under FSDP they
    get gradients of zero. FSDP shards weights, gradients and optimizer in one group and gathers the weights for the
    whole step: which parts of the network take part in a backward pass differs between processes, and smaller groups
    would wait for each other.
    """
    if world.size == 1:
        return StageLoss(stage)
    if parallel == "fsdp":
        loss = StageLoss(stage, zero_gradients=True)
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
    """Average gradients over processes inside if `now`, else only add them up (all but the last batch of a step)."""
    if isinstance(module, DistributedDataParallel) and not now:
        with module.no_sync():
            yield
        return
    if hasattr(module, "set_requires_gradient_sync"):
        module.set_requires_gradient_sync(now)
    yield


def optimizer_parameters(module: nn.Module) -> list[nn.Parameter]:
    """List what the optimizer updates: the parameters that train, or this process's shards of them as plain tensors.

    AdamW and clipping work element by element, so shards need none of DTensor's bookkeeping; they share its memory.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    return [nn.Parameter(local_shard(p.detach())) if isinstance(p, DTensor) else p for p in trained]


def move_gradients(module: nn.Module, shards: list[nn.Parameter]) -> None:
    """Move the gradients that FSDP left with the parameters to their shards of `optimizer_parameters`."""
    for parameter, shard in zip((p for p in module.parameters() if p.requires_grad), shards, strict=True):
        if shard is not parameter:
            shard.grad = None if parameter.grad is None else local_shard(parameter.grad)
            parameter.grad = None


def clip_gradients(parameters: list[nn.Parameter], largest: float, world: Process, sharded: bool) -> Tensor:
    """Scale gradients to a norm of at most `largest`; returns the norm before, over all shards."""
    if not sharded:
        return nn.utils.clip_grad_norm_(parameters, largest)
    gradients = [p.grad for p in parameters if p.grad is not None]
    square = nn.utils.get_total_norm(gradients).square() if gradients else torch.zeros((), device=world.device)
    dist.all_reduce(square)
    norm = square.sqrt()
    nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return norm


# Checkpoints hold whole tensors. torch.distributed.checkpoint.state_dict is not used for them: it cannot load a run of
# one process in which a parameter never had a gradient (an error, or with strict=False a step count of 1 and not 0).


def local_shard(value: Tensor) -> Tensor:
    """Return the part of a tensor that lies in this process."""
    return value.to_local() if isinstance(value, DTensor) else value


def gather_tensors(shards: dict[str, Tensor], like: dict[str, Tensor], world: Process) -> dict[str, Tensor]:
    """Put together the tensors of which `shards` are this process's parts, each sharded as that of its name in `like`.

    Every process must call it. The first gets the whole tensors, on the CPU; the others get empty ones. Where `like` is
    not sharded, the shard is returned as it is. Many tensors make one message: a network has hundreds of small ones.
    """
    whole = {name: local_shard(shard.detach()) for name, shard in shards.items()}
    messages: dict[tuple[torch.dtype, int], list[str]] = {}
    before = 0  # numbers of the tensors before this one, by which every process makes the same messages
    for name, shard in whole.items():
        if isinstance(like[name], DTensor):
            messages.setdefault((shard.dtype, before // MESSAGE), []).append(name)
            before += like[name].numel()
    for names in messages.values():
        whole.update(_gather_message({name: whole[name] for name in names}, like, world))
    return whole


def _gather_message(shards: dict[str, Tensor], like: dict[str, Tensor], world: Process) -> dict[str, Tensor]:
    """Gather shards of one type at once, see `gather_tensors`."""
    padded = {}
    for name, shard in shards.items():  # FSDP shards the first dimension in parts of equal size; the last lack rows
        rows = -(-like[name].shape[0] // world.size)
        padded[name] = shard.new_zeros((rows, *shard.shape[1:]), device=world.device)
        padded[name][: len(shard)] = shard
    sent = torch.cat([part.flatten() for part in padded.values()])
    received = [torch.empty_like(sent) for _ in range(world.size)] if world.main else None
    dist.gather(sent, received, dst=0)
    if received is None:
        return {name: shard[:0] for name, shard in shards.items()}
    pieces = torch.stack(received).split([part.numel() for part in padded.values()], dim=1)
    return {
        name: piece.reshape(-1, *part.shape[1:])[: like[name].shape[0]].cpu()
        for (name, part), piece in zip(padded.items(), pieces, strict=True)
    }


def shard_tensor(whole: Tensor, like: Tensor, world: Process) -> Tensor:
    """Return this process's part of a tensor that every process has, sharded as `like` and on its device."""
    if not isinstance(like, DTensor):
        return whole.to(like.device)
    parts = whole.chunk(world.size)  # as FSDP does; the last processes may have none
    return (parts[world.rank] if world.rank < len(parts) else whole[:0]).to(world.device, copy=True)

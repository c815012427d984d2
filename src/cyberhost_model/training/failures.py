"""What a run says when it cannot go on."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from ..errors import ResourceError
from ..thrift import is_out_of_memory
from .settings import LoopConfig

LOST_WORKER = re.compile(r"DataLoader worker \(pid")
"""torch's words for a process that died; what one raises has "Caught ... in DataLoader worker process" before it, and is no matter of memory."""


@contextlib.contextmanager
def memory_advice(config: LoopConfig, checkpoints: bool, processes: int) -> Iterator[None]:
    """Turns too little memory, of the GPU or of the machine, into a ResourceError that names the options to change.

    checkpoints: whether the stage's network can compute activations again.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise ResourceError(too_little_memory(config, checkpoints, processes)) from error
        if LOST_WORKER.search(str(error)):
            reason = "a process that makes batches died, most likely for want of memory, its own or shared (/dev/shm, which containers keep small)"
            raise ResourceError(f"{reason}: use fewer workers (--workers, now {config.workers}), smaller batches, or give it more memory") from error
        raise


def too_little_memory(config: LoopConfig, checkpoints: bool, processes: int) -> str:
    """The options that would need less, those that are on already left out."""
    where = "GPU" if config.device.startswith("cuda") else "machine's"
    advice = []
    if checkpoints and not config.gradient_checkpointing:
        advice.append("--gradient-checkpointing")
    if config.precision == "fp32":
        advice.append("--precision bf16")
    advice.append("a smaller batch in the recipe with a larger --accumulate")
    if config.optimizer != "adamw8bit" and config.device.startswith("cuda") and not (processes > 1 and config.parallel == "fsdp"):
        advice.append("--optimizer adamw8bit")
    if not config.ema_device and config.device.startswith("cuda"):
        advice.append("--ema-device cpu")
    if processes > 1 and config.parallel == "ddp":
        advice.append("--parallel fsdp")
    return f"not enough {where} memory to train: try {', '.join(advice)}"

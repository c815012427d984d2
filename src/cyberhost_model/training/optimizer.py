"""AdamW in three kinds, and its state as a flat dictionary for safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..errors import TrainingError
from .distributed import World, gathered, sharded_like
from .settings import LoopConfig

BETAS = (0.9, 0.99)


def build_optimizer(parameters: Sequence[nn.Parameter], config: LoopConfig) -> torch.optim.Optimizer:
    """The optimizer of `config.optimizer`. Raises TrainingError when bitsandbytes is asked for and missing, or cannot take these parameters."""
    if not parameters:
        raise TrainingError("nothing trains: every parameter of this stage is frozen")
    common: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "betas": BETAS}
    if config.optimizer == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except Exception as error:  # it also fails on machines without a library it wants
            raise TrainingError(f"adamw8bit needs bitsandbytes ({str(error).splitlines()[0]}): pip install bitsandbytes, or use adamw-fused") from error
        if any(isinstance(p, DTensor) for p in parameters):
            raise TrainingError("adamw8bit cannot train sharded weights: use --parallel ddp, or adamw-fused with fsdp")
        return AdamW8bit(parameters, **common)
    if config.optimizer == "adamw-fused":
        return torch.optim.AdamW(parameters, fused=True, **common)
    return torch.optim.AdamW(parameters, foreach=True, **common)


def flat_state(optimizer: torch.optim.Optimizer, world: World) -> dict[str, Tensor]:
    """ "<number of the parameter>.<name>" -> whole tensor; every process must call it. Whole numbers end in ":int"."""
    flat: dict[str, Tensor] = {}
    for i, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                flat[f"{i}.{name}"] = gathered(value, world).cpu().contiguous()
            else:
                flat[f"{i}.{name}:int"] = torch.tensor(int(value))
    return flat


def load_flat_state(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor], world: World) -> None:
    """Inverse of `flat_state`. Raises TrainingError when the state belongs to another set of parameters or another kind of optimizer."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        if int(index) >= len(parameters):
            raise TrainingError("the checkpoint's optimizer belongs to another set of parameters: train as before, or --init from it into a new run")
        own = parameters[int(index)]
        entry = state.setdefault(int(index), {})
        if name.endswith(":int"):
            entry[name.removesuffix(":int")] = int(value)
        else:
            entry[name] = sharded_like(value, own, world) if value.shape == own.shape else value
    known = {"adamw8bit": {"state1"}}.get(_kind(optimizer), {"exp_avg"})
    if any(not known & set(entry) for entry in state.values()):
        raise TrainingError("the checkpoint was made with another --optimizer: keep it, or --init from the run into a new one")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _kind(optimizer: torch.optim.Optimizer) -> str:
    return "adamw" if isinstance(optimizer, torch.optim.AdamW) else "adamw8bit"

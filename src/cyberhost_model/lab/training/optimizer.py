"""AdamW in three kinds, and its state as a flat dictionary for safetensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.process import Process, gathered, local, share_of
from cyberhost_model.lab.training.settings import LoopConfig

# The learning rate of a step.


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up, flat, cosine decay at the end."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    left = config.steps - step
    if config.decay and left < config.decay:
        return config.lr * (0.05 + 0.95 * 0.5 * (1 - math.cos(math.pi * left / config.decay)))
    return config.lr


# The exponential moving average of the weights: what ships.


class Ema:
    """EMA of a module's state dict.

    Each process holds the part of it that it holds of the weights, there or on the CPU.
    """

    def __init__(self, module: nn.Module, config: LoopConfig, world: Process) -> None:
        self.module, self.config, self.world = module, config, world
        self.weights = {k: self._held(local(v).detach()).clone() for k, v in module.state_dict().items()}

    def _held(self, value: Tensor) -> Tensor:
        return value.to(self.config.ema_device) if self.config.ema_device else value

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step`; young averages forget faster, so that the start is not kept."""
        every = self.config.ema_every
        if (step + 1) % every:
            return
        keep = min(self.config.ema, (step + 1) / (step + 10)) ** every
        old, new = [], []
        for k, v in self.module.state_dict().items():
            if v.dtype.is_floating_point:
                old.append(self.weights[k])
                new.append(self._held(local(v)))
            else:
                self.weights[k].copy_(local(v))
        get_ema_multi_avg_fn(keep)(old, new, 0)

    def load(self, whole: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        own = self.module.state_dict()
        # Copies: a file's tensors lie anywhere, and a stage that computes with them must find the same bits as before.
        self.weights = {k: self._held(share_of(v, own[k], self.world)).clone() for k, v in whole.items()}

    def whole(self) -> dict[str, Tensor]:
        """The average, unsharded; every process must call it, the first gets it."""
        own = self.module.state_dict()
        return {k: gathered(v, own[k], self.world) for k, v in self.weights.items()}


BETAS = (0.9, 0.99)


def build_optimizer(
    parameters: Sequence[nn.Parameter], config: LoopConfig, sharded: bool = False
) -> torch.optim.Optimizer:
    """The optimizer of `config.optimizer`; sharded: `parameters` are shards.

    Raises TrainingError when bitsandbytes is asked for and missing, or has shards to hold.
    """
    if not parameters:
        raise TrainingError("nothing trains: every parameter of this stage is frozen")
    common: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "betas": BETAS}
    if config.optimizer == "adamw8bit":
        if sharded:  # a scale for each 256 numbers of a shard is nothing a checkpoint could put together
            raise TrainingError(
                "adamw8bit cannot hold the shards of --parallel fsdp: use --optimizer adamw-fused, or --parallel ddp"
            )
        try:
            from bitsandbytes.optim import AdamW8bit
        except Exception as error:  # it also fails on machines without a library it wants
            raise TrainingError(
                f"adamw8bit needs bitsandbytes ({str(error).splitlines()[0]}): pip install bitsandbytes, or use "
                "adamw-fused"
            ) from error
        return AdamW8bit(parameters, **common)
    if config.optimizer == "adamw-fused":
        return torch.optim.AdamW(parameters, fused=True, **common)
    return torch.optim.AdamW(parameters, foreach=True, **common)


def flat_state(optimizer: torch.optim.Optimizer, models: Sequence[Tensor], world: Process) -> dict[str, Tensor]:
    """ "<number of the parameter>.<name>" -> whole tensor; every process must call it.

    Names of dictionaries within (bitsandbytes) are joined by "/", whole numbers end in ":int".

    models: the parameters, in the optimizer's order, that its own may be shards of.
    """
    flat: dict[str, Tensor] = {}
    for i, state in optimizer.state_dict()["state"].items():
        for name, value in _flattened(state):
            if not isinstance(value, Tensor):
                flat[f"{i}.{name}:int"] = torch.tensor(int(value))
            elif value.shape == _part(optimizer, i).shape:
                flat[f"{i}.{name}"] = gathered(value, models[i], world).cpu().contiguous()
            else:
                flat[f"{i}.{name}"] = value.detach().cpu().clone()  # bitsandbytes shares its tables
    return flat


def load_flat_state(
    optimizer: torch.optim.Optimizer, flat: dict[str, Tensor], models: Sequence[Tensor], world: Process
) -> None:
    """Inverse of `flat_state`.

    Raises TrainingError when the state belongs to another set of parameters or another kind of optimizer.
    """
    state: dict[int, dict[str, Any]] = {}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        if int(index) >= len(models):
            raise TrainingError(
                "the checkpoint's optimizer belongs to another set of parameters: train as before, or --init from it "
                "into a new run"
            )
        model, entry = models[int(index)], state.setdefault(int(index), {})
        *groups, name = name.split("/")
        for group in groups:
            entry = entry.setdefault(group, {})
        if name.endswith(":int"):
            entry[name.removesuffix(":int")] = int(value)
        else:
            entry[name] = share_of(value, model, world) if value.shape == model.shape else value
    known = "exp_avg" if isinstance(optimizer, torch.optim.AdamW) else "state1"
    if any(known not in {name.split("/")[-1] for name, _ in _flattened(entry)} for entry in state.values()):
        raise TrainingError(
            "the checkpoint was made with another --optimizer: keep it, or --init from the run into a new one"
        )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _part(optimizer: torch.optim.Optimizer, i: int) -> Tensor:
    return [p for group in optimizer.param_groups for p in group["params"]][i]


def _flattened(state: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in state.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{before}{name}/")
        else:
            yield before + name, value

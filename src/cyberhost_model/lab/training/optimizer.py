"""Learning rate, averaged weights, AdamW in three kinds, and its state as a flat dictionary for safetensors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.process import Process, gather_tensors, local_shard, shard_tensor
from cyberhost_model.lab.training.settings import LoopConfig

BETAS = (0.9, 0.99)


def learning_rate(step: int, config: LoopConfig) -> float:
    """Compute the learning rate of a step: linear warm-up, then constant, cosine decay at the end."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    left = config.steps - step
    if config.decay and left < config.decay:
        return config.lr * (0.05 + 0.95 * 0.5 * (1 - math.cos(math.pi * left / config.decay)))
    return config.lr


class Ema:
    """Exponential moving average of a module's weights: the weights that ship.

    `weights` are by name; each process holds the shards that it holds of the weights, on their device or on the CPU.
    """

    def __init__(self, module: nn.Module, config: LoopConfig, world: Process) -> None:
        self.module, self.config, self.world = module, config, world
        self.weights = {k: self._placed(local_shard(v).detach()).clone() for k, v in module.state_dict().items()}

    def _placed(self, value: Tensor) -> Tensor:
        return value.to(self.config.ema_device) if self.config.ema_device else value

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the weights after `step`; early averages forget faster, so the start is not kept."""
        every = self.config.ema_every
        if (step + 1) % every:
            return
        keep = min(self.config.ema, (step + 1) / (step + 10)) ** every
        old, new = [], []
        for k, v in self.module.state_dict().items():
            if v.dtype.is_floating_point:
                old.append(self.weights[k])
                new.append(self._placed(local_shard(v)))
            else:
                self.weights[k].copy_(local_shard(v))
        get_ema_multi_avg_fn(keep)(old, new, 0)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the module's weights while the block lasts."""
        own = {k: local_shard(v) for k, v in self.module.state_dict().items()}
        kept = {k: v.clone() for k, v in own.items()}
        for k, v in own.items():
            v.copy_(self.weights[k])
        try:
            yield
        finally:
            for k, v in own.items():
                v.copy_(kept[k])

    def load(self, whole: dict[str, Tensor]) -> None:
        """Load the average from a checkpoint's whole tensors."""
        own = self.module.state_dict()
        # Copies, because a file's tensors are not aligned: a stage that computes with them must get the same bits.
        self.weights = {k: self._placed(shard_tensor(v, own[k], self.world)).clone() for k, v in whole.items()}

    def whole(self) -> dict[str, Tensor]:
        """Gather the whole average in the first process; every process must call it."""
        return gather_tensors(self.weights, self.module.state_dict(), self.world)


def decaying(module: nn.Module) -> list[bool]:
    """Tell for each parameter that trains whether weight decay acts on it.

    It does on the weights of linear and convolution layers alone: not on biases, norms, scales, learnt positions and
    codebooks, whose size is what they say.
    """
    layers = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding)
    weights = {id(layer.weight) for layer in module.modules() if isinstance(layer, layers)}
    return [id(p) in weights for p in module.parameters() if p.requires_grad]


def build_optimizer(
    parameters: Sequence[nn.Parameter], config: LoopConfig, sharded: bool = False, decays: Sequence[bool] = ()
) -> torch.optim.Optimizer:
    """Build the optimizer of `config.optimizer`. sharded: whether `parameters` are shards.

    decays: `decaying` of their module; weight decay acts on all without it. Raises TrainingError when nothing trains,
    and where bitsandbytes is missing or would get shards.
    """
    if not parameters:
        raise TrainingError("nothing trains: every parameter of this stage is frozen")
    common: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "betas": BETAS}
    which = list(decays) or [True] * len(parameters)
    groups: list[dict[str, Any]] = [
        {"params": [p for p, own in zip(parameters, which, strict=True) if own is decay], **extra}
        for decay, extra in ((True, {}), (False, {"weight_decay": 0.0}))
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw8bit":
        if sharded:  # its scales, one for every 256 numbers of a shard, cannot be put together in a checkpoint
            raise TrainingError(
                "adamw8bit cannot hold the shards of --parallel fsdp: use --optimizer adamw-fused, or --parallel ddp"
            )
        try:
            from bitsandbytes.optim import AdamW8bit
        except Exception as error:  # of many kinds, on machines that lack a library it needs
            raise TrainingError(
                f"adamw8bit needs bitsandbytes ({str(error).splitlines()[0]}): pip install bitsandbytes, or use "
                "adamw-fused"
            ) from error
        return AdamW8bit(groups, **common)
    if config.optimizer == "adamw-fused":
        return torch.optim.AdamW(groups, fused=True, **common)
    return torch.optim.AdamW(groups, foreach=True, **common)


def _numbers(optimizer: torch.optim.Optimizer, parts: Sequence[nn.Parameter]) -> list[int]:
    """Number the optimizer's parameters, in its own order, by their place in `parts`."""
    place = {id(part): i for i, part in enumerate(parts)}
    return [place[id(p)] for group in optimizer.param_groups for p in group["params"]]


def flat_state(
    optimizer: torch.optim.Optimizer, parts: Sequence[nn.Parameter], trained: Sequence[Tensor], world: Process
) -> dict[str, Tensor]:
    """Gather the optimizer's state as whole tensors by "<number of the parameter>.<name>".

    Every process must call it. Names of nested dictionaries (bitsandbytes) are joined by "/", names of integers end in
    ":int". parts: what the optimizer was built with; trained: the same parameters, whole, by which they are numbered.
    """
    numbers = _numbers(optimizer, parts)
    flat: dict[str, Tensor] = {}
    sharded: dict[str, Tensor] = {}  # the parameter as which an entry is sharded
    for place, state in sorted(optimizer.state_dict()["state"].items(), key=lambda item: numbers[item[0]]):
        i = numbers[place]
        for name, value in _flattened(state):
            if not isinstance(value, Tensor):
                flat[f"{i}.{name}:int"] = torch.tensor(int(value))
            elif value.shape == parts[i].shape:
                flat[f"{i}.{name}"], sharded[f"{i}.{name}"] = value, trained[i]
            else:
                flat[f"{i}.{name}"] = value.detach().cpu().clone()  # bitsandbytes shares its tables
    whole = gather_tensors({name: flat[name] for name in sharded}, sharded, world)
    return {**flat, **{name: value.cpu().contiguous() for name, value in whole.items()}}


def load_flat_state(
    optimizer: torch.optim.Optimizer,
    flat: dict[str, Tensor],
    parts: Sequence[nn.Parameter],
    trained: Sequence[Tensor],
    world: Process,
) -> None:
    """Load what `flat_state` gathered.

    Raises TrainingError when the state belongs to another set of parameters or another kind of optimizer.
    """
    state: dict[int, dict[str, Any]] = {}
    places = {number: place for place, number in enumerate(_numbers(optimizer, parts))}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        if int(index) >= len(trained):
            raise TrainingError(
                "the checkpoint's optimizer belongs to another set of parameters: train as before, or --init from it "
                "into a new run"
            )
        parameter, entry = trained[int(index)], state.setdefault(places[int(index)], {})
        *groups, name = name.split("/")
        for group in groups:
            entry = entry.setdefault(group, {})
        if name.endswith(":int"):
            entry[name.removesuffix(":int")] = int(value)
        else:
            entry[name] = shard_tensor(value, parameter, world) if value.shape == parameter.shape else value
    known = "exp_avg" if isinstance(optimizer, torch.optim.AdamW) else "state1"
    if any(known not in {name.split("/")[-1] for name, _ in _flattened(entry)} for entry in state.values()):
        raise TrainingError(
            "the checkpoint was made with another --optimizer: keep it, or --init from the run into a new one"
        )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _flattened(state: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in state.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{before}{name}/")
        else:
            yield before + name, value

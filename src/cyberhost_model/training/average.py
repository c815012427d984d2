"""The exponential moving average of the weights: what ships."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .distributed import World, gathered, local, share_of
from .settings import LoopConfig


class Average:
    """EMA of a module's state dict. Each process holds the part of it that it holds of the weights, there or on the CPU."""

    def __init__(self, module: nn.Module, config: LoopConfig, world: World) -> None:
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


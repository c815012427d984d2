"""Block caching: the deep half of the U-Net is computed at every n-th step alone (DeepCache, arXiv 2312.00858). Quicker, and not quite the same frames."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.denoising_unet import DenoiserOutput


class BlockCache:
    """Stands for the network during one clip. Each batch of conditions (guidance has some of its own) has its own features; they are used for fewer than
    `every` steps after the one that made them, whatever other batches had the steps between."""

    def __init__(self, network: Callable[..., DenoiserOutput], every: int) -> None:
        self.network, self.every = network, every
        self._kept: dict[int, tuple[int, Tensor]] = {}

    def __call__(self, step: int, noisy: Tensor, timestep: Tensor, conditions: Conditions) -> DenoiserOutput:
        """As the network at the clip's `step`, counted from 0; `conditions` is known again by its identity."""
        made, deep = self._kept.get(id(conditions), (step, None))
        if deep is not None and step - made < self.every:
            return self.network(noisy, timestep, conditions, deep=deep)
        output = self.network(noisy, timestep, conditions)
        self._kept[id(conditions)] = step, output.deep
        return output

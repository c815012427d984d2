"""Block caching: the deep half of the U-Net is computed at every n-th step alone (DeepCache, arXiv 2312.00858). Quicker, and not quite the same frames."""

from __future__ import annotations

from torch import Tensor, nn

from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.denoising_unet import DenoiserOutput


class BlockCache:
    """Stands for the network during one clip. Each batch of conditions (guidance has some of its own) has its own features and its own count of steps."""

    def __init__(self, network: nn.Module, every: int) -> None:
        self.network, self.every = network, every
        self._kept: dict[int, tuple[int, Tensor | None]] = {}

    def __call__(self, noisy: Tensor, timestep: Tensor, conditions: Conditions) -> DenoiserOutput:
        """As the network; `conditions` is known again by its identity."""
        step, deep = self._kept.get(id(conditions), (0, None))
        output = self.network(noisy, timestep, conditions, deep=deep if step % self.every else None)
        self._kept[id(conditions)] = step + 1, output.deep
        return output

"""CloseUpTable: how a part of the face looks at any size of its controls, from a grid of sizes that are kept."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

_KEPT = 128
"""Most nodes that are kept, 0.4 MB each at the tiny preset's size; the one that was used longest ago goes first."""


class CloseUpTable:
    """Maps of a part of the face as a function of the sizes of its controls, for one picture.

    A video shows the same openings of the lips again and again. Maps are decoded once at the nodes of a grid of sizes,
    when a node is first needed, and interpolated linearly between nodes.
    """

    def __init__(self, decode: Callable[[Tensor], tuple[Tensor, ...]], spacing: float) -> None:
        """Begin without nodes.

        decode: sizes (N, n) of n controls -> maps, each (N, ...). spacing: of the grid, in the unit of the sizes.
        """
        self._decode, self._spacing = decode, spacing
        self._nodes: OrderedDict[tuple[int, ...], tuple[Tensor, ...]] = OrderedDict()

    def __call__(self, sizes: Tensor) -> tuple[Tensor, ...]:
        """Interpolate the maps at sizes (N, n), N >= 1 -> maps, each (N, ...)."""
        at = sizes.float().cpu() / self._spacing
        low = at.floor()
        corners = torch.tensor(list(itertools.product((0, 1), repeat=sizes.shape[1])))  # (2^n, n)
        shares = torch.where(corners == 1, (at - low)[:, None], (low + 1 - at)[:, None]).prod(-1)  # (N, 2^n)
        around = (low.long()[:, None] + corners).flatten(0, 1)
        nodes, positions = around.unique(dim=0, return_inverse=True)
        maps = self._at([tuple(node) for node in nodes.tolist()])
        weights = torch.zeros(len(sizes), len(nodes)).scatter_add_(1, positions.view(len(sizes), -1), shares)
        return tuple((weights.to(each) @ each.flatten(1)).unflatten(1, each.shape[1:]) for each in maps)

    def _at(self, nodes: list[tuple[int, ...]]) -> list[Tensor]:
        """Collect the maps of U nodes, each (U, ...)."""
        if missing := [node for node in nodes if node not in self._nodes]:
            decoded = self._decode(torch.tensor(missing, dtype=torch.float32) * self._spacing)
            for node, *maps in zip(missing, *decoded, strict=True):
                self._nodes[node] = tuple(each.clone() for each in maps)
        for node in nodes:
            self._nodes.move_to_end(node)
        found = [torch.stack(maps) for maps in zip(*(self._nodes[node] for node in nodes), strict=True)]
        while len(self._nodes) > _KEPT:
            self._nodes.popitem(last=False)
        return found

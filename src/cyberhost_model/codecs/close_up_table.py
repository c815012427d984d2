"""CloseUpTable: how a part of the face looks at any size of its controls, from a grid of sizes that are kept."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_KEPT = 128
"""Most looks that are kept, 0.4 MB each; the one that was used longest ago goes first."""


class CloseUpTable:
    """Maps of a part of the face as a function of the sizes of its controls, for one picture.

    A video shows the same openings of the lips again and again. Maps are decoded at the nodes of a grid of sizes, when
    one is needed first, and interpolated linearly between nodes. Each is decoded and each frame interpolated by itself,
    so that frames are the same to the bit whichever came before. Two threads may ask at once.
    """

    def __init__(self, decode: Callable[[Tensor], tuple[Tensor, ...]], spacing: Sequence[float]) -> None:
        """Begin without looks.

        decode: sizes (N, n) of n controls -> maps, each (N, ...). spacing (n,): of the grid, in the unit of the sizes.
        """
        self._decode, self._spacing = decode, torch.tensor(spacing)
        self._looks: OrderedDict[tuple[float, ...], tuple[Tensor, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def fill(self, between: Sequence[tuple[float, float]]) -> None:
        """Decode the looks at all nodes between the two sizes of each control, as many as are kept."""
        ends = [(low / step, high / step) for (low, high), step in zip(between, self._spacing.tolist(), strict=True)]
        axes = [range(math.ceil(low), math.floor(high) + 1) for low, high in ends]
        for node in itertools.islice(itertools.product(*axes), _KEPT):
            self._look(*map(float, node))

    def __call__(self, sizes: Tensor) -> tuple[Tensor, ...]:
        """Interpolate the maps at sizes (N, n), N >= 1 -> maps, each (N, ...)."""
        at = sizes.float().cpu() / self._spacing
        mixed: list[Tensor] = []
        for corner in itertools.product((0.0, 1.0), repeat=sizes.shape[1]):
            nodes = at.floor() + torch.tensor(corner)
            shares = (1 - (at - nodes).abs()).prod(-1)
            looks = [torch.stack(maps) for maps in zip(*(self._look(*node) for node in nodes.tolist()), strict=True)]
            parts = [shares.to(maps).view(-1, *[1] * (maps.ndim - 1)) * maps for maps in looks]
            mixed = [a + b for a, b in zip(mixed, parts, strict=True)] if mixed else parts
        return tuple(mixed)

    def _look(self, *node: float) -> tuple[Tensor, ...]:
        """Return the maps (...) at a node, which are decoded if they are not kept."""
        with self._lock:
            if node not in self._looks:
                decoded = self._decode((torch.tensor(node) * self._spacing)[None])
                self._looks[node] = tuple(maps[0] for maps in decoded)
            self._looks.move_to_end(node)
            if len(self._looks) > _KEPT:
                self._looks.popitem(last=False)
            return self._looks[node]

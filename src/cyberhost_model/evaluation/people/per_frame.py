"""Features that every frame has by itself: rows of numbers, spooled as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ..extractor import Features, VideoInfo
from ..spool import Spool

Look = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Frames uint8 (n, H, W, 3) RGB -> name -> float32 (n, width)."""

_PIECE = 2048  # rows read at once



class PerFrame:
    """An `Extractor`: what `look` makes of every frame, and "size" (W, H) of the frames. `widths`: of the rows, by name."""

    fps = None
    hears = False

    def __init__(self, name: str, digest: str, look: Look, widths: Mapping[str, int]) -> None:
        self.name, self.digest, self._look, self._widths = name, f"{name}/{digest}", look, dict(widths)
        self._spools: dict[str, Spool] = {}
        self._size = (0, 0)

    def begin(self, info: VideoInfo) -> None:
        self._spools = {name: Spool(width) for name, width in self._widths.items()}
        self._size = info.size

    def push(self, frames: np.ndarray) -> None:
        for name, rows in self._look(frames).items():
            self._spools[name].add(rows)

    def finish(self) -> dict[str, np.ndarray]:
        return {**{name: spool.array() for name, spool in self._spools.items()}, "size": np.array(self._size)}


def pieces(features: Features, *names: str) -> Iterator[tuple[np.ndarray, ...]]:
    """The rows of features of one length side by side, some at a time: they may be long and lie on disk."""
    arrays = [features[name] for name in names]
    for start in range(0, len(arrays[0]), _PIECE):
        yield tuple(np.asarray(array[start : start + _PIECE]) for array in arrays)

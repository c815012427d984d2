"""Which marks a video gets, and the way of its frames and its file through them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cyberhost_model.options import option

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Marks:
    """The marks of a video: keyword `marks` of `Animation.save`, and options of the commands that make a video."""

    watermark: bool = option(
        True, "Mark every frame invisibly as made. Before leaving it out: docs/user/marks.md, what the law asks."
    )
    label: bool = option(False, 'Write "AI generated" into the upper right corner.')

    def frames(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Mark frames, uint8 (H, W, 3) RGB, while they go by."""
        # Late: the command line reads the options without numpy.
        from cyberhost_model.marks.label import labelled
        from cyberhost_model.marks.watermark import marked

        shown = labelled(frames) if self.label else iter(frames)
        return marked(shown) if self.watermark else shown


def digested(frames: Iterable[np.ndarray], state: Any = None) -> Iterator[np.ndarray]:
    """Feed frames to `state`, a hash of `hashlib`, while they go by."""
    state = hashlib.sha256() if state is None else state
    for frame in frames:
        state.update(frame.tobytes())
        yield frame

"""A sequence as moving pictures of its skeleton."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..conditions.skeleton import skeleton_map
from .sequence import PoseSequence


def preview(sequence: PoseSequence, side: int = 512) -> Iterator[np.ndarray]:
    """The skeleton maps as frames, uint8 (H, W, 3) RGB with even sides, of the sequence's aspect and the area of `side` x `side`."""
    root = sequence.aspect**0.5
    size = max(2, 2 * round(side * root / 2)), max(2, 2 * round(side / root / 2))
    for keypoints in sequence:
        yield np.ascontiguousarray((skeleton_map(keypoints, size) * 255).round().astype(np.uint8).transpose(1, 2, 0))

"""Match frames of two videos whose rates differ.

A frame stands for what is on the screen in the middle of its time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def matching_frame(frame: int, fps: float, other: float) -> int:
    """Return the index of the frame at rate `other` that is on the screen in the middle of frame `frame` at `fps`.

    The index is `frame` itself for equal rates.
    """
    return frame if fps == other else int((frame + 0.5) * other / fps)


def match_frames(frames: int, fps: float, other_frames: int, other_fps: float) -> np.ndarray:
    """Return pairs (i, j) of matching frames, int (n, 2): every frame i with its `matching_frame` j, where j exists."""
    i = np.arange(frames)
    j = i if fps == other_fps else ((i + 0.5) * other_fps / fps).astype(int)
    return np.stack([i, j], 1)[j < other_frames]


class Resampler:
    """Bring frames at rate `fps` to rate `target`, frame by frame: by repeating and dropping, never by mixing."""

    def __init__(self, fps: float, target: float) -> None:
        self.fps, self.target = fps, target
        self._next = 0  # the first position on the new grid that is not filled yet

    def positions(self, frame: int) -> Iterator[int]:
        """Yield the positions on the new grid that frame number `frame` fills, in order; none where it is dropped.

        Frames must come in order.
        """
        while matching_frame(self._next, self.target, self.fps) == frame:
            yield self._next
            self._next += 1

    def resampled_count(self, frames: int) -> int:
        """Return how many positions `frames` frames fill."""
        return frames if self.fps == self.target else round(frames * self.target / self.fps)

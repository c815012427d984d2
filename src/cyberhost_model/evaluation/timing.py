"""Which frames belong together when rates differ: a frame stands for what is on the screen in the middle of its time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def partner(frame: int, fps: float, other: float) -> int:
    """Index of the frame at rate `other` that is on the screen in the middle of frame `frame` at rate `fps`. The same index for equal rates."""
    return frame if fps == other else int((frame + 0.5) * other / fps)


def aligned(frames: int, fps: float, other_frames: int, other_fps: float) -> np.ndarray:
    """Pairs (i, j) of frames that belong together, int (n, 2): for every frame i its partner j, as far as there is one."""
    i = np.arange(frames)
    j = i if fps == other_fps else ((i + 0.5) * other_fps / fps).astype(int)
    return np.stack([i, j], 1)[j < other_frames]


class Resampler:
    """How often each frame is shown on a grid of another rate, frame by frame: repeats and drops, no mixing."""

    def __init__(self, fps: float, target: float) -> None:
        self.fps, self.target, self.given = fps, target, 0

    def times(self, frame: int) -> Iterator[int]:
        """The places on the grid that frame number `frame` takes, in order; none where it is dropped. Frames must come in order."""
        while partner(self.given, self.target, self.fps) == frame:
            yield self.given
            self.given += 1

    def total(self, frames: int) -> int:
        """How many places `frames` frames take."""
        return frames if self.fps == self.target else round(frames * self.target / self.fps)

"""Time how fast a model makes a video: the wait for the first frame, and seconds of computing for a second of video."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Hold the times of one video of `frames` frames, in seconds from the call on that makes it.

    first_frame: until its first frame is there, reading the picture and the sound included. whole: until its last one.
    """

    frames: int
    fps: float
    first_frame: float
    whole: float

    @property
    def real_time_factor(self) -> float:
        """Seconds of computing for each second of video: 1 keeps up with the clock, below it is faster."""
        return self.whole * self.fps / self.frames


def time_frames(
    start: Callable[[], tuple[Iterable[np.ndarray], float]], clock: Callable[[], float] = time.perf_counter
) -> Timing:
    """Time one video. start: begins it; returns its frames, which are computed as they are read, and their rate.

    Frames are arrays on the CPU, so a device has ended its work when one is there. Raises ValueError for no frames.
    """
    begun = clock()
    frames, fps = start()
    first = 0.0
    count = 0
    for count, _ in enumerate(frames, 1):
        if count == 1:
            first = clock() - begun
    if not count:
        raise ValueError("a video of no frames has no speed")
    return Timing(count, fps, first, clock() - begun)


def summarise_timings(timings: Sequence[Timing]) -> dict[str, Any]:
    """Summarise the times of equal videos by their medians; "runs" has each."""
    middle = statistics.median
    return {
        "frames": timings[0].frames,
        "fps": timings[0].fps,
        "first_frame_s": middle(t.first_frame for t in timings),
        "seconds": middle(t.whole for t in timings),
        "frames_per_second": middle(t.frames / t.whole for t in timings),
        "real_time_factor": middle(t.real_time_factor for t in timings),
        "runs": [{"first_frame_s": t.first_frame, "seconds": t.whole} for t in timings],
    }

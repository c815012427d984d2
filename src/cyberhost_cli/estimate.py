"""How long a video still takes, from the times at which its clips were finished."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_RECENT = 30  # clips whose mean time counts, so that a machine that became slower or quicker is followed
_FIRST = 0.8  # share of the first clip's time that later ones are expected to take: it also pays for what is done once
_SHORTEST = 0.1  # of a clip's time that a clip which takes longer than expected is still given


class Estimate:
    """Estimate of the time left. Frames come a clip at a time, so only whole clips tell the speed."""

    def __init__(self, total: int, clip: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin before the first frame. total: frames; clip: frames of a clip; clock: seconds that rise."""
        self.total, self.clip, self.clock = total, max(1, clip), clock
        self.began = self.finished = clock()
        self.first: int | None = None
        """Frames that were there at the beginning."""
        self.clips = 0
        """Clips that were finished since then."""
        self._times: deque[float] = deque(maxlen=_RECENT)

    def update(self, done: int) -> None:
        """Take note that `done` frames are there."""
        if self.first is None:
            self.first = 0 if done == 1 else done  # a video that is gone on with begins with many
        if done <= self.first:  # the first clip has not begun: steps of a whole video, or reading what is kept
            self.finished = self.clock()
            return
        clips = self._clips(done - self.first)
        if clips > self.clips:
            now = self.clock()
            if self.clips == 1:
                self._times.clear()
            share = 1.0 if self.clips else _FIRST
            each = share * (now - self.finished) / (clips - self.clips)
            self._times.extend([each] * min(clips - self.clips, _RECENT))
            self.clips, self.finished = clips, now

    def _clips(self, frames: int) -> int:
        """Count whole clips; the last, shorter one is whole with the last frame."""
        assert self.first is not None
        return -(-frames // self.clip) if self.first + frames >= self.total else frames // self.clip

    def left(self) -> float | None:
        """Estimate the seconds until the last frame; None before the first clip is finished."""
        if self.first is None or not self._times:
            return None
        clips = -(-(self.total - self.first) // self.clip) - self.clips
        if clips <= 0:
            return 0.0
        each = sum(self._times) / len(self._times)
        return each * (clips - 1) + max(each - (self.clock() - self.finished), _SHORTEST * each)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.clock() - self.began


def clock_words(seconds: float) -> str:
    """Write a time in words: "0:07", "12:30", "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

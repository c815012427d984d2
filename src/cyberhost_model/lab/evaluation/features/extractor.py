"""Features that every frame has by itself: rows of numbers, spooled as they come."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

# What reads frames: one pass over a video's frames feeds every extractor, so a video is decoded once.
#
# An extractor turns frames into features, small arrays that are kept on disk under the content of the video and the
# extractor's digest. A metric turns features into values and sees no frames (`metric.py`).


Features = Mapping[str, np.ndarray]
"""Name -> array.

Where they come from disk they are memory-mapped and read-only: index them in pieces where they may be long.
"""


@dataclass(frozen=True)
class VideoInfo:
    """What is known before the first frame.

    fps: the rate of the frames that will be pushed (25 for an extractor that asks for 25). size: (W, H) of them.
    frames: how many there will be, counted from the packets; a damaged file may hold fewer. sound: the file whose sound
    belongs to the frames, at their time 0: a sound file or a video, None where there is none. A picture is a video of
    one frame at 25 a second, without sound.
    """

    path: Path
    fps: float
    size: tuple[int, int]
    frames: int
    sound: Path | None = None


class Named(Protocol):
    """What every extractor tells about itself."""

    @property
    def name(self) -> str:
        """A word: "inception", "dwpose". One extractor of a name in a run."""

    @property
    def digest(self) -> str:
        """Changes whenever the features could: version of our code, sha256 of the weights, settings.

        Part of the cache key.
        """


class Extractor(Named, Protocol):
    """Frames of one video -> features.

    begin, push for every batch, finish; then the next video.

    Memory must not grow with the number of frames by more than the features do; long features are spooled
    (`spool.Spool`). An error of `cyberhost_model.errors` raised by any of the three is the reason why the video has no
    such features; the run goes on.
    """

    @property
    def fps(self) -> float | None:
        """The rate the frames must have, by repeating and dropping; None: the video's own frames."""

    @property
    def uses_audio(self) -> bool:
        """Whether it reads `VideoInfo.sound`; the content of that file is then part of the cache key."""

    def begin(self, info: VideoInfo) -> None:
        """A new video.

        All state of a video is made here anew: shallow copies of the extractor look at several videos at a time.
        """

    def push(self, frames: np.ndarray) -> None:
        """The next frames in order, uint8 (n, H, W, 3) RGB, n from 1 to `frames.BATCH`.

        The array may be overwritten after the call.
        """

    def finish(self) -> dict[str, np.ndarray]:
        """All frames are there. What could not be measured is NaN or an empty array, never 0."""


class PairExtractor(Named, Protocol):
    """As `Extractor`, on the frames of a generated video and its ground truth that belong together, both of the ground
    truth's size.
    """

    def begin(self, info: VideoInfo) -> None: ...

    def push(self, generated: np.ndarray, reference: np.ndarray) -> None:
        """Both uint8 (n, H, W, 3) RGB."""

    def finish(self) -> dict[str, np.ndarray]: ...


# Rows that are too many for memory: written to a temporary file as they come, mapped from it at the end.


class Spool:
    """float32 rows of one width. `array` is on disk, in a file without a name that goes with it."""

    def __init__(self, width: int) -> None:
        self.width, self.rows = width, 0
        self._file = tempfile.TemporaryFile(prefix="cyberhost-")

    def add(self, rows: np.ndarray) -> None:
        """Append (n, width)."""
        rows = np.ascontiguousarray(rows, np.float32)
        if rows.shape[1:] != (self.width,):
            raise ValueError(f"rows of {self.width} numbers, not {rows.shape}")
        self._file.write(rows.data)
        self.rows += len(rows)

    def array(self) -> np.ndarray:
        """All rows, (n, width)."""
        if not self.rows:
            return np.zeros((0, self.width), np.float32)
        self._file.flush()
        return np.memmap(self._file, np.float32, "r", shape=(self.rows, self.width))


FrameFunction = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Frames uint8 (n, H, W, 3) RGB -> name -> float32 (n, width)."""

_PIECE = 2048  # rows read at once


class PerFrame:
    """An `Extractor`: what `look` makes of every frame, and "size" (W, H) of the frames.

    `widths`: of the rows, by name.
    """

    fps = None
    uses_audio = False

    def __init__(self, name: str, digest: str, look: FrameFunction, widths: Mapping[str, int]) -> None:
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

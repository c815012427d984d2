"""Interfaces of what reads frames, and the extractor of features that every frame has by itself.

One pass over a video's frames feeds every extractor, so a video is decoded once. An extractor turns frames into
features: small arrays that are kept on disk under the content of the video and the extractor's digest. A metric turns
features into values and reads no frames (`lab.evaluation.metric`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

Features = Mapping[str, np.ndarray]
"""Name -> array.

Arrays read from the cache are memory-mapped and read-only: index them in pieces where they may be long.
"""


@dataclass(frozen=True)
class VideoInfo:
    """Describe a video before its first frame is read.

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


class ExtractorIdentity(Protocol):
    """Name an extractor and the version of its features."""

    @property
    def name(self) -> str:
        """A word: "inception", "dwpose". One extractor of a name in a run."""

    @property
    def digest(self) -> str:
        """Changes whenever the features could: version of our code, sha256 of the weights, settings.

        Part of the cache key.
        """


class Extractor(ExtractorIdentity, Protocol):
    """Turn the frames of one video into features: `begin`, `push` for every batch, `finish`; then the next video.

    Memory must not grow with the number of frames by more than the features do; long features are written to a
    `RowFile`. An error of `cyberhost_model.errors` raised by any of the three methods is the reason why the video has
    no such features; the run goes on.
    """

    @property
    def fps(self) -> float | None:
        """The rate the frames must have, by repeating and dropping; None: the video's own frames."""

    @property
    def uses_audio(self) -> bool:
        """Whether it reads `VideoInfo.sound`; the content of that file is then part of the cache key."""

    def begin(self, info: VideoInfo) -> None:
        """Start a video.

        All state of a video is made here: shallow copies of the extractor read several videos at a time.
        """

    def push(self, frames: np.ndarray) -> None:
        """Read the next frames in order, uint8 (n, H, W, 3) RGB, n from 1 to `media.video_reader.MAX_BATCH`.

        The array may be overwritten after the call.
        """

    def finish(self) -> dict[str, np.ndarray]:
        """Return the features of all frames. What could not be measured is NaN or an empty array, never 0."""


class PairExtractor(ExtractorIdentity, Protocol):
    """Turn matching frames of a generated video and its ground truth into features.

    Both frames have the ground truth's size. Called like an `Extractor`.
    """

    def begin(self, info: VideoInfo) -> None:
        """Start a pair of videos."""

    def push(self, generated: np.ndarray, ground_truth: np.ndarray) -> None:
        """Read the next matching frames, both uint8 (n, H, W, 3) RGB."""

    def finish(self) -> dict[str, np.ndarray]:
        """Return the features of all pairs."""


class SoundExtractor(ExtractorIdentity, Protocol):
    """Turn the sound that belongs to a generated video into features. Errors are treated as an `Extractor`'s."""

    def extract(self, sound: Path) -> dict[str, np.ndarray]:
        """Return the features of a sound file, or of the sound of a video."""


class RowFile:
    """Collect float32 rows of one width on disk, in a temporary file without a name."""

    def __init__(self, width: int) -> None:
        self.width, self.rows = width, 0
        self._file = tempfile.TemporaryFile(prefix="cyberhost-")

    def add(self, rows: np.ndarray) -> None:
        """Append rows (n, width)."""
        rows = np.ascontiguousarray(rows, np.float32)
        if rows.shape[1:] != (self.width,):
            raise ValueError(f"rows of {self.width} numbers, not {rows.shape}")
        self._file.write(rows.data)
        self.rows += len(rows)

    def array(self) -> np.ndarray:
        """Return all rows, (n, width), memory-mapped."""
        if not self.rows:
            return np.zeros((0, self.width), np.float32)
        self._file.flush()
        return np.memmap(self._file, np.float32, "r", shape=(self.rows, self.width))


Compare = Callable[[np.ndarray, np.ndarray], float]
"""(generated, ground truth), both uint8 (H, W, 3) -> a number."""

FrameFunction = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Frames uint8 (n, H, W, 3) RGB -> name -> float32 (n, width)."""

_ROWS_AT_ONCE = 2048


class PerFrame:
    """Extract with a function of single frames: its rows by name, and "size" (W, H) of the frames.

    widths: of the rows, by name. An `Extractor`.
    """

    fps = None
    uses_audio = False

    def __init__(self, name: str, digest: str, function: FrameFunction, widths: Mapping[str, int]) -> None:
        self.name, self.digest, self._function, self._widths = name, f"{name}/{digest}", function, dict(widths)
        self._rows: dict[str, RowFile] = {}
        self._size = (0, 0)

    def begin(self, info: VideoInfo) -> None:
        """Start a video."""
        self._rows = {name: RowFile(width) for name, width in self._widths.items()}
        self._size = info.size

    def push(self, frames: np.ndarray) -> None:
        """Read the next frames, uint8 (n, H, W, 3)."""
        for name, rows in self._function(frames).items():
            self._rows[name].add(rows)

    def finish(self) -> dict[str, np.ndarray]:
        """Return the rows of all frames by name, and "size"."""
        return {**{name: rows.array() for name, rows in self._rows.items()}, "size": np.array(self._size)}


def iterate_rows(features: Features, *names: str) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the rows of features of one length side by side, some at a time: they may be long and lie on disk."""
    arrays = [features[name] for name in names]
    for start in range(0, len(arrays[0]), _ROWS_AT_ONCE):
        yield tuple(np.asarray(array[start : start + _ROWS_AT_ONCE]) for array in arrays)

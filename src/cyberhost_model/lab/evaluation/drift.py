"""Compare each second of a video with its first one: identity, colour and sharpness. A long video should not drift.

A second is looked at four times. Identity is the cosine between mean face embeddings (those of the embedded protocol,
so nothing is fetched), colour the largest of the three channels' changes, sharpness the deviation of the Laplacian of
the brightness. A change is a share: 0.02 is 2%. A face that speaks changes from second to second too; the trend, a
straight line through all seconds, is what is left where that is averaged away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.features.people import EMBEDDING_WIDTH, face_embedding
from cyberhost_model.media.video_reader import VIDEO_SUFFIXES, stream_frames
from cyberhost_model.perception.detector import Detector

LIMIT = 0.02
"""Change up to which a second is like the first one."""
LOOKS = 4  # frames of each second


@dataclass(frozen=True)
class Change:
    """How one measure changes over a video, as shares of the first second; NaN where there is no face."""

    seconds: tuple[float, ...]
    """Of each whole second against the first one, from the second one on; identity: one less the cosine."""

    @property
    def last(self) -> float:
        """Change of the last second."""
        return self.seconds[-1]

    @property
    def worst(self) -> float:
        """Largest change of a second."""
        found = np.abs(self.seconds)
        return float(np.nanmax(found)) if np.isfinite(found).any() else float("nan")

    @property
    def trend(self) -> float:
        """Change from the first to the last of these seconds along the straight line that fits them best."""
        values = np.array(self.seconds)
        seen = np.isfinite(values)
        if seen.sum() < 2:
            return float("nan")
        slope = np.polyfit(np.flatnonzero(seen), values[seen], 1)[0]
        return float(slope * (len(values) - 1))


@dataclass(frozen=True)
class Drift:
    """The changes of a video."""

    video: str
    seconds: int
    """Whole seconds."""
    identity: Change
    colour: Change
    sharpness: Change

    def values(self) -> dict[str, Any]:
        """The numbers, for JSON; None in place of NaN."""
        found: dict[str, Any] = {"video": self.video, "seconds": self.seconds, "limit": LIMIT}
        for name, change in self.changes().items():
            numbers = {"last": change.last, "worst": change.worst, "trend": change.trend}
            found[name] = {key: round(x, 5) if np.isfinite(x) else None for key, x in numbers.items()}
        return found

    def changes(self) -> dict[str, Change]:
        """The changes by their names."""
        return {"identity": self.identity, "colour": self.colour, "sharpness": self.sharpness}


def find_videos(path: Path) -> list[Path]:
    """List the videos of a folder, or the one that is given. Raises InputError for a folder without any."""
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise InputError(f"{path}: holds no videos ({', '.join(VIDEO_SUFFIXES)})")
    return found


def measure_drift(video: Path, detector: Detector) -> Drift:
    """Measure the drift of a video; memory does not grow with its length.

    Raises InputError for a file that is no video, or one of less than two whole seconds.
    """
    rows = [_measure_second(frames, detector) for frames in _whole_seconds(video)]
    if len(rows) < 2:
        raise InputError(f"{video}: has less than two whole seconds, so nothing can be compared")
    embeddings, colours, sharpness = (np.array(column) for column in zip(*rows, strict=True))
    colour = np.abs(colours - colours[0]).max(1) / max(colours[0].mean(), 1e-6)
    changes = (1 - embeddings @ embeddings[0], colour, sharpness / max(sharpness[0], 1e-6) - 1)
    return Drift(str(video), len(rows), *(Change(tuple(map(float, change[1:]))) for change in changes))


def _whole_seconds(video: Path) -> Iterator[list[np.ndarray]]:
    frames = stream_frames(video, LOOKS)
    while len(second := list(islice(frames, LOOKS))) == LOOKS:
        yield second


def _measure_second(frames: list[np.ndarray], detector: Detector) -> tuple[np.ndarray, np.ndarray, float]:
    """Measure frames of a second -> mean embedding (D,) of length 1, or NaN; mean colour (3,); sharpness."""
    found = []
    for frame in frames:
        if people := detector.detect(frame):
            found.append(face_embedding(frame, people[0].keypoints))
    seen = [embedding for embedding in found if np.isfinite(embedding).all()]
    mean = np.mean(seen, 0) if seen else np.full(EMBEDDING_WIDTH, np.nan)
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    sharpness = float(np.mean([cv2.Laplacian(grey, cv2.CV_32F).std() for grey in greys]))
    return mean / (np.linalg.norm(mean) + 1e-9), np.mean([frame.mean((0, 1)) for frame in frames], 0), sharpness

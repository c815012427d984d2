"""Do the lips of a clip belong to its sound? Asked of the public SyncNet, whose weights are fetched only for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyberhost_model.lab.evaluation.features.sync import SyncFeatures

MOST_SHIFT = 2
"""Frames by which sound may come early or late."""


@dataclass(frozen=True)
class Synchrony:
    """confidence: SyncC. offset: frames by which the sound comes early (negative: late)."""

    confidence: float
    offset: int

    def fault(self, least: float) -> str:
        """What is wrong with it in words, where its confidence must be `least` or more; empty: nothing."""
        if self.confidence < least:
            return f"confidence {self.confidence:.1f}"
        if abs(self.offset) > MOST_SHIFT:
            return f"the sound is {abs(self.offset)} frames {'early' if self.offset > 0 else 'late'}"
        return ""


Judge = Callable[[Path], Synchrony | None]
"""A clip's file -> its synchrony; None where no face can be followed (fewer than 50 frames of it, or too small a
one).
"""


def weight_files() -> list[Path]:
    """SyncNet's weights and its face finder's, fetched if need be. Raises ModelError, NetworkError and OutputError."""
    from cyberhost_model.hub.locate import locate
    from cyberhost_model.lab.evaluation.metrics.sync import WEIGHTS

    return [locate(name) for name in WEIGHTS]


def load_judge() -> Judge:
    """Raises what `weight_files` raises."""
    from cyberhost_model.lab.evaluation.features.sync import SyncFeatures
    from cyberhost_model.lab.evaluation.networks.s3fd import FaceFinder
    from cyberhost_model.lab.evaluation.networks.syncnet import load_syncnet

    net, finder = weight_files()
    features = SyncFeatures(FaceFinder(finder), load_syncnet(net), digest="")
    return lambda video: synchrony(video, features)


def synchrony(video: Path, features: SyncFeatures) -> Synchrony | None:
    """See `Judge`."""
    from cyberhost_model.lab.evaluation.features.extractor import VideoInfo
    from cyberhost_model.lab.evaluation.features.frames import probe, read_frames
    from cyberhost_model.lab.evaluation.features.sync import sync_of

    stream = probe(video)
    batches = read_frames(stream)
    first = next(batches)
    features.begin(VideoInfo(video, float(stream.fps), (first.shape[2], first.shape[1]), stream.packets, video))
    features.push(first)
    for batch in batches:
        features.push(batch)
    distances = features.finish()["distances"]
    if not len(distances):
        return None
    found = sync_of([distances])
    return Synchrony(found.confidence, found.offset)

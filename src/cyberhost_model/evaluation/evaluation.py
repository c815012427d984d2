"""A finished run in memory: the results, and the features behind them for those who draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .extractor import Features
from .metric import Role
from .results import Results


@dataclass(frozen=True)
class Paths:
    """The files of one video: what was generated, and what it is measured against where there is something."""

    generated: Path
    reference: Path | None = None
    image: Path | None = None
    audio: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """`results` is all that is written; `paths` by video. `features(video, role, extractor name)` reads what an extractor made of a video from
    the cache, memory-mapped; None where it was not used."""

    results: Results
    paths: Mapping[str, Paths]
    features: Callable[[str, Role, str], Features | None]

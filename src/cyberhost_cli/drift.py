"""`cyberhost eval VIDEOS --drift`: each second of a video against its first one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cyberhost_cli.console import Console

if TYPE_CHECKING:
    from cyberhost_model.lab.evaluation.drift import Drift


def show_drift(videos: Path, console: Console) -> None:
    """Measure the drift of a video, or of those of a folder, and print it. Raises InputError."""
    from cyberhost_model.lab.evaluation.drift import find_videos, measure_drift
    from cyberhost_model.perception.registry import embedded_detector

    detector = embedded_detector()
    for video in find_videos(videos):
        drift = measure_drift(video, detector)
        console.text(drift_lines(drift))
        console.data(drift.values())


def drift_lines(drift: Drift) -> Iterator[str]:
    """Lay the drift of a video out, a line for each measure."""
    from cyberhost_model.lab.evaluation.drift import LIMIT

    yield f"{drift.video}: {drift.seconds} seconds, each against the first one"
    for name, change in drift.changes().items():
        like = "within" if abs(change.last) <= LIMIT else "not within"
        numbers = f"last {change.last:+.2%}, worst {change.worst:.2%}, trend {change.trend:+.2%}"
        yield f"  {name:<9} {numbers} ({like} {LIMIT:.0%} at the end)"

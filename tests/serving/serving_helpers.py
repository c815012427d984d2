"""Waiting, and comparing videos."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cyberhost_model.media.video_reader import probe_video, read_frames

T = TypeVar("T")


def wait_for(look: Callable[[], T | None], seconds: float = 300) -> T:
    """Look again and again until there is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return found


def frames_digest(video: Path) -> tuple[int, str]:
    """Count the decoded frames of a video and digest them."""
    state, count = hashlib.sha256(), 0
    for batch in read_frames(probe_video(video)):
        state.update(batch.tobytes())
        count += len(batch)
    return count, state.hexdigest()

"""Whose turn it is to compute: one thread at a time has the model, and live sessions go before videos.

A session that keeps up with speech leaves too little time for the clips of a video, and one clip of it would be heard
as a gap. So videos wait while a session is open, each with its latest frame written.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_LOOK_SECONDS = 0.5  # between looks whether a video that waits is still wanted


class Turns:
    """The turns of one model."""

    def __init__(self) -> None:
        self.model = threading.Lock()
        """Held by the thread that computes."""
        self._count, self._sessions = threading.Lock(), 0
        self._quiet = threading.Event()  # no session is open
        self._quiet.set()

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Keep a session open: videos give way after their next frame."""
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    def give_way(self, look: Callable[[], None]) -> None:
        """Wait, without the model, until no session is open; for a thread that has `model` and makes a video.

        look: called twice a second, may raise to end the wait.
        """
        if self._quiet.is_set():
            return
        self.model.release()
        try:
            while not self._quiet.wait(_LOOK_SECONDS):
                look()
        finally:
            self.model.acquire()

    def _add(self, sessions: int) -> None:
        with self._count:
            self._sessions += sessions
            if self._sessions:
                self._quiet.clear()
            else:
                self._quiet.set()

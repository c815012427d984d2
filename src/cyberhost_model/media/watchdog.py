"""End a process that stops: one that neither gives anything nor computes while somebody waits for it."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator

IDLE_SECONDS = 30.0  # without output and without processor time: it waits for something that does not come
SILENT_SECONDS = 300.0  # without output though it computes
_EVERY = 0.5  # seconds between two looks
_STOPPED = 5.0  # a look that is later than this: this process was stopped itself meanwhile (Ctrl-Z), which counts not


class Watchdog:
    """Kills `process` when a wait for it lasts too long; `bit` says that it did.

    A wait is a block under `waiting`. Time in which nobody waits for the process does not count.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.bit = False
        self._since: float | None = None
        self._limit = SILENT_SECONDS
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch ffmpeg", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def waiting(self, limit: float = SILENT_SECONDS) -> Iterator[None]:
        """Wait for the process in this block, at most `limit` seconds if it computes all the time."""
        self._limit, self._since = limit, time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def stop(self) -> None:
        """Stop watching."""
        self._over.set()

    def _watch(self) -> None:
        since: float | None = None
        worked, moved = 0.0, 0.0  # processor seconds, and when they last grew
        looked, stopped = time.monotonic(), 0.0
        while not self._over.wait(_EVERY):
            now = time.monotonic()
            gap, looked = now - looked, now
            if self._since is None or self._since != since:
                since, moved, stopped = self._since, now, 0.0
                continue
            if gap > _STOPPED:
                moved, stopped = moved + gap, stopped + gap
            if now - since > 2 * _EVERY and (used := _processor_seconds(self.process.pid)) != worked:
                worked, moved = used, now
            if now - moved > IDLE_SECONDS or now - since - stopped > self._limit:
                self.bit = True
                with contextlib.suppress(OSError):
                    self.process.kill()
                return


def _processor_seconds(pid: int) -> float:
    """Read how long a process has computed; 0 where that cannot be read."""
    import psutil  # late: only a long wait asks

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)

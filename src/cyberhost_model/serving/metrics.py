"""What a server counts, in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import psutil

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TOTALS = {
    "accepted": ("cyberhost_jobs_accepted_total", "Jobs that were let wait."),
    "completed": ("cyberhost_jobs_completed_total", "Jobs whose video was made."),
    "failed": ("cyberhost_jobs_failed_total", "Jobs that failed."),
    "expired": ("cyberhost_jobs_expired_total", "Finished jobs that were removed for their age."),
    "refused": ("cyberhost_requests_refused_total", "Requests that were answered with an error."),
    "sessions": ("cyberhost_sessions_total", "Live sessions that were begun."),
    "frames": ("cyberhost_frames_total", "Frames of finished videos."),
    "seconds": ("cyberhost_making_seconds_total", "Seconds in which jobs were made."),
    "uploaded": ("cyberhost_uploaded_bytes_total", "Bytes of requests that were received."),
}
"""Counter -> its name in the text, and what it counts."""


class Counters:
    """Sums since the server was started. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums = dict.fromkeys(_TOTALS, 0.0)

    def add(self, name: str, amount: float = 1) -> None:
        """Add to the counter `name`."""
        with self._lock:
            self._sums[name] += amount

    def sums(self) -> dict[str, float]:
        """Copy the sums, by the names of `add`."""
        with self._lock:
            return dict(self._sums)


def metrics_text(counters: Counters, jobs: Mapping[str, int]) -> str:
    """Write all counters and the number of jobs of each status."""
    return "".join(f"{line}\n" for line in _lines(counters, jobs))


def _lines(counters: Counters, jobs: Mapping[str, int]) -> Iterator[str]:
    for name, value in counters.sums().items():
        metric, meaning = _TOTALS[name]
        yield from (f"# HELP {metric} {meaning}", f"# TYPE {metric} counter", f"{metric} {value:.10g}")
    yield from ("# HELP cyberhost_jobs Jobs that are kept, by status.", "# TYPE cyberhost_jobs gauge")
    yield from (f'cyberhost_jobs{{status="{status}"}} {count}' for status, count in jobs.items())
    memory = "process_resident_memory_bytes"
    yield from (f"# HELP {memory} Memory of the server.", f"# TYPE {memory} gauge")
    yield f"{memory} {psutil.Process().memory_info().rss}"

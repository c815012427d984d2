"""A piece of work in a thread while the caller goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")


class BackgroundWorker:
    """Context manager: one thread, one piece of work at a time.

    Leaving it, however that comes about, waits for the work that is going on.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(
            1, thread_name_prefix="beside"
        )  # its thread begins with the first piece of work
        self._latest: Future | None = None

    def __enter__(self) -> BackgroundWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Begin; what it returns or raises is the future's.

        Waits for the piece before, so that results cannot pile up.
        """
        self.settle()
        self._latest = future = self._pool.submit(work)
        return future

    def settle(self) -> None:
        """Wait until nothing is going on."""
        if self._latest is not None:
            wait([self._latest])

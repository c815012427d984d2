"""Work in a second thread: one piece while the caller goes on, or several that both threads share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

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


class SharedWork(Generic[T]):
    """Pieces of work in their order, which a helper's thread does and whoever waits for one of them.

    Each piece is done once, at the latest when its result is taken.
    """

    def __init__(self, pieces: Sequence[Callable[[], T]], helper: Helper | None = None) -> None:
        """Begin. helper: None leaves all to those that take results."""
        self._pieces, self._results = pieces, dict[int, T]()
        self._helper = helper
        self._futures: list[Future[T]] = []
        if helper is not None:  # the helper comes to the first piece last, for somebody waits for it already
            *later, first = [helper.pool.submit(piece) for piece in (*pieces[1:], pieces[0])]
            self._futures = [first, *later]

    def take(self, index: int) -> T:
        """Return a piece's result; while the helper is at it, later ones are done here."""
        if self._helper is None:
            return self._do(index)
        with self._helper.sharing():
            for other in range(index, len(self._pieces)):
                if index in self._results or self._futures[index].done():
                    break
                if other not in self._results and self._futures[other].cancel():
                    self._do(other)
        return self._results[index] if index in self._results else self._futures[index].result()

    def drop(self) -> None:
        """Leave undone what was not begun."""
        for future in self._futures:
            future.cancel()

    def _do(self, index: int) -> T:
        if index not in self._results:
            self._results[index] = self._pieces[index]()
        return self._results[index]


class Helper:
    """A second thread for `SharedWork`: torch computes with half of its threads in each of the two."""

    def __init__(self) -> None:
        before = torch.get_num_threads()
        self._share = max(1, before // 2)
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="helper")  # its thread ends with it
        # torch counts threads for each thread, but a new one begins with what was set last in any.
        self.pool.submit(torch.set_num_threads, self._share).result()
        torch.set_num_threads(before)

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Have torch compute with half of its threads in the calling thread."""
        before = torch.get_num_threads()
        torch.set_num_threads(min(before, self._share))
        try:
            yield
        finally:
            torch.set_num_threads(before)

"""The queue: a thread makes the jobs of a store one after the other, with one model.

One at a time on purpose: each job computes with all cores, or the whole GPU, and two at once would both take longer.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass

from cyberhost_model.serving.failures import failure_of, public_line
from cyberhost_model.serving.making import Maker
from cyberhost_model.serving.metrics import Counters
from cyberhost_model.serving.store import COMPLETED, FAILED, IN_PROGRESS, QUEUED, JobStore, VideoJob

LOG = logging.getLogger("cyberhost.serving")
_LOOK_SECONDS = 1.0  # between looks at an empty queue
_EXPIRE_SECONDS = 60.0  # between looks for videos that are too old


class Stopped(BaseException):
    """The job is not wanted any more, or the server ends. Not an Exception: it is no failure of the job."""


@dataclass
class Progress:
    """How far the job is that is being made."""

    id: str
    done: int = 0
    total: int | None = None
    removed: bool = False
    """The client has removed it."""


class JobQueue:
    """Context manager: inside, jobs are made."""

    def __init__(self, store: JobStore, maker: Maker, max_waiting: int, keep_seconds: float) -> None:
        self.store, self.counters = store, Counters()
        self._maker, self._max_waiting, self._keep_seconds = maker, max_waiting, keep_seconds
        self._lock = threading.Lock()  # held where a job begins to be made, or is removed
        self._more, self._ending = threading.Event(), threading.Event()
        self._current: Progress | None = None
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._expired = float("-inf")

    def __enter__(self) -> JobQueue:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the job that is being made after its next frame; a queue on the same folder goes on with it."""
        self._ending.set()
        self._more.set()
        self._thread.join()

    @property
    def full(self) -> bool:
        """Whether no more jobs may wait."""
        return self.store.counts()[QUEUED] >= self._max_waiting

    def submit(self, job: VideoJob) -> bool:
        """Let a job wait. Returns False where too many do."""
        if not self.store.add(job, self._max_waiting):
            return False
        self.counters.add("accepted")
        self._more.set()
        return True

    def progress(self, job: VideoJob) -> float:
        """Say how much of a job is done, 0..1."""
        if job.status == COMPLETED:
            return 1.0
        current = self._current
        if current is None or current.id != job.id or not current.total:
            return 0.0
        return current.done / current.total

    def remove(self, identity: str) -> bool:
        """Remove a job and all it has on disk, stopping it where it is being made. Returns whether there was one."""
        with self._lock:
            known = self.store.forget(identity)
            if self._current is not None and self._current.id == identity:
                self._current.removed = True  # the thread that makes it removes its folder
            else:
                self.store.remove_folder(identity)
        return known

    def _work(self) -> None:
        while not self._ending.is_set():
            try:
                self._expire()
                if not self._make_next():
                    self._more.wait(_LOOK_SECONDS)
                    self._more.clear()
            except Exception:  # a full disk, say: the queue goes on when there is room again
                LOG.exception("the queue cannot go on; it tries again")
                self._ending.wait(_LOOK_SECONDS)

    def _expire(self) -> None:
        if time.monotonic() - self._expired >= min(_EXPIRE_SECONDS, self._keep_seconds):
            self.counters.add("expired", self.store.expire(self._keep_seconds))
            self._expired = time.monotonic()

    def _make_next(self) -> bool:
        """Make the job that waits longest. Returns whether there was one."""
        with self._lock:
            if (job := self.store.next_waiting()) is None:
                return False
            self._current = current = Progress(job.id)
            self.store.change(job.id, status=IN_PROGRESS, started=time.time())
        try:
            with contextlib.suppress(Stopped):
                self._make(job, current)
        finally:
            with self._lock:
                self._current = None
                if current.removed:
                    self.store.remove_folder(job.id)
        return True

    def _make(self, job: VideoJob, current: Progress) -> None:
        """Make a job and keep what became of it. Raises Stopped."""

        def tick(done: int, total: int | None) -> None:
            current.done, current.total = done, total
            if current.removed or self._ending.is_set():
                raise Stopped

        folder = self.store.folder_of(job.id)
        names = {str(folder / name): field for field, name in job.inputs.items()}
        began = time.monotonic()
        try:
            made = self._maker(job, folder, tick)
        except Exception as error:
            if current.removed:
                return
            failure = failure_of(error, names)
            level = logging.ERROR if failure.status >= 500 else logging.INFO  # what its owner can mend
            LOG.log(level, "%s failed: %s: %s", job.id, failure.code, error, exc_info=failure.code == "error")
            self.counters.add("failed")
            self.store.change(job.id, status=FAILED, finished=time.time(), failure=failure)
            self.store.remove_folder(job.id)  # nothing in it is of use any more
        else:
            self.counters.add("completed")
            self.counters.add("frames", made.frames)
            told = [line for text in made.warnings if (line := public_line(text, names)) is not None]
            self.store.change(job.id, status=COMPLETED, finished=time.time(), made=made.facts(), warnings=told)
            for name in job.inputs.values():
                (folder / name).unlink(missing_ok=True)
        self.counters.add("seconds", time.monotonic() - began)

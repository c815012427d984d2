"""Processes that make the videos of a list, on this machine or on a Ray cluster: each has a model of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as connection_wait
from typing import TYPE_CHECKING, Any, Protocol

from cyberhost_model.config import RuntimeConfig
from cyberhost_model.errors import CyberHostError
from cyberhost_model.runtime.batch_jobs import BatchJob
from cyberhost_model.runtime.batch_run import BatchResult, failure, run_job, without_model

if TYPE_CHECKING:
    from cyberhost_model.runtime.pipeline import CyberHost


@dataclass(frozen=True)
class WorkerTask:
    """What a worker does with each job: plain data, which goes to other processes."""

    runtime: RuntimeConfig
    overwrite: bool
    resume: bool
    prepare: Callable[[], None] | None
    """Called before the model is loaded."""

    def load(self) -> CyberHost:
        """Load the model. Raises what `CyberHost.from_pretrained` does."""
        from cyberhost_model.runtime.pipeline import CyberHost

        if self.prepare is not None:
            self.prepare()
        return CyberHost.from_pretrained(**asdict(self.runtime))


class JobMaker:
    """The model in a worker. One that cannot be loaded fails every job."""

    def __init__(self, task: WorkerTask) -> None:
        self._task = task
        self._loaded: CyberHost | Exception
        try:
            self._loaded = task.load()
        except Exception as error:
            self._loaded = error

    def make(self, job: BatchJob) -> BatchResult:
        """Make the video of a job."""
        if isinstance(self._loaded, Exception):
            return failure(job, self._loaded)
        return run_job(self._loaded, job, self._task.overwrite, self._task.resume)


class WorkerLost(Exception):
    """A worker has ended in the middle of its job; the text says how."""


class Workers(Protocol):
    """A way to have workers, which are known by their numbers from 0 to `count`."""

    count: int

    def give(self, number: int, job: BatchJob) -> None:
        """Have a worker make a job; it is started where it is not there."""

    def finished(self, numbers: list[int], wait: bool) -> list[int]:
        """Return those of some workers at work that have finished; wait: until there is one."""

    def result(self, number: int) -> BatchResult:
        """Take the result of a worker that has finished. Raises WorkerLost."""

    def close(self) -> None:
        """End all workers."""


def run_on_workers(jobs: Iterable[BatchJob | None], task: WorkerTask, workers: Workers) -> Iterator[BatchResult]:
    """Keep workers busy with a job each. One that is lost costs its job; another takes its place.

    jobs: None among them means that there is none at the moment.
    """
    waiting, more = iter(jobs), True
    busy: dict[int, BatchJob] = {}
    try:
        while more or busy:
            while more and len(busy) < workers.count:
                try:
                    job = next(waiting)
                except StopIteration:
                    more = False
                    break
                if job is None:
                    break
                if (result := without_model(job, task.overwrite)) is not None:
                    yield result
                    continue
                number = next(n for n in range(workers.count) if n not in busy)
                busy[number] = job
                workers.give(number, job)
            # Where a worker is free, the next look for jobs is what is waited for.
            for number in workers.finished(list(busy), wait=not more or len(busy) == workers.count) if busy else ():
                job = busy.pop(number)
                try:
                    yield workers.result(number)
                except WorkerLost as error:
                    code = CyberHostError.exit_code
                    yield BatchResult(job.place, str(job.output), "failed", code, f"its process {error}")
    finally:
        workers.close()


@dataclass
class _Process:
    process: Any
    pipe: Connection


class LocalWorkers:
    """Processes of this machine; each has a GPU of its own where there are several."""

    def __init__(self, task: WorkerTask, count: int) -> None:
        self.count = count
        self._task = task
        self._context = multiprocessing.get_context("spawn")  # a fork breaks torch's threads
        self._processes: dict[int, _Process] = {}

    def give(self, number: int, job: BatchJob) -> None:
        """Have a process make a job; see `Workers`."""
        if number not in self._processes:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_work, args=(theirs, self._task, number, self.count), daemon=True)
            process.start()
            theirs.close()
            self._processes[number] = _Process(process, ours)
        with contextlib.suppress(OSError):  # a process that has died is noticed where its answer is read
            self._processes[number].pipe.send(job)

    def finished(self, numbers: list[int], wait: bool) -> list[int]:
        """Return those that have finished; see `Workers`."""
        ready = connection_wait([self._processes[number].pipe for number in numbers], None if wait else 0)
        return [number for number in numbers if self._processes[number].pipe in ready]

    def result(self, number: int) -> BatchResult:
        """Take the result of a process; see `Workers`."""
        try:
            return self._processes[number].pipe.recv()  # type: ignore[no-any-return]
        except (EOFError, OSError):
            lost = self._processes.pop(number)
            lost.process.join()
            raise WorkerLost(f"ended with code {lost.process.exitcode}") from None

    def close(self) -> None:
        """End all processes."""
        for worker in self._processes.values():
            worker.process.terminate()  # an exception there, so that ffmpeg is ended too
        for worker in self._processes.values():
            worker.process.join(10)
            worker.process.kill()
            worker.pipe.close()


def _work(pipe: Connection, task: WorkerTask, number: int, count: int) -> None:
    """Load the model once and make the videos of jobs that come through a pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _take_share(number, count)
    maker = JobMaker(task)
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(maker.make(pipe.recv()))


def _take_share(number: int, count: int) -> None:
    """Take a GPU of its own where there are several, and its share of the processor's cores."""
    import torch

    if (gpus := torch.cuda.device_count()) > 1:
        torch.cuda.set_device(number % gpus)
    elif not gpus and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // count))


def _end_with_parent() -> None:
    """End this process with its parent."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection_wait([parent.sentinel])
        os._exit(1)


class RayWorkers:
    """Actors of a Ray cluster. Each takes a GPU where the cluster has any, and a processor otherwise."""

    def __init__(self, ray: Any, task: WorkerTask, count: int) -> None:
        self.count = count
        self._ray, self._task = ray, task
        needs = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
        self._kind = ray.remote(**needs)(JobMaker)
        self._actors: dict[int, Any] = {}
        self._answers: dict[int, Any] = {}

    def give(self, number: int, job: BatchJob) -> None:
        """Have an actor make a job; see `Workers`."""
        if number not in self._actors:
            self._actors[number] = self._kind.remote(self._task)
        self._answers[number] = self._actors[number].make.remote(job)

    def finished(self, numbers: list[int], wait: bool) -> list[int]:
        """Return those that have finished; see `Workers`."""
        answers = [self._answers[number] for number in numbers]
        ready, _ = self._ray.wait(answers, num_returns=1, timeout=None if wait else 0)
        return [number for number in numbers if self._answers[number] in ready]

    def result(self, number: int) -> BatchResult:
        """Take the result of an actor; see `Workers`."""
        try:
            return self._ray.get(self._answers[number])  # type: ignore[no-any-return]
        except self._ray.exceptions.RayError as error:
            self._ray.kill(self._actors.pop(number))
            raise WorkerLost(f"on Ray was lost ({str(error).splitlines()[0][:200]})") from None

    def close(self) -> None:
        """End all actors."""
        for actor in self._actors.values():
            self._ray.kill(actor)

"""Do a piece of work for many jobs: in this process, in local processes, or on Ray.

Every engine runs the same function and gives the same results.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from cyberhost_model.errors import CyberHostError, InputError, OutputError
from cyberhost_model.runtime.ray_cluster import ray_cluster

ENGINES = ("local", "ray")
_TRIES = 2  # a machine that leaves the cluster takes its job with it: it is tried once more elsewhere
_WORKER = "worker-"

J = TypeVar("J")
R = TypeVar("R")


class Work(Generic[J, R]):
    """What is done for every job. It is sent to the processes that do it, so it can be pickled, as jobs and results."""

    gpus: int = 0
    """GPUs that a job computes on, which Ray then keeps for it."""

    def run(self, job: J) -> R:
        """Do a job. One of our own errors stops everything."""
        raise NotImplementedError

    def record_crash(self, job: J, detail: str) -> R:
        """Make the result of a job whose process died, or that failed unexpectedly."""
        raise NotImplementedError

    def clean(self, job: J) -> None:
        """Remove what a process that was ended left unfinished of a job."""


@dataclass(frozen=True)
class Engine:
    """Where work is done. Raises InputError for an unknown kind."""

    kind: str = "local"
    workers: int = 0
    """Local processes; 0 works in this one."""
    address: str | None = None
    """Of a running Ray cluster ("auto", "host:6379", "ray://host:10001"); None starts Ray on this machine alone."""

    def __post_init__(self) -> None:
        if self.kind not in ENGINES:
            raise InputError(f"no engine {self.kind!r}: choose {' or '.join(ENGINES)}")

    def run(self, work: Work[J, R], jobs: Sequence[J]) -> Iterator[tuple[J, R]]:
        """Yield each finished job with its result, in the order they are finished.

        Raises what the work raises. Every process is ended when this generator is.
        """
        if self.kind == "ray" and jobs:
            return run_ray(work, jobs, self.address)
        return run_local(work, jobs, self.workers) if self.workers else run_in_process(work, jobs)


def worker_number() -> int:
    """Return the number of this local worker process among its kind, from 0 on; 0 elsewhere."""
    name = multiprocessing.current_process().name
    return int(name[len(_WORKER) :]) if re.fullmatch(rf"{_WORKER}\d+", name) else 0


def run_or_record_crash(work: Work[J, R], job: J) -> R:
    """Do a job, and record an unexpected error as its result: one odd job must not stop the others.

    Our own errors are raised.
    """
    try:
        return work.run(job)
    except CyberHostError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
        return work.record_crash(job, detail)


def run_in_process(work: Work[J, R], jobs: Sequence[J]) -> Iterator[tuple[J, R]]:
    """Do one job after the other in this process."""
    for job in jobs:
        yield job, run_or_record_crash(work, job)


def _run_worker(pipe: Connection, work: Work[Any, Any]) -> None:
    """Take jobs from a pipe and send their results back, until None comes or the other end is gone.

    One of our own errors is sent back and ends the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.filterwarnings("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    with suppress(EOFError, OSError):
        while (job := pipe.recv()) is not None:
            try:
                pipe.send(run_or_record_crash(work, job))
            except CyberHostError as error:
                pipe.send(error)
                return


def _end_with_parent() -> None:
    """End this process with its parent: a worker that goes on would disturb the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@dataclass
class _Worker(Generic[J]):
    process: Any
    pipe: Connection
    number: int
    job: J | None = None


class _WorkerPool(Generic[J, R]):
    """Keep local processes busy, each with one job at a time."""

    def __init__(self, work: Work[J, R], jobs: Sequence[J]) -> None:
        self.waiting = list(reversed(jobs))
        self.workers: list[_Worker[J]] = []
        self._work = work
        self._context = multiprocessing.get_context("spawn")  # a fork breaks torch's threads

    def start_worker(self, number: int) -> None:
        """Start a process and give it a job."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_run_worker, args=(theirs, self._work), name=f"{_WORKER}{number}", daemon=True
        )
        process.start()
        theirs.close()
        self.workers.append(_Worker(process, ours, number))
        self.give_job(self.workers[-1])

    def give_job(self, worker: _Worker[J]) -> None:
        """Give a worker the next job, or None, which ends it."""
        worker.job = self.waiting.pop() if self.waiting else None
        with suppress(OSError):  # `finish_job` notices a worker that has died
            worker.pipe.send(worker.job)

    def finish_job(self, worker: _Worker[J]) -> tuple[J, R] | None:
        """Receive the result of a worker's job and give it the next one; None where a worker ended without a job.

        A process that died costs the job it had; another one takes its place. Raises what a worker raised.
        """
        job = worker.job
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):
            return self._replace(worker)
        if isinstance(answer, CyberHostError):
            raise answer
        assert job is not None
        self.give_job(worker)
        return job, answer

    def _replace(self, worker: _Worker[J]) -> tuple[J, R] | None:
        self.workers.remove(worker)
        worker.process.join()
        if worker.job is None:
            return None
        self._work.clean(worker.job)
        if self.waiting:
            self.start_worker(worker.number)
        detail = f"the process ended with code {worker.process.exitcode}"
        return worker.job, self._work.record_crash(worker.job, detail)

    def close(self) -> None:
        """End all processes and remove what they left unfinished."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()
            if worker.job is not None:
                self._work.clean(worker.job)


def run_local(work: Work[J, R], jobs: Sequence[J], workers: int) -> Iterator[tuple[J, R]]:
    """Do jobs in `workers` processes, one at a time each.

    Raises what a worker raised (OutputError and the like); every process is ended when this generator is.
    """
    pool = _WorkerPool(work, jobs)
    try:
        for number in range(min(workers, len(jobs))):
            pool.start_worker(number)
        while pool.workers:
            ready = wait([w.pipe for w in pool.workers])
            for worker in [w for w in pool.workers if w.pipe in ready]:
                finished = pool.finish_job(worker)
                if finished is not None:
                    yield finished
    finally:
        pool.close()


def run_ray(work: Work[J, R], jobs: Sequence[J], address: str | None) -> Iterator[tuple[J, R]]:
    """Do jobs on Ray, a task of one CPU for each; all machines must see the same paths.

    address: see `Engine.address`. Raises ResourceError where Ray is not installed or the cluster does not answer.
    """
    with ray_cluster(address) as ray:
        task = ray.remote(num_cpus=1, num_gpus=work.gpus, max_retries=_TRIES - 1)(run_or_record_crash)
        shared = ray.put(work)
        waiting = list(reversed(jobs))
        running: dict[Any, J] = {}
        # The scheduler gets two tasks a CPU at a time: a million tasks would fill it.
        limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.pop()
                running[task.remote(shared, job)] = job
            ready, _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ready[0])
            try:
                result = ray.get(ready[0])
            except ray.exceptions.RayTaskError as error:
                cause = getattr(error, "cause", None)
                if isinstance(cause, CyberHostError):
                    raise cause from None
                raise OutputError(f"{job}: failed on Ray: {cause}") from None
            except ray.exceptions.RayError as error:
                result = work.record_crash(job, str(error).splitlines()[0])
            yield job, result

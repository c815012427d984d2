"""Run `process_video` over many videos: in this process, in local processes, or on Ray.

Every engine runs the same function and gives the same rows.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from cyberhost_model.errors import CyberHostError, OutputError
from cyberhost_model.lab.filmed.manifest import Reason, Row
from cyberhost_model.lab.filmed.prepare import Job, blank_row, part_path, process_video, write_record
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.runtime.ray_cluster import ray_cluster

FinishedJobs = Iterator[tuple[Job, list[Row]]]
"""Each finished video with its rows, in the order they are finished."""
_TRIES = 2  # a machine that leaves the cluster takes its video with it: it is tried once more elsewhere


def record_crash(job: Job, dataset: Path, settings: Settings, detail: str) -> list[Row]:
    """Record a video on which a process died or failed unexpectedly, and return its row; the next run tries again."""
    rows = [blank_row(job, settings).reject(Reason.CRASHED, " ".join(detail.split())[:200])]
    write_record(dataset, job, settings, rows)
    return rows


def process_or_record_crash(job: Job, dataset: Path, settings: Settings) -> list[Row]:
    """Run `process_video`, and record an unexpected error as a row: one odd video must not stop the others.

    Our own errors are raised.
    """
    try:
        return process_video(job, dataset, settings)
    except CyberHostError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
        return record_crash(job, dataset, settings, detail)


def run_in_process(jobs: list[Job], dataset: Path, settings: Settings) -> FinishedJobs:
    """Prepare one video after the other in this process."""
    for job in jobs:
        yield job, process_or_record_crash(job, dataset, settings)


def run_worker(pipe: Connection, dataset: Path, settings: Settings) -> None:
    """Take jobs from a pipe and send their rows back, until None comes or the other end is gone.

    One of our own errors is sent back and ends the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.filterwarnings("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    with suppress(EOFError, OSError):
        while (job := pipe.recv()) is not None:
            try:
                pipe.send(process_or_record_crash(job, dataset, settings))
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
class _Worker:
    process: Any
    pipe: Connection
    job: Job | None = None


class _WorkerPool:
    """Keep local processes busy, each with one video at a time."""

    def __init__(self, jobs: list[Job], dataset: Path, settings: Settings) -> None:
        self.waiting = list(reversed(jobs))
        self.workers: list[_Worker] = []
        self._dataset, self._settings = dataset, settings
        self._context = multiprocessing.get_context("spawn")  # a fork breaks torch's threads

    def start_worker(self) -> None:
        """Start a process and give it a job."""
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self._dataset, self._settings)
        process = self._context.Process(target=run_worker, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self.workers.append(_Worker(process, ours))
        self.give_job(self.workers[-1])

    def give_job(self, worker: _Worker) -> None:
        """Give a worker the next job, or None, which ends it."""
        worker.job = self.waiting.pop() if self.waiting else None
        with suppress(OSError):  # `finish_job` notices a worker that has died
            worker.pipe.send(worker.job)

    def finish_job(self, worker: _Worker) -> tuple[Job, list[Row]] | None:
        """Receive the rows of a worker's job and give it the next one; None where a worker ended without a job.

        A process that died costs the video it had; another one takes its place. Raises what a worker raised.
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

    def _replace(self, worker: _Worker) -> tuple[Job, list[Row]] | None:
        self.workers.remove(worker)
        worker.process.join()
        if worker.job is None:
            return None
        shutil.rmtree(part_path(self._dataset, worker.job), ignore_errors=True)
        if self.waiting:
            self.start_worker()
        detail = f"the process ended with code {worker.process.exitcode}"
        return worker.job, record_crash(worker.job, self._dataset, self._settings, detail)

    def close(self) -> None:
        """End all processes and remove what they left unfinished."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()
            if worker.job is not None:
                shutil.rmtree(part_path(self._dataset, worker.job), ignore_errors=True)


def run_local(jobs: list[Job], dataset: Path, settings: Settings, workers: int) -> FinishedJobs:
    """Prepare videos in `workers` processes, one video at a time each.

    Raises what a worker raised (OutputError and the like); every process is ended when this generator is.
    """
    pool = _WorkerPool(jobs, dataset, settings)
    try:
        for _ in range(min(workers, len(jobs))):
            pool.start_worker()
        while pool.workers:
            ready = wait([w.pipe for w in pool.workers])
            for worker in [w for w in pool.workers if w.pipe in ready]:
                finished = pool.finish_job(worker)
                if finished is not None:
                    yield finished
    finally:
        pool.close()


def run_ray(jobs: list[Job], dataset: Path, settings: Settings, address: str | None) -> FinishedJobs:
    """Prepare videos on Ray, a task of one CPU for each; all machines must see videos and dataset under the same paths.

    address: of a running cluster ("auto", "host:6379", "ray://host:10001"); None starts Ray on this machine alone.
    Raises ResourceError where Ray is not installed or the cluster does not answer.
    """
    with ray_cluster(address) as ray:
        task = ray.remote(num_cpus=1, max_retries=_TRIES - 1)(process_or_record_crash)
        waiting = list(reversed(jobs))
        running: dict[Any, Job] = {}
        # The scheduler gets two tasks a CPU at a time: a million tasks would fill it.
        limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.pop()
                running[task.remote(job, dataset, settings)] = job
            ready, _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ready[0])
            try:
                rows = ray.get(ready[0])
            except ray.exceptions.RayTaskError as error:
                cause = getattr(error, "cause", None)
                if isinstance(cause, CyberHostError):
                    raise cause from None
                raise OutputError(f"{job.path}: failed on Ray: {cause}") from None
            except ray.exceptions.RayError as error:
                rows = record_crash(job, dataset, settings, str(error).splitlines()[0])
            yield job, rows

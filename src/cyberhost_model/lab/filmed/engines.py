"""Running `process_video` over many videos: in this process, in local processes, or on Ray.

The same function, the same rows.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from cyberhost_model.errors import CyberHostError, OutputError, ResourceError, need
from cyberhost_model.lab.filmed.manifest import Reason, Row
from cyberhost_model.lab.filmed.prepare import Job, blank_row, part_path, process_video, write_record
from cyberhost_model.lab.filmed.settings import Settings

# What is Ray's own about running on Ray.


_PATIENCE = 10.0  # seconds
_TRIES = 2  # a machine that leaves the cluster takes its video with it: it is tried once more elsewhere


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected; left as it was found. Raises ResourceError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about the user's work leaves the machine
    ray = need("ray", "ray")
    mine = not ray.is_initialized()
    if mine:
        check_answers(address)
        try:
            ray.init(
                address=address,
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level="error",
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            words = " ".join(str(error).split())[:200]
            raise ResourceError(
                f"no Ray cluster at {address or 'this machine'} ({words}); check --address, or start one with `ray "
                "start`"
            ) from None
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


def check_answers(address: str | None) -> None:
    """Raises ResourceError at once where nobody listens at host:port: Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
        except (OSError, OverflowError) as error:
            raise ResourceError(
                f"no Ray cluster answers at {address} ({error}); check --address, or start one with `ray start`"
            ) from None


def remote_task(ray: Any) -> Any:
    """The function Ray runs: one CPU, tried again when its machine dies."""

    @ray.remote(num_cpus=1, max_retries=_TRIES - 1)
    def prepare_one(job: Any, dataset: str, settings: Any) -> Any:
        from cyberhost_model.lab.filmed.engines import guarded

        return guarded(job, Path(dataset), settings)

    return prepare_one


# What a local process runs. Kept apart and light, so that the libraries are silent before they are imported.


def serve(pipe: Connection, dataset: Path, settings: Settings) -> None:
    """Take jobs and give their rows back until None comes, or the other end is gone.

    One of our own errors is given back and ends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.filterwarnings("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    from cyberhost_model.lab.filmed.engines import guarded

    with suppress(EOFError, OSError):
        while (job := pipe.recv()) is not None:
            try:
                pipe.send(guarded(job, dataset, settings))
            except CyberHostError as error:
                pipe.send(error)
                return


def _end_with_parent() -> None:
    """A parent that was killed cannot end us; working on would get in the way of the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


Done = Iterator[tuple[Job, list[Row]]]


def crashed(job: Job, dataset: Path, settings: Settings, words: str) -> list[Row]:
    """The row of a video on which a process died or an unforeseen error struck; it is recorded, and tried again by the
    next run.
    """
    rows = [blank_row(job, settings).reject(Reason.CRASHED, " ".join(words.split())[:200])]
    write_record(dataset, job, settings, rows)
    return rows


def guarded(job: Job, dataset: Path, settings: Settings) -> list[Row]:
    """`process_video`, with what nobody foresaw turned into a row: one odd video must not stop the others.

    Our own errors are raised.
    """
    try:
        return process_video(job, dataset, settings)
    except CyberHostError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return crashed(
            job, dataset, settings, f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
        )


def run_here(jobs: list[Job], dataset: Path, settings: Settings) -> Done:
    """One video after the other in this process."""
    for job in jobs:
        yield job, guarded(job, dataset, settings)


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    job: Job | None = None


def run_local(jobs: list[Job], dataset: Path, settings: Settings, workers: int) -> Done:
    """`workers` processes, each with one video at a time.

    A process that dies costs the video it had; another takes its place.

    Raises what a worker raised (OutputError and the like); every process is ended when this generator is.
    """
    context = multiprocessing.get_context("spawn")  # torch's threads and a fork do not go together
    waiting = list(reversed(jobs))
    crew: list[_Worker] = []

    def start() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, dataset, settings), daemon=True)
        process.start()
        theirs.close()
        crew.append(_Worker(process, ours))
        give(crew[-1])

    def give(worker: _Worker) -> None:
        worker.job = waiting.pop() if waiting else None
        with suppress(OSError):  # a worker that has died is seen below
            worker.pipe.send(worker.job)

    try:
        for _ in range(min(workers, len(jobs))):
            start()
        while crew:
            ready = wait([w.pipe for w in crew])
            for worker in [w for w in crew if w.pipe in ready]:
                job = worker.job
                try:
                    answer = worker.pipe.recv()
                except (EOFError, OSError):
                    crew.remove(worker)
                    worker.process.join()
                    if job is not None:
                        shutil.rmtree(part_path(dataset, job), ignore_errors=True)
                        if waiting:
                            start()
                        yield (
                            job,
                            crashed(job, dataset, settings, f"the process ended with code {worker.process.exitcode}"),
                        )
                    continue
                if isinstance(answer, CyberHostError):
                    raise answer
                assert job is not None
                give(worker)
                yield job, answer
    finally:
        for worker in crew:
            worker.process.kill()
        for worker in crew:
            worker.process.join()
            worker.pipe.close()
            if worker.job is not None:
                shutil.rmtree(part_path(dataset, worker.job), ignore_errors=True)


def run_ray(jobs: list[Job], dataset: Path, settings: Settings, address: str | None) -> Done:
    """A Ray task of one CPU for each video; all machines must see the videos and the dataset under the same paths.

    `address`: of a running cluster ("auto", "host:6379", "ray://host:10001"); None starts Ray on this machine alone.
    Raises ResourceError where Ray is not installed or the cluster does not answer.
    """
    from cyberhost_model.lab.filmed.engines import connected, remote_task

    with connected(address) as ray:
        task = remote_task(ray)
        waiting = list(reversed(jobs))
        running: dict[Any, Job] = {}
        limit = 2 * max(
            1, int(ray.cluster_resources().get("CPU", 1))
        )  # the rest stays here: a million tasks would fill the scheduler
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.pop()
                running[task.remote(job, str(dataset), settings)] = job
            ready, _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ready[0])
            try:
                rows = ray.get(ready[0])
            except ray.exceptions.RayTaskError as error:
                cause = getattr(error, "cause", None)
                raise (
                    cause if isinstance(cause, CyberHostError) else OutputError(f"{job.path}: failed on Ray: {cause}")
                ) from None
            except ray.exceptions.RayError as error:
                rows = crashed(job, dataset, settings, str(error).splitlines()[0])
            yield job, rows

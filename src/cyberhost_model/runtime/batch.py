"""Many videos with one loaded model: job after job in this process, or in several that load it once each.

A job that fails is told and does not stop the others; one whose video exists is skipped, so the same call goes on where
an earlier one was stopped.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyberhost_model.config import RuntimeConfig
from cyberhost_model.errors import CyberHostError, InputError, ResourceError, lacks_memory
from cyberhost_model.runtime.batch_jobs import BatchJob

if TYPE_CHECKING:
    from cyberhost_model.runtime.pipeline import Animation, CyberHost, Progress

Watch = Callable[["Animation"], contextlib.AbstractContextManager["Progress | None"]]
"""Called with each animation before its first frame; what it yields is called as progress(frames done, frames)."""


@dataclass(frozen=True)
class BatchResult:
    """What became of a job."""

    place: str
    """Where the job stands in its list."""
    output: str | None
    status: str
    """"done", "skipped" (its video exists) or "failed"."""
    code: int = 0
    """The exit code that its error has as a command of its own; 0 without one."""
    error: str | None = None
    frames: int | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    def values(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


def run_jobs(
    jobs: Sequence[BatchJob],
    runtime: RuntimeConfig,
    *,
    workers: int = 1,
    overwrite: bool = False,
    resume: bool = True,
    watch: Watch | None = None,
    prepare: Callable[[], None] | None = None,
) -> Iterator[BatchResult]:
    """Make the videos of `jobs`; yields what became of each as it is finished.

    workers: processes, each with a model of its own and, where there are several GPUs, a GPU of its own; 1: this
    process. watch: only in this process. prepare: called before the model is loaded, in each process; a function that
    can be pickled. Raises what loading the model does; with several workers that fails every job instead.
    """
    left = []
    for job in jobs:
        if (result := _without_model(job, overwrite)) is None:
            left.append(job)
        else:
            yield result
    if not left:
        return
    if workers > 1 and len(left) > 1:
        yield from _run_in_processes(left, runtime, min(workers, len(left)), overwrite, resume, prepare)
        return
    if prepare is not None:
        prepare()
    host = _load(runtime)
    for job in left:
        yield run_job(host, job, overwrite, resume, watch)


def _load(runtime: RuntimeConfig) -> CyberHost:
    from cyberhost_model.runtime.pipeline import CyberHost

    return CyberHost.from_pretrained(**asdict(runtime))


def _without_model(job: BatchJob, overwrite: bool) -> BatchResult | None:
    """Say what becomes of a job that needs no model: its entry is wrong, or its video exists. None for the others."""
    if job.problem is not None:
        return BatchResult(job.place, None, "failed", InputError.exit_code, job.problem)
    if job.output.is_file() and not overwrite:
        return BatchResult(job.place, str(job.output), "skipped")
    return None


def run_job(
    host: CyberHost, job: BatchJob, overwrite: bool = False, resume: bool = True, watch: Watch | None = None
) -> BatchResult:
    """Make one video, with its state beside it (`runtime.resume`). An error becomes a result, whatever it is."""
    from cyberhost_model.runtime.resume import job_facts

    began = time.monotonic()
    try:
        animation = _begin(host, job, overwrite)
        with contextlib.nullcontext() if watch is None else watch(animation) as progress:
            facts = job_facts(host, job.settings, command=job.command, **job.inputs)
            animation.save(job.output, overwrite, progress, facts=facts, resume=resume)
    except Exception as error:
        return _failure(job, error, time.monotonic() - began)
    seconds = round(time.monotonic() - began, 3)
    warnings = tuple(animation.warnings)
    return BatchResult(
        job.place, str(job.output), "done", frames=animation.n_frames, seconds=seconds, warnings=warnings
    )


def _begin(host: CyberHost, job: BatchJob, overwrite: bool) -> Animation:
    """Check the output, then begin the animation. Raises CyberHostError."""
    from cyberhost_model.media.video_writer import check_output

    job.output.absolute().parent.mkdir(parents=True, exist_ok=True)
    check_output(job.output, overwrite)
    for source in job.inputs.values():
        if isinstance(source, Path) and source.exists() and job.output.exists() and source.samefile(job.output):
            raise InputError(f"{job.output}: is an input itself; give another output")
    picture, given = job.inputs["picture"], dict(job.settings)
    if job.command == "reenact":
        audio = job.inputs.get("audio", "keep")
        return host.reenact(picture, job.inputs["driving"], audio=None if audio == "none" else audio, **given)
    if job.command == "multimodal":
        return host.multimodal(picture, job.inputs["audio"], job.inputs.get("hands"), **given)
    return host.animate(picture, job.inputs["audio"], **given)


def _failure(job: BatchJob, error: Exception, seconds: float) -> BatchResult:
    """Describe an error as the command line does: its exit code and one line."""
    if isinstance(error, CyberHostError):
        code, text = error.exit_code, str(error)
    elif lacks_memory(error):
        code, text = ResourceError.exit_code, "not enough memory; end other programs, or give a smaller size"
    else:
        code, text = CyberHostError.exit_code, f"unexpected {type(error).__name__}: {error}"
    line = " ".join(text.split())[:500]
    return BatchResult(job.place, str(job.output), "failed", code, line, seconds=round(seconds, 3))


@dataclass
class _Worker:
    """A process that makes videos, and the job it has."""

    process: Any
    pipe: Connection
    number: int
    job: BatchJob | None = None


def _run_in_processes(
    jobs: Sequence[BatchJob],
    runtime: RuntimeConfig,
    count: int,
    overwrite: bool,
    resume: bool,
    prepare: Callable[[], None] | None,
) -> Iterator[BatchResult]:
    """Keep `count` processes busy with a job each. A process that dies costs its job; another takes its place."""
    waiting = list(reversed(jobs))
    context = multiprocessing.get_context("spawn")  # a fork breaks torch's threads
    workers: list[_Worker] = []

    def start(number: int) -> None:
        ours, theirs = context.Pipe()
        arguments = (theirs, runtime, number, count, overwrite, resume, prepare)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        workers.append(_Worker(process, ours, number))
        give(workers[-1])

    def give(worker: _Worker) -> None:
        worker.job = waiting.pop() if waiting else None
        with contextlib.suppress(OSError):  # a worker that has died is noticed where its answer is read
            worker.pipe.send(worker.job)

    try:
        for number in range(count):
            start(number)
        while workers:
            ready = wait([worker.pipe for worker in workers])
            for worker in [worker for worker in workers if worker.pipe in ready]:
                job = worker.job
                try:
                    result = worker.pipe.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    worker.process.join()
                    if job is None:
                        continue
                    if waiting:
                        start(worker.number)
                    text = f"its process ended with code {worker.process.exitcode}"
                    yield BatchResult(job.place, str(job.output), "failed", CyberHostError.exit_code, text)
                    continue
                give(worker)
                yield result
    finally:
        for worker in workers:
            worker.process.terminate()  # an exception there, so that ffmpeg is ended too
        for worker in workers:
            worker.process.join(10)
            worker.process.kill()
            worker.pipe.close()


def _work(
    pipe: Connection,
    runtime: RuntimeConfig,
    number: int,
    count: int,
    overwrite: bool,
    resume: bool,
    prepare: Callable[[], None] | None,
) -> None:
    """Load the model once and make the videos of jobs that come through a pipe, until None comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    failed: Exception | None = None
    host: CyberHost | None = None
    try:
        _take_share(number, count)
        if prepare is not None:
            prepare()
        host = _load(runtime)
    except Exception as error:
        failed = error
    with contextlib.suppress(EOFError, OSError):
        while (job := pipe.recv()) is not None:
            pipe.send(_failure(job, failed, 0.0) if host is None and failed else run_job(host, job, overwrite, resume))  # type: ignore[arg-type]


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
        wait([parent.sentinel])
        os._exit(1)

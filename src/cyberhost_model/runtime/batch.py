"""Many videos with one loaded model: job after job in this process, or in several that load it once each.

A job that fails is told and does not stop the others; one whose video exists is skipped, so the same call goes on where
an earlier one was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from cyberhost_model.config import RuntimeConfig
from cyberhost_model.runtime.batch_jobs import BatchJob
from cyberhost_model.runtime.batch_run import BatchResult, Watch, run_job, without_model
from cyberhost_model.runtime.batch_workers import LocalWorkers, RayWorkers, WorkerTask, run_on_workers
from cyberhost_model.runtime.ray_cluster import ray_cluster

if TYPE_CHECKING:
    from cyberhost_model.runtime.pipeline import CyberHost

Engine = Literal["local", "ray"]


def run_jobs(
    jobs: Iterable[BatchJob | None],
    runtime: RuntimeConfig,
    *,
    workers: int = 1,
    engine: Engine = "local",
    address: str | None = None,
    overwrite: bool = False,
    resume: bool = True,
    watch: Watch | None = None,
    prepare: Callable[[], None] | None = None,
) -> Iterator[BatchResult]:
    """Make the videos of `jobs`; yields what became of each as it is finished.

    jobs: None among them means that there is none at the moment (`batch_jobs.watch_folder`). workers: processes, each
    with a model of its own and, where there are several GPUs, a GPU of its own; 1: this process. engine: "ray" has the
    workers on the machines of the cluster at `address`, which must see all files under the same paths. watch: only in
    this process. prepare: called before the model is loaded, in each process; a function that can be pickled. Raises
    what loading the model does, and ResourceError without Ray or its cluster; with several workers a model that cannot
    be loaded fails every job instead.
    """
    task = WorkerTask(runtime, overwrite, resume, prepare)
    if engine == "ray":
        with ray_cluster(address) as ray:
            yield from run_on_workers(jobs, task, RayWorkers(ray, task, workers))
        return
    if workers > 1 and not (isinstance(jobs, Sequence) and len(jobs) < 2):
        yield from run_on_workers(jobs, task, LocalWorkers(task, workers))
        return
    host: CyberHost | None = None
    for job in jobs:
        if job is None:
            continue
        if (result := without_model(job, overwrite)) is not None:
            yield result
            continue
        host = host or task.load()
        yield run_job(host, job, overwrite, resume, watch)

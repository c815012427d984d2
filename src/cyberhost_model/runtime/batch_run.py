"""Making the video of one job of a list, and what became of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def without_model(job: BatchJob, overwrite: bool) -> BatchResult | None:
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
    from cyberhost_model.runtime.named_job import NamedJob

    began = time.monotonic()
    try:
        _check_output(job, overwrite)
        named = NamedJob(job.command, job.inputs, job.settings)
        animation = named.begin(host)
        with contextlib.nullcontext() if watch is None else watch(animation) as progress:
            animation.save(job.output, overwrite, progress, form=job.form, facts=named.facts(host), resume=resume)
    except Exception as error:
        return failure(job, error, time.monotonic() - began)
    seconds = round(time.monotonic() - began, 3)
    warnings = tuple(animation.warnings)
    return BatchResult(
        job.place, str(job.output), "done", frames=animation.n_frames, seconds=seconds, warnings=warnings
    )


def _check_output(job: BatchJob, overwrite: bool) -> None:
    """Check that the video can be written and replaces no input; its folder is made. Raises CyberHostError."""
    from cyberhost_model.media.video_writer import check_output

    job.output.absolute().parent.mkdir(parents=True, exist_ok=True)
    check_output(job.output, overwrite)
    job.form.check(job.output)
    job.form.open_subtitles()
    job.form.open_background()
    for source in (*job.inputs.values(), *job.form.files.values()):
        if isinstance(source, Path) and source.exists() and job.output.exists() and source.samefile(job.output):
            raise InputError(f"{job.output}: is an input itself; give another output")


def failure(job: BatchJob, error: Exception, seconds: float = 0.0) -> BatchResult:
    """Describe an error as the command line does: its exit code and one line."""
    if isinstance(error, CyberHostError):
        code, text = error.exit_code, str(error)
    elif lacks_memory(error):
        code, text = ResourceError.exit_code, "not enough memory; end other programs, or give a smaller size"
    else:
        code, text = CyberHostError.exit_code, f"unexpected {type(error).__name__}: {error}"
    line = " ".join(text.split())[:500]
    return BatchResult(job.place, str(job.output), "failed", code, line, seconds=round(seconds, 3))

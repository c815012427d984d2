"""`cyberhost batch`: many videos with one loaded model."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyberhost_cli.console import Console, Tick
from cyberhost_cli.generate import prepare_imports
from cyberhost_cli.options import expand_options
from cyberhost_cli.terminal import tell
from cyberhost_model.config import RuntimeConfig

if TYPE_CHECKING:
    from cyberhost_model.runtime.pipeline import Animation


@expand_options
def batch(
    jobs: Annotated[
        Path,
        typer.Argument(
            metavar="JOBS",
            help="A .jsonl or .csv list, or a folder of pictures and sounds with the same names (anna.jpg, anna.wav).",
        ),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder of the videos. [default: that of JOBS]"),
    ] = None,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, max=64, help="Processes, each with a model and a GPU of its own.")
    ] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make videos again that exist.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with videos that were stopped in the middle.")
    ] = True,
    runtime: RuntimeConfig,
    console: Console,
) -> None:
    """Make the videos of a list, with one loaded model.

    A job is an object with picture, audio and output, and options of animate by name; command names another command. A
    video that exists is skipped, so the same command goes on after a stop. A job that fails does not stop the others;
    the exit code is then 11. With --json a line for each job, and one with the sums.
    """
    console.silence_libraries()
    from cyberhost_model.errors import BatchError
    from cyberhost_model.runtime.batch import run_jobs
    from cyberhost_model.runtime.batch_jobs import read_jobs

    listed = read_jobs(jobs, output)
    began, counts = time.monotonic(), {"done": 0, "skipped": 0, "failed": 0}

    @contextlib.contextmanager
    def watch(animation: Animation) -> Iterator[Tick]:
        label = f"{sum(counts.values()) + 1} of {len(listed)}"
        with console.progress(label, animation.n_frames, clip=animation.clip) as tick:
            animation.on_step = lambda step, steps: tick(0, None, f"step {step} of {steps}")
            yield tick

    made = run_jobs(
        listed,
        runtime,
        workers=workers,
        overwrite=overwrite,
        resume=resume,
        watch=watch,
        prepare=partial(prepare_imports, runtime),
    )
    for result in made:
        counts[result.status] += 1
        number = f"{sum(counts.values())} of {len(listed)}"
        if result.status == "failed" and not console.as_json:
            tell(f"cyberhost: {number}: {result.place} failed ({result.code}): {result.error}")
        elif result.status == "done":
            for line in result.warnings:
                console.warn(f"{result.output}: {line}")
            console.note(f"{number}: {result.output}: {result.frames} frames in {result.seconds:.1f} s")
        else:
            console.note(f"{number}: {result.output}: exists, skipped")
        console.data(result.values())
    seconds = time.monotonic() - began
    words = f"{counts['done']} made, {counts['skipped']} skipped, {counts['failed']} failed"
    console.data({**counts, "jobs": len(listed), "seconds": round(seconds, 3)})
    if counts["failed"]:
        raise BatchError(f"{words}; mend what failed and give the same command again")
    console.note(f"{words} in {seconds:.1f} s")

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
from cyberhost_cli.options import check_choice, expand_options
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
    engine: Annotated[
        str, typer.Option(metavar="local|ray", help="Where the workers are: on this machine or on a Ray cluster.")
    ] = "local",
    address: Annotated[str | None, typer.Option(help="Ray cluster. [default: this machine]")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="JOBS is a folder: go on with new pairs in it, until Ctrl-C.")
    ] = False,
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
    check_choice("--engine", engine, "local", "ray")
    if address is not None and engine != "ray":
        raise typer.BadParameter("--address goes with --engine ray")
    if watch and not jobs.is_dir():
        raise typer.BadParameter(f"--watch goes with a folder, which {jobs} is not")
    from cyberhost_model.errors import BatchError
    from cyberhost_model.runtime.batch import run_jobs
    from cyberhost_model.runtime.batch_jobs import read_jobs, watch_folder

    listed = [] if watch else read_jobs(jobs, output)
    of = "" if watch else f" of {len(listed)}"
    began, counts = time.monotonic(), {"done": 0, "skipped": 0, "failed": 0}

    @contextlib.contextmanager
    def show(animation: Animation) -> Iterator[Tick]:
        label = f"{sum(counts.values()) + 1}{of}"
        with console.progress(label, animation.n_frames, clip=animation.clip) as tick:
            animation.on_step = lambda step, steps: tick(0, None, f"step {step} of {steps}")
            yield tick

    made = run_jobs(
        watch_folder(jobs, output) if watch else listed,
        runtime,
        workers=workers,
        engine=engine,  # type: ignore[arg-type]
        address=address,
        overwrite=overwrite,
        resume=resume,
        watch=show,
        prepare=partial(prepare_imports, runtime),
    )
    for result in made:
        counts[result.status] += 1
        number = f"{sum(counts.values())}{of}"
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

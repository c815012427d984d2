"""`cyberhost train`: one stage of training, from a recipe; running it again goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cyberhost_cli.output import Sink


def train(
    stage: Annotated[str, typer.Option(metavar="NAME", help="codec, audio, detector, 1 or 2.")],
    run: Annotated[Path, typer.Option("--run", "-o", metavar="RUN", help="Folder of the run; an earlier one goes on.")],
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Coded clips, for stages 1 and 2.")] = None,
    stills: Annotated[list[str] | None, typer.Option(metavar="DIR", help="Labelled pictures; may be repeated.")] = None,
    speech: Annotated[str | None, typer.Option(metavar="DIR", help="16 kHz speech, for stage audio.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Recipe. [default: the embedded model's]")] = None,
    init: Annotated[str | None, typer.Option(metavar="RUN", help="Start from this run's weights.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps. [default: the recipe's]")] = None,
    minutes: Annotated[float, typer.Option(min=0, help="Stop after so long, with a checkpoint; 0 = never.")] = 0.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object about the run on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Train one part of a model.

    Losses go to RUN/curves.csv, checkpoints to RUN/last. The same command goes on where a stopped run was.
    """
    sink = Sink(quiet=quiet, as_json=as_json, debug=debug)
    sink.hush_libraries()
    from cyberhost_model.training.loop import train as run_loop
    from cyberhost_model.training.recipes import Sources, build_stage, read_recipe

    loop, settings = read_recipe(config, stage)
    loop.steps, loop.minutes, loop.threads, loop.device = steps or loop.steps, minutes, threads, device
    sources = Sources(stills or [], speech, str(data) if data else None)
    built = build_stage(stage, sources, settings, init, loop.seed)
    last: dict[str, float] = {}
    with sink.progress(f"stage {stage}", loop.steps, unit="steps") as tick:

        def step(done: int, total: int, losses: dict[str, float]) -> None:
            last.update(losses)
            tick(done, total)

        folder = run_loop(built, run, loop, step)
    sink.note(f"{folder}: stage {stage}, " + ", ".join(f"{k} {v:.4g}" for k, v in last.items()))
    sink.data({"run": str(run), "stage": stage, "checkpoint": str(folder), "losses": last})

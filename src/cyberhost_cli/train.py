"""`cyberhost train`: one stage of training, from a recipe; running it again goes on."""

from __future__ import annotations

import dataclasses
import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from cyberhost_cli.groups import RUN, RunByDefault
from cyberhost_cli.options import given
from cyberhost_cli.output import Sink
from cyberhost_cli.train_ablate import ablate
from cyberhost_cli.train_report import dry_run_lines, speed_words


class Precision(str, Enum):
    """Numbers the network computes with."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Parallel(str, Enum):
    """What several processes share."""

    ddp = "ddp"
    fsdp = "fsdp"


class Optimizer(str, Enum):
    """Kinds of AdamW."""

    adamw = "adamw"
    fused = "adamw-fused"
    eight_bit = "adamw8bit"


class Report(str, Enum):
    """Where curves go beside curves.csv."""

    tensorboard = "tensorboard"
    wandb = "wandb"


app = typer.Typer(cls=RunByDefault, no_args_is_help=True, rich_markup_mode=None,
                  epilog="`cyberhost train --stage ...` is short for `cyberhost train run --stage ...`.")  # fmt: skip


@app.command(RUN)
def train(
    stage: Annotated[str, typer.Option(metavar="NAME", help="codec, audio, detector, lips, 1, pose, 2 or distill.")],
    run: Annotated[
        Path | None, typer.Option("--run", "-o", metavar="RUN", help="Folder of the run; an earlier one goes on.")
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Coded clips, for stages 1, pose, 2 and distill.")] = None,
    stills: Annotated[list[str] | None, typer.Option(metavar="DIR", help="Labelled pictures; may be repeated.")] = None,
    speech: Annotated[str | None, typer.Option(metavar="DIR", help="16 kHz speech, for stage audio.")] = None,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="Recipe: a file, 'tiny' or 'sd15'. [default: the preset's, or tiny]")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Size of the network: tiny or sd15. [default: the recipe's]")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="FROM", help="Start from these weights: 'tiny', a run, a model or a safetensors file."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps. [default: the recipe's]")] = None,
    minutes: Annotated[float, typer.Option(min=0, help="Stop after so long, with a checkpoint; 0 = never.")] = 0.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that make batches.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    precision: Annotated[Precision | None, typer.Option(help="Numbers to compute with.")] = None,
    parallel: Annotated[
        Parallel | None, typer.Option(help="With torchrun or accelerate launch: a model each, or one in shards.")
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None, typer.Option("--gradient-checkpointing/--no-gradient-checkpointing", help="Time for memory.")
    ] = None,
    optimizer: Annotated[Optimizer | None, typer.Option(help="Kind of AdamW.")] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Batches a process takes for one step.")] = None,
    ema_device: Annotated[
        str | None, typer.Option(metavar="cpu", help="Hold the averaged weights in the CPU's memory.")
    ] = None,
    save_minutes: Annotated[float | None, typer.Option(min=0, help="Minutes between checkpoints.")] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Checkpoints that stay.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same batches and noise.")] = None,
    sample: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="REF AUDIO", help="Make sample videos of these in RUN/samples.")
    ] = None,
    sample_every: Annotated[int | None, typer.Option(min=1, help="Steps between sample videos.")] = None,
    report: Annotated[list[Report] | None, typer.Option(help="Curves beside curves.csv; may be repeated.")] = None,
    peak_tflops: Annotated[
        float | None, typer.Option(min=0, help="The device's peak, for MFU. [default: known for common GPUs]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell parameters, memory and time; train nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object about the run on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Train one part of a model.

    Losses go to RUN/curves.csv, checkpoints to RUN/last. The same command goes on where a stopped run was.

    On several GPUs: torchrun --nproc-per-node N -m cyberhost_cli train ... (or accelerate launch).
    """
    first = os.environ.get("RANK", "0") == "0"
    sink = Sink(quiet=quiet or not first, as_json=as_json and first, debug=debug)
    sink.hush_libraries()
    if not debug:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns where a batch happens to use every parameter
    if run is None and not dry_run:
        raise typer.BadParameter("say where the run is kept", param_hint="'--run' / '-o'")
    if sample_every and not sample:
        raise typer.BadParameter("say what it is made of: --sample REF AUDIO", param_hint="'--sample-every'")
    from cyberhost_model.lab.training.recipe import Sources, build_stage, read_recipe

    loop, settings = read_recipe(config or preset, stage)
    if preset and stage in ("1", "2", "distill"):
        settings["preset"] = preset
    options: dict[str, Any] = {
        "steps": steps,
        "workers": workers,
        "precision": precision and precision.value,
        "parallel": parallel and parallel.value,
        "gradient_checkpointing": gradient_checkpointing,
        "optimizer": optimizer and optimizer.value,
        "accumulate": accumulate,
        "ema_device": ema_device,
        "save_seconds": None if save_minutes is None else 60 * save_minutes,
        "keep": keep,
        "seed": seed,
        "sample_every": sample_every,
        "report": [kind.value for kind in report] if report else None,
        "peak_tflops": peak_tflops,
    }
    changed = {name: value for name, value in options.items() if value is not None}
    loop = dataclasses.replace(loop, minutes=minutes, threads=threads, device=device, **changed)
    if sample and not loop.sample_every:
        raise typer.BadParameter("say how often: --sample-every N", param_hint="'--sample'")
    sources = Sources(stills or [], speech, str(data) if data else None)
    if dry_run:
        from cyberhost_model.lab.training.dry_run import dry_run as foresee

        found = foresee(stage, sources, loop, settings, init)
        for line in dry_run_lines(found):
            sink.note(line)
        sink.data(found)
        return
    assert run is not None
    from cyberhost_model.lab.training.checkpoint import hold
    from cyberhost_model.lab.training.loop import train as run_loop
    from cyberhost_model.lab.training.process import join_world, leave_world
    from cyberhost_model.lab.training.reports import NAMES

    last: dict[str, float] = {}
    with hold(run, join_world(device)):  # before anything is read: a folder in use is told at once
        built = build_stage(stage, sources, settings, init, loop.seed, sink.note, run)
        sampler = None
        if sample:
            from cyberhost_model.lab.training.samples import SampleVideos

            sampler = SampleVideos(run, built.module, *sample, loop.sample_model, device)
        with sink.progress(f"stage {stage}", loop.steps, unit="steps") as tick:

            def step(done: int, total: int, values: dict[str, float]) -> None:
                last.update(values)
                tick(done, total, speed_words(values))

            folder = run_loop(built, run, loop, step, sampler)
    leave_world()
    losses = {name: value for name, value in last.items() if name not in (*NAMES, "lr", "grad_norm")}
    speed = {name: last[name] for name in NAMES if name in last}
    sink.note(f"{folder}: stage {stage}, " + ", ".join(f"{k} {v:.4g}" for k, v in losses.items()))
    if speed:
        sink.note(speed_words(last))
    sink.data({"run": str(run), "stage": stage, "checkpoint": str(folder), "losses": losses, "speed": speed})


DISTILL = """Teach a trained network to make a clip in few steps (consistency distillation).

    --init is the teacher, a run of stage 2 or a model; `weights assemble` makes a model of the run. Short for --stage distill.
    """
app.command("distill")(given(train, DISTILL, stage="distill", stills=None, speech=None))
app.command()(ablate)

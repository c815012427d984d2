"""`cyberhost train`: one stage of training, from a recipe; running it again goes on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.options import RUN, RunByDefault, expand_options, given

# What `cyberhost train` says in words: its speed, and what a dry run found.


GIB = 2**30


def speed_words(values: dict[str, float]) -> str:
    """ "3.1 samples/s, 0.4 TFLOP/s, MFU 41%, 2% waiting for data", as far as it is known."""
    said = []
    if "samples_s" in values:
        said.append(f"{values['samples_s']:.3g} samples/s")
    if "tflops" in values:
        said.append(f"{values['tflops']:.3g} TFLOP/s")
    if "mfu" in values:
        said.append(f"MFU {values['mfu']:.0%}")
    if "data_share" in values:
        said.append(f"{values['data_share']:.0%} waiting for data")
    return ", ".join(said)


def dry_run_lines(found: dict[str, Any]) -> Iterator[str]:
    """The dictionary of `dry_run` as a table."""
    rows = [*found["modules"], {"name": "all", "parameters": found["parameters"], "trained": found["trained"]}]
    width = max(len(row["name"]) for row in rows)
    yield f"{'part':<{width}}  parameters     trained"
    for row in rows:
        yield f"{row['name']:<{width}}  {row['parameters']:>11,}  {row['trained']:>11,}"
    many = next(key for key in found if key.startswith("memory_fsdp_"))
    kind = ", gradient checkpointing" if found["gradient_checkpointing"] else ""
    yield f"memory, GiB a device ({found['precision']}, {found['optimizer']}{kind}):"
    yield f"  {'':<12} one process  fsdp on {many.removeprefix('memory_fsdp_')}"
    for name in found["memory"]:
        yield f"  {name:<12} {_gib(found['memory'][name])}  {_gib(found[many][name])}"
    yield f"  weights, gradients, optimizer and average are exact, activations {found['activations_are']}"
    yield (
        f"{found['flops_per_batch'] / 1e12:.4g} TFLOP a batch, {found['steps']:,} steps, {found['samples']:,} "
        "samples a process"
    )
    if found["hours"] is None:
        yield f"hours: unknown ({found['hours_unknown_because']})"
    else:
        yield f"hours: {found['hours']:.3g} at {found['seconds_per_step']:.3g} s a step, timed here"


def _gib(value: float | None) -> str:
    return f"{'unknown':>11}" if value is None else f"{value / GIB:>11.2f}"


# `cyberhost train ablate`: the rows of the paper's Table 1 at the size at hand.


@expand_options
def ablate(
    data: Annotated[Path, typer.Option(metavar="CLIPS", help="Coded clips (data encode).")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all rows; an earlier one goes on.")
    ],
    budget: Annotated[
        str, typer.Option(metavar="STEPS|MINUTES", help="200: steps a row; 20m: minutes of training for all rows.")
    ],
    *,
    rows: Annotated[
        str,
        typer.Option(metavar="all|NAME,...", help="Rows of Table 1, with commas between; the full model comes along."),
    ] = "all",
    init: Annotated[
        str | None,
        typer.Option(metavar="FROM", help="Base of all rows: 'tiny', a run, a model. [default: from scratch]"),
    ] = None,
    stage: Annotated[str, typer.Option(metavar="1|2", help="Stage that is trained.")] = "2",
    config: Annotated[str | None, typer.Option(metavar="FILE", help="Recipe. [default: tiny]")] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--held-out",
            metavar="DATASET",
            help="Measure on its held-out clips. [default: drawn people with voices of CLIPS]",
        ),
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips to measure on.")] = 4,
    frames: Annotated[int, typer.Option(min=16, help="Frames of a drawn clip, at 25 a second.")] = 50,
    networks: Annotated[
        str, typer.Option(metavar="public|embedded", help="Networks of CSIM, AKD, HKC, HKV.")
    ] = "embedded",
    weights_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with the metrics' weights, looked into first.")
    ] = None,
    download: Annotated[bool, typer.Option(help="Fetch weights that are not on this machine.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same batches, noise and videos.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that make batches. [default: the recipe's]")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    sink: Console,
) -> None:
    """Train the rows of the paper's Table 1 from one base with equal steps and seeds, and measure them.

    Writes DIR/table.md and table.csv, the paper's figures beside ours; each row's run, videos and report are in its
    folder. The same command goes on where a stopped one was; further --rows join those that are there.
    """
    sink.silence_libraries()
    from cyberhost_model.errors import InputError
    from cyberhost_model.lab.training.ablation import Budget, parse_rows

    if networks not in ("public", "embedded"):
        raise typer.BadParameter(f"--networks must be public or embedded, not {networks!r}")
    if stage not in ("1", "2"):
        raise typer.BadParameter(f"--stage must be 1 or 2, not {stage!r}")
    try:
        names, wanted = parse_rows(rows), Budget.parse(budget)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    from cyberhost_model.lab.training.ablation import Plan, ablate

    plan = Plan(str(data), stage, config or "", init or "", wanted, seed, str(held_out or ""), clips, frames, networks)  # type: ignore[arg-type]
    with sink.progress("ablations", None, unit="steps") as tick:
        done = ablate(
            plan,
            names,
            output,
            device=device,
            threads=threads,
            workers=workers,
            weights_dir=weights_dir,
            download=download,
            progress=tick,
        )
    if not sink.as_json and not sink.quiet:
        print(done.table.read_text(encoding="utf-8"), end="")
    sink.note(f"{done.table}: {len(names)} rows of {done.steps} steps")
    sink.data(
        {
            "output": str(output),
            "steps": done.steps,
            "table": str(done.table),
            "csv": str(done.csv),
            "rows": done.values,
        }
    )


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


app = typer.Typer(
    cls=RunByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="`cyberhost train --stage ...` is short for `cyberhost train run --stage ...`.",
)


@app.command(RUN)
def train(
    stage: Annotated[str, typer.Option(metavar="NAME", help="codec, audio, detector, lips, 1, pose, 2 or distill.")],
    run: Annotated[
        Path | None, typer.Option("--run", "-o", metavar="RUN", help="Folder of the run; an earlier one goes on.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Coded clips, for stages 1, pose, 2 and distill.")
    ] = None,
    stills: Annotated[list[str] | None, typer.Option(metavar="DIR", help="Labelled pictures; may be repeated.")] = None,
    speech: Annotated[str | None, typer.Option(metavar="DIR", help="16 kHz speech, for stage audio.")] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Recipe: a file, 'tiny' or 'sd15'. [default: the preset's, or tiny]"),
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell parameters, memory and time; train nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object about the run on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Train one part of a model.

    Losses go to RUN/curves.csv, checkpoints to RUN/last. The same command goes on where a stopped run was.

    On several GPUs: torchrun --nproc-per-node N -m cyberhost_cli train ... (or accelerate launch).
    """
    first = os.environ.get("RANK", "0") == "0"
    sink = Console(quiet=quiet or not first, as_json=as_json and first, debug=debug)
    sink.silence_libraries()
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
    from cyberhost_model.lab.training.checkpoint import lock_run
    from cyberhost_model.lab.training.loop import train as run_loop
    from cyberhost_model.lab.training.process import join_processes, leave_processes
    from cyberhost_model.lab.training.reports import SPEED_NAMES

    last: dict[str, float] = {}
    with lock_run(run, join_processes(device)):  # before anything is read: a folder in use is told at once
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
    leave_processes()
    losses = {name: value for name, value in last.items() if name not in (*SPEED_NAMES, "lr", "grad_norm")}
    speed = {name: last[name] for name in SPEED_NAMES if name in last}
    sink.note(f"{folder}: stage {stage}, " + ", ".join(f"{k} {v:.4g}" for k, v in losses.items()))
    if speed:
        sink.note(speed_words(last))
    sink.data({"run": str(run), "stage": stage, "checkpoint": str(folder), "losses": losses, "speed": speed})


DISTILL = """Teach a trained network to make a clip in few steps (consistency distillation).

    --init is the teacher, a run of stage 2 or a model; `weights assemble` makes a model of the run.
    Short for --stage distill.
    """
app.command("distill")(given(train, DISTILL, stage="distill", stills=None, speech=None))
app.command()(ablate)

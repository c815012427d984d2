"""`cyberhost train`: one stage of training, from a recipe; running it again continues the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.options import (
    RUN,
    Changes,
    RunByDefault,
    bind_options,
    check_choice,
    expand_options,
    input_errors_as_usage,
    leave_out,
)
from cyberhost_model.config import parse_device
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.options import SEEDS, option

if TYPE_CHECKING:
    from cyberhost_model.lab.training.recipe import Sources

GIB = 2**30
SET = "Another value for a setting of the recipe, such as 2.drop_audio=0.2; may be repeated."

app = typer.Typer(
    cls=RunByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="`cyberhost train --stage ...` is short for `cyberhost train run --stage ...`.",
)


@dataclass(frozen=True)
class StageOptions:
    """What is trained, on which material, and where the run is kept."""

    run: Path | None = option(None, "Folder of the run; an earlier one is continued.", "--run", "-o", metavar="RUN")
    data: list[str] | None = option(
        None,
        "Coded clips, for stages hear, 1, pose, 2, distill and person; may be repeated, with shares.",
        metavar="DIR[:SHARE]",
    )
    stills: list[str] | None = option(None, "Labelled pictures; may be repeated.", metavar="DIR")
    speech: list[str] | None = option(None, "16 kHz speech, for stage audio; may be repeated.", metavar="DIR")
    filmed: list[str] | None = option(
        None, "Filmed people (data prepare), for stages codec, audio, detector, lips; may be repeated.", metavar="DIR"
    )
    labels: list[str] | None = option(None, "Phonemes and lips of both; may be repeated.", metavar="DIR")
    config: str | None = option(
        None, "Recipe: a file, 'tiny' or 'sd15'. [default: the preset's, or tiny]", metavar="FILE"
    )
    preset: str | None = option(None, "Size of the network: tiny or sd15. [default: the recipe's]", metavar="NAME")
    settings: list[str] | None = option(None, SET, "--set", metavar="SECTION.NAME=VALUE")
    batch: int | None = option(None, "Clips of a batch. [default: the recipe's]", min=1, max=100_000)
    init: str | None = option(
        None, "Start from these weights: 'tiny', a run, a model or a safetensors file.", metavar="FROM"
    )

    @property
    def sources(self) -> Sources:
        """Gather the folders of training material."""
        from cyberhost_model.lab.training.recipe import Sources

        return Sources(
            stills=self.stills or [],
            speech=self.speech or [],
            clips=list(self.data) if self.data else None,
            filmed=self.filmed or [],
            labels=self.labels or [],
        )

    def recipe(self, stage: str) -> tuple[LoopConfig, dict[str, Any]]:
        """Read the loop's settings and the stage's. Raises BadParameter, InputError, TrainingError."""
        from cyberhost_model.lab.training.recipe import change_recipe, read_recipe

        changes = list(self.settings or [])
        if self.batch is not None:
            changes.append(f"{stage}.batch={self.batch}")
        with input_errors_as_usage():
            change_recipe({}, changes)
        loop, settings = read_recipe(self.config or self.preset, stage, changes)
        if self.preset and stage in ("1", "2", "distill"):
            settings["preset"] = self.preset
        return loop, settings


@app.command(RUN)
@expand_options
def train(
    stage: Annotated[
        str, typer.Option(metavar="NAME", help="codec, audio, detector, lips, hear, 1, pose, 2, distill or person.")
    ],
    options: StageOptions,
    changes: Changes[LoopConfig],
    *,
    sample: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="REF AUDIO", help="Make sample videos of these in RUN/samples.")
    ] = None,
    validate: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Coded clips of held-out people, measured by region (stages 1 and 2)."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count parameters, memory and time; train nothing.")
    ] = False,
    console: Console,
) -> None:
    """Train one part of a model.

    Losses go to RUN/curves.csv, checkpoints to RUN/last. The same command continues a run that was stopped.

    On several GPUs: torchrun --nproc-per-node N -m cyberhost_cli train ... (or accelerate launch).
    """
    console = console.for_this_process()
    console.silence_libraries()
    if options.run is None and not dry_run:
        raise typer.BadParameter("name the folder of the run", param_hint="'--run' / '-o'")
    if changes.values.get("sample_every") and not sample:
        raise typer.BadParameter("name a picture and a sound: --sample REF AUDIO", param_hint="'--sample-every'")
    if changes.values.get("validate_every") and not validate:
        raise typer.BadParameter("name the held-out clips: --validate DIR", param_hint="'--validate-every'")
    recipe, settings = options.recipe(stage)
    loop = changes.apply(recipe)
    if validate and not loop.validate_every:
        raise typer.BadParameter("give the steps between: --validate-every N", param_hint="'--validate'")
    if sample and not loop.sample_every:
        raise typer.BadParameter("give the steps between the videos: --sample-every N", param_hint="'--sample'")
    if dry_run:
        from cyberhost_model.lab.training.dry_run import dry_run as estimate

        found = estimate(stage, options.sources, loop, settings, options.init)
        for line in dry_run_lines(found):
            console.note(line)
        console.data(found)
        return
    train_stage(stage, options, loop, settings, sample, validate, console)


def train_stage(
    stage: str,
    options: StageOptions,
    loop: LoopConfig,
    settings: dict[str, Any],
    sample: tuple[Path, Path] | None,
    validate: Path | None,
    console: Console,
) -> None:
    """Run the loop with a bar, and print the last losses and the speed. Raises TrainingError and what loading does."""
    from cyberhost_model.lab.training.checkpoint import lock_run
    from cyberhost_model.lab.training.loop import train as run_loop
    from cyberhost_model.lab.training.losses import SHARE
    from cyberhost_model.lab.training.process import join_processes, leave_processes
    from cyberhost_model.lab.training.recipe import build_stage, find_recipe
    from cyberhost_model.lab.training.record import origin_of
    from cyberhost_model.lab.training.reports import SPEED_NAMES

    run = options.run
    assert run is not None
    last: dict[str, float] = {}
    with lock_run(run, join_processes(loop.device)):  # first: a folder in use ends the command at once
        built = build_stage(stage, options.sources, settings, options.init, loop.seed, console.note, run)
        begins = not (run / "last").exists()  # later, what it began with may be gone
        origin = origin_of(find_recipe(options.config or options.preset), options.init) if begins else None
        sampler = None
        if sample:
            from cyberhost_model.lab.training.samples import SampleVideos

            sampler = SampleVideos(run, built.module, *sample, loop.sample_model, loop.device)
        with console.progress(f"stage {stage}", loop.steps, unit="steps") as tick:

            def step(done: int, total: int, values: dict[str, float]) -> None:
                last.update(values)
                tick(done, total, speed_words(values))

            validation = None
            if validate:
                from cyberhost_model.lab.training.validation import Validation

                validation = Validation(validate)
            folder = run_loop(built, run, loop, step, sampler, validation, origin)
    leave_processes()
    losses = {
        name: value
        for name, value in last.items()
        if name not in (*SPEED_NAMES, "lr", "grad_norm") and not name.startswith(SHARE)
    }
    speed = {name: last[name] for name in SPEED_NAMES if name in last}
    console.note(f"{folder}: stage {stage}, " + ", ".join(f"{k} {v:.4g}" for k, v in losses.items()))
    if speed:
        console.note(speed_words(last))
    console.data({"run": str(run), "stage": stage, "checkpoint": str(folder), "losses": losses, "speed": speed})


DISTILL = """Teach a trained network to make a clip in few steps.

    --init is the teacher, a run of stage 2 or a model; `weights assemble` makes a model of the run.
    Short for --stage distill.
    """
app.command("distill")(
    bind_options(train, DISTILL, stage="distill", stills=None, speech=None, filmed=None, labels=None)
)


@dataclass(frozen=True)
class MaterialOptions:
    """Material of a whole model."""

    stills: list[str] = option([], "Labelled pictures; may be repeated.", metavar="DIR")
    speech: list[str] = option([], "16 kHz speech; may be repeated.", metavar="DIR")
    filmed: list[str] = option([], "Filmed people who speak (data prepare); may be repeated.", metavar="DIR")
    labels: list[str] = option([], "Phonemes and lips of both; may be repeated.", metavar="DIR")
    gestures: str | None = option(None, "Recorded gestures (.npz); optional.", metavar="DIR")


@app.command("recipe")
@leave_out("sample_every", "validate_every")
@expand_options
def train_recipe(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="'tiny', or a recipe's file.")],
    material: MaterialOptions,
    changes: Changes[LoopConfig],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all runs; an earlier one is continued.")
    ],
    *,
    clips: Annotated[
        int | None, typer.Option(min=1, max=10_000_000, help="Clips to make. [default: the recipe's]")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.NAME=VALUE", help=SET)] = None,
    console: Console,
) -> None:
    """Train a whole model: every stage in its order, from nothing.

    DIR/model is the model, for `animate --model`. The same command continues one that was stopped.
    """
    console.silence_libraries()
    import dataclasses

    from cyberhost_model.lab.training.recipe import change_recipe
    from cyberhost_model.lab.training.whole import Material, train_whole

    with input_errors_as_usage():
        change_recipe({}, settings or [])
    with console.progress(f"recipe {recipe}", None, unit="steps") as tick:
        model = train_whole(
            recipe,
            Material(**dataclasses.asdict(material)),
            output,
            changes.apply,
            clips=clips,
            settings=settings or [],
            progress=lambda step, done, of, values: tick(done, of, f"{step}: {speed_words(values)}"),
            notify=console.note,
        )
    console.note(f"{model}: a model, for --model {model}")
    console.data({"output": str(output), "model": str(model)})


@app.command("person")
@leave_out("sample_every")
@expand_options
def train_person(
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO...", help="Videos of one person who speaks, or folders of them.")
    ],
    changes: Changes[LoopConfig],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all steps; an earlier one is continued.")
    ],
    *,
    base: Annotated[str, typer.Option(metavar="MODEL", help="Model that learns the person.")] = "tiny",
    crop: Annotated[str, typer.Option(metavar="body|head", help="Head to hands, or the head alone.")] = "body",
    detector: Annotated[str, typer.Option(help="Key point detector.")] = "embedded",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.NAME=VALUE", help=SET)] = None,
    console: Console,
) -> None:
    """Teach a model one person, from videos of them.

    DIR/model is a model like any other, for `animate --model`. A fifth of the clips is held out, and the error on them
    is printed before and after. The same command continues one that was stopped.
    """
    console.silence_libraries()
    from cyberhost_model.lab.filmed.detectors import DETECTORS
    from cyberhost_model.lab.filmed.settings import CROPS
    from cyberhost_model.lab.training.person import train_person as teach
    from cyberhost_model.lab.training.recipe import change_recipe

    check_choice("--crop", crop, *CROPS)
    check_choice("--detector", detector, *DETECTORS)
    with input_errors_as_usage():
        change_recipe({}, settings or [])
    with console.progress("person", None, unit="steps") as tick:
        taught = teach(
            videos,
            base,
            output,
            changes.apply,
            crop=crop,
            detector=detector,
            settings=settings or [],
            progress=lambda step, done, of, values: tick(done, of, f"{step}: {speed_words(values)}"),
            notify=console.warn,
        )
    console.note(f"taught by {taught.trained} clips; error on {taught.held_out} clips that were held out:")
    for region, (before, after) in taught.regions().items():
        console.note(f"  {region:<5}  {before:.4g} before, {after:.4g} after ({after / before - 1:+.1%})")
    if not taught.learnt:
        console.warn("it did not learn: the error on held-out clips is no smaller; more film helps, or fewer steps")
    console.note(f"{taught.model}: a model, for --model {taught.model}")
    console.data(
        {
            "output": str(output),
            "model": str(taught.model),
            "clips": taught.trained,
            "held_out": taught.held_out,
            "before": taught.before,
            "after": taught.after,
        }
    )


@app.command()
@expand_options
def ablate(
    data: Annotated[Path, typer.Option(metavar="CLIPS", help="Coded clips (data encode).")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all rows; an earlier one is continued.")
    ],
    budget: Annotated[
        str, typer.Option(metavar="STEPS|MINUTES", help="200: steps a row; 20m: minutes of training for all rows.")
    ],
    *,
    rows: Annotated[
        str,
        typer.Option(
            metavar="all|NAME,...", help="Rows of Table 1, with commas between; the full model is always among them."
        ),
    ] = "all",
    init: Annotated[
        str | None,
        typer.Option(metavar="FROM", help="Base of all rows: 'tiny', a run, a model. [default: from scratch]"),
    ] = None,
    stage: Annotated[str, typer.Option(metavar="1|2", help="Stage that is trained.")] = "2",
    config: Annotated[str | None, typer.Option(metavar="FILE", help="Recipe. [default: tiny]")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.NAME=VALUE", help=SET)] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--held-out",
            metavar="DATASET",
            help="Measure on its held-out clips. [default: drawn people with voices of CLIPS]",
        ),
    ] = None,
    clips: Annotated[int, typer.Option(min=1, max=10_000, help="Clips to measure on.")] = 4,
    videos: Annotated[
        int | None,
        typer.Option(min=0, max=10_000, help="Clips of which videos are made; 0 for none. [default: all]"),
    ] = None,
    levels: Annotated[
        int, typer.Option(min=1, max=5, help="Noise levels each clip is measured at, of five in turn.")
    ] = 5,
    frames: Annotated[int, typer.Option(min=16, max=10_000, help="Frames of a drawn clip, at 25 a second.")] = 50,
    networks: Annotated[
        str, typer.Option(metavar="public|embedded", help="Networks of CSIM, AKD, HKC, HKV.")
    ] = "embedded",
    weights_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with the metrics' weights, searched first.")
    ] = None,
    download: Annotated[bool, typer.Option(help="Fetch weights that are not on this machine.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=SEEDS, help="Same seed, same batches, noise and videos.")] = 0,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Trainings of each row, with SEED and those after it.")
    ] = 1,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads.")] = 1,
    workers: Annotated[
        int | None, typer.Option(min=0, max=1024, help="Processes that make batches. [default: the recipe's]")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    console: Console,
) -> None:
    """Train the rows of the paper's Table 1 from one base with equal steps and seeds, and measure them.

    First by the error of their predictions on held-out clips, whole and of face, hands and lips, then by their videos.
    Writes DIR/table.md, table.tex, errors.csv and table.csv; each row's run, errors, videos and report are in its
    folder. The same command continues one that was stopped; further --rows and --seeds are added. Rows that start
    from trained weights (--init) are measured before the first step, too.
    """
    console.silence_libraries()
    from cyberhost_model.lab.evaluation.report.region_errors import error_values
    from cyberhost_model.lab.training.ablation import Budget, Plan, ablate, parse_rows
    from cyberhost_model.lab.training.recipe import change_recipe

    check_choice("--networks", networks, "public", "embedded")
    check_choice("--stage", stage, "1", "2")
    with input_errors_as_usage():
        parse_device(device)
        names, wanted = parse_rows(rows), Budget.parse(budget)
        change_recipe({}, settings or [])

    kind: Literal["public", "embedded"] = "public" if networks == "public" else "embedded"
    held = str(held_out or "")
    plan = Plan(
        str(data),
        stage,
        config or "",
        init or "",
        wanted,
        seed,
        held,
        clips,
        frames,
        kind,
        settings=settings or [],
        videos=videos,
        levels=levels,
    )
    with console.progress("ablations", None, unit="steps") as tick:
        done = ablate(
            plan,
            names,
            output,
            seeds=seeds,
            device=device,
            threads=threads,
            workers=workers,
            weights_dir=weights_dir,
            download=download,
            progress=tick,
        )
    console.text(done.table.read_text(encoding="utf-8").splitlines())
    console.note(f"{done.table}: {len(names)} rows of {done.steps} steps")
    console.data(
        {
            "output": str(output),
            "steps": done.steps,
            "table": str(done.table),
            "csv": str(done.csv) if done.csv else None,
            "latex": str(done.latex),
            "errors_csv": str(done.errors_csv),
            "errors": error_values(done.changes),
            "before": error_values(done.before),
            "rows": done.values,
        }
    )


def speed_words(values: dict[str, float]) -> str:
    """Write the speed of a run as "3.1 samples/s, 0.4 TFLOP/s, MFU 41%, 2% waiting for data", as far as it is known."""
    parts = []
    if "samples_s" in values:
        parts.append(f"{values['samples_s']:.3g} samples/s")
    if "tflops" in values:
        parts.append(f"{values['tflops']:.3g} TFLOP/s")
    if "mfu" in values:
        parts.append(f"MFU {values['mfu']:.0%}")
    if "data_share" in values:
        parts.append(f"{values['data_share']:.0%} waiting for data")
    return ", ".join(parts)


def dry_run_lines(found: dict[str, Any]) -> Iterator[str]:
    """Lay the result of `dry_run` out as tables of parameters, memory and time."""
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

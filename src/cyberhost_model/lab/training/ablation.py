"""`cyberhost train ablate`: train each row of the paper's Table 1 from one base, and measure them on the same clips.

First by their error on held-out clips, region by region, then by the videos they make. What an earlier call finished is
not done again.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cyberhost_model.config import ABLATIONS, Preset
from cyberhost_model.errors import InputError, TrainingError
from cyberhost_model.lab.evaluation.registry import headline_measures
from cyberhost_model.lab.evaluation.report.ablation import ablation_table, ablation_values, write_ablation_csv
from cyberhost_model.lab.evaluation.report.region_errors import (
    REGIONS,
    ClipError,
    RegionChange,
    error_latex,
    error_table,
    region_changes,
    write_error_csv,
)
from cyberhost_model.lab.evaluation.report.wording import format_count
from cyberhost_model.lab.evaluation.results import SUMMARY_FILE, write_results
from cyberhost_model.lab.evaluation.run import evaluate
from cyberhost_model.lab.filmed.manifest import accepted_rows
from cyberhost_model.lab.training.assemble import averaged_weights
from cyberhost_model.lab.training.checkpoint import lock_run
from cyberhost_model.lab.training.clip_encoder import ClipEncoder, EncoderConfig
from cyberhost_model.lab.training.dry_run import time_steps
from cyberhost_model.lab.training.encode import Part, clip_name, encode_dataset
from cyberhost_model.lab.training.held_out import ClipVoices, HeldOutClip, held_out_clips, make_drawn_clips
from cyberhost_model.lab.training.init import build_network, load_weights, preset_for_weights
from cyberhost_model.lab.training.loop import train
from cyberhost_model.lab.training.process import join_processes
from cyberhost_model.lab.training.recipe import build_stage, read_recipe, stage_settings
from cyberhost_model.lab.training.registry import Sources
from cyberhost_model.lab.training.samples import fitting_parts, host_with
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.lab.training.stages.clip import ClipStage
from cyberhost_model.lab.training.validation import LEVELS, errors_by_clip
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.files import written_whole
from cyberhost_model.model.checkpoint import save_network
from cyberhost_model.porting.convert import written_folder
from cyberhost_model.reading import Unreadable, convert, one_line, read_object
from cyberhost_model.runtime.loading import Model

FULL = "Full"
ROWS: dict[str, dict[str, bool]] = {FULL: {}, **ABLATIONS}
"""Row of Table 1 -> overrides of `config.Ablations`, in the paper's order."""
PLAN = "ablation.json"
TABLE, CSV, LATEX = "table.md", "table.csv", "table.tex"
ERRORS, BEFORE = "errors.csv", "before.csv"
"""Of the whole ablation the changes of the error; of a row the error of each clip, and that before the first step."""
BASE = "base"
MEASURES = (*headline_measures(), "regions", "temporal")
"""What the videos are measured by."""
SAVE_SECONDS = 60.0
Progress = Callable[[int, int, str], None]


def row_folder(row: str, number: int = 0) -> str:
    """Make the folder name of a row: "w/o Pose-aligned Ref." -> "pose-aligned-ref".

    number: of the seed it is trained with; those after the first have "-seed1", "-seed2" behind the name.
    """
    name = re.sub(r"[^a-z]+", "-", row.lower().removeprefix("w/o ")).strip("-")
    return f"{name}-seed{number}" if number else name


def parse_rows(text: str) -> list[str]:
    """Read a choice of rows: "all", or names separated by commas, as in the paper or as folders.

    The full model is always among them, because the others are compared with it. Raises InputError for an unknown name.
    """
    if text.strip().lower() == "all":
        return list(ROWS)
    known = {row_folder(row): row for row in ROWS}
    rows = {FULL}
    for name in text.split(","):
        if row_folder(name.strip()) not in known:
            raise InputError(f"there is no row {name.strip()!r} in Table 1; choose all, or among {', '.join(known)}")
        rows.add(known[row_folder(name.strip())])
    return [row for row in ROWS if row in rows]


@dataclass(frozen=True)
class Budget:
    """Steps of every row, or minutes of training for all rows together; one of them is 0."""

    steps: int = 0
    minutes: float = 0.0

    @staticmethod
    def parse(text: str) -> Budget:
        """Read "200" as steps and "20m" or "20min" as minutes. Raises InputError."""
        found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*(?:m|min|minutes)", text.strip())
        budget = Budget(int(found[1] or 0), float(found[2] or 0)) if found and len(text) < 20 else Budget()
        if not 0 < max(budget.steps, budget.minutes) <= 10**9:
            raise InputError(f"a budget is a number of steps (200) or of minutes (20m), not {text[:40]!r}")
        return budget

    def steps_of(self, rows: int, seconds: float) -> int:
        """Compute the steps of each of `rows` rows when a step takes `seconds`."""
        return self.steps or max(1, int(self.minutes * 60 / rows / seconds))


@dataclass(frozen=True)
class Plan:
    """The settings that all rows share.

    A folder belongs to one plan: rows of different plans cannot be compared.
    """

    data: str
    stage: str
    config: str
    init: str
    budget: Budget
    seed: int
    held_out: str
    clips: int
    frames: int
    networks: Literal["public", "embedded"]
    settings: list[str] = field(default_factory=list)
    """Changes of the recipe, see `recipe.change_recipe`."""
    videos: int | None = None
    """Held-out clips of which videos are made, of all of them where it is None."""
    levels: int = len(LEVELS)
    """Noise levels that each held-out clip is measured at."""


@dataclass(frozen=True)
class Ablation:
    """A finished ablation.

    values: see `evaluation.report.ablation.ablation_values`, empty without videos. changes: of the error on held-out
    clips; before: those before the first step, of rows that start from trained weights.
    """

    folder: Path
    steps: int
    rows: list[str]
    values: dict[str, Any]
    changes: list[RegionChange]
    before: list[RegionChange]

    @property
    def latex(self) -> Path:
        """The file of the errors' tables in LaTeX."""
        return self.folder / LATEX

    @property
    def table(self) -> Path:
        """The file of the table in Markdown."""
        return self.folder / TABLE

    @property
    def errors_csv(self) -> Path:
        """The file of the errors, a line for each row and region."""
        return self.folder / ERRORS

    @property
    def csv(self) -> Path | None:
        """The file of what the videos measure, a line for each row and metric; None without videos."""
        return self.folder / CSV if self.values else None


def ablate(
    plan: Plan,
    rows: list[str],
    out: str | Path,
    *,
    seeds: int = 1,
    device: str = "cpu",
    threads: int = 1,
    workers: int | None = None,
    weights_dir: str | Path | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> Ablation:
    """Train `rows` (names of `ROWS`, the full model among them) and measure them on the same held-out clips.

    The error of their predictions comes first (`report.region_errors`), then the videos they make of the clips. Every
    row has the same steps, seeds, items and noise, and starts from the weights of one full network as far as it
    has them. Run, videos and report of a row lie in OUT/ROW; another call resumes in the middle of a row. seeds:
    trainings of each row, with `plan.seed` and those after it; videos are made with the first. weights_dir,
    download: of `evaluate`. progress(steps done by all rows, steps of all rows, words). Raises TrainingError (a folder
    of another plan or in use, more than one process) and what `train`, `CyberHost.animate` and `evaluate` raise.
    """
    out = Path(out)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError("an ablation runs in one process: leave out torchrun and accelerate launch")
    loop, settings = read_recipe(plan.config or None, plan.stage, plan.settings)
    loop = dataclasses.replace(
        loop,
        device=device,
        threads=threads,
        seed=plan.seed,
        keep=1,
        report=[],
        workers=loop.workers if workers is None else workers,
        save_seconds=min(loop.save_seconds, SAVE_SECONDS),
    )
    with lock_run(out, join_processes(device)):
        steps = _claim(out, plan)
        parts = fitting_parts(loop.sample_model, stage_settings(plan.stage, settings)[0])
        clips = _clips(plan, out, parts)
        base = _base(plan, out, settings)
        if not steps:
            steps = _steps(plan, len(rows) * seeds, settings, loop, base)
            _write_plan(out, plan, steps)
        loop = scale_schedule(loop, steps)
        coded, people = _coded_clips(plan, out, parts, settings)
        films = clips[: plan.videos]
        ablation = _Rows(plan, out, loop, settings, base, films, parts, coded, people, weights_dir, download)
        every = len(rows) * seeds * steps

        def teller(row: str, start: int) -> Callable[[int, str], None]:
            return lambda done, words: progress(start + done, every, f"{row}: {words}") if progress else None

        for number in range(seeds):
            for place, row in enumerate(rows):
                ablation.finish(row, number, teller(row, (number * len(rows) + place) * steps))
            if number + 1 < seeds:
                ablation.write(rows, number + 1, len(clips))  # to look at while the others are trained
        for row in rows if plan.init else ():
            ablation.measure_before(row, teller(row, every))
        return ablation.write(rows, seeds, len(clips))


def _write_tables(
    out: Path, words: str, changes: list[RegionChange], before: list[RegionChange], reports: Mapping[str, Path]
) -> None:
    """Write the errors as Markdown, LaTeX and CSV, and what the videos measure as Markdown and CSV."""
    parts = [error_table(changes, "Error on held-out clips")]
    parts += [error_table(before, "The same before the first step")] if before else []
    parts += [ablation_table(reports)] if reports else []
    with written_whole(out / TABLE) as part:
        part.write_text(words + "\n".join(parts), encoding="utf-8")
    with written_whole(out / LATEX) as part:
        latex = error_latex(changes) + (error_latex(before, "Before the first step.") if before else "")
        part.write_text(latex, encoding="utf-8")
    with written_whole(out / ERRORS) as part:
        write_error_csv({"trained": changes, **({"before": before} if before else {})}, part)
    if reports:
        with written_whole(out / CSV) as part:
            write_ablation_csv(reports, part)


def scale_schedule(loop: LoopConfig, steps: int) -> LoopConfig:
    """Fit a recipe's schedule to `steps` steps: at most a tenth of them warm-up, at most half of them decay."""
    return dataclasses.replace(
        loop, steps=steps, warmup=min(loop.warmup, steps // 10), decay=min(loop.decay, steps // 2)
    )


def describe_table(
    plan: Plan, steps: int, loop: LoopConfig, settings: dict[str, Any], clips: int, seeds: int = 1
) -> str:
    """Describe how the numbers of the table were made, in Markdown."""
    films = format_count(clips, "clip")
    people = (
        f"{films} of the held-out split of {plan.held_out}"
        if plan.held_out
        else f"{films} of {plan.frames} frames: drawn people who are in no training set, with voices of the training "
        "clips"
    )
    base = (
        f"the weights of {plan.init}: of a part they were trained with, a row shows what they miss without it"
        if plan.init
        else "random weights, the same in all rows"
    )
    return (
        f"Each row: {steps} steps of stage {plan.stage}, {format_count(settings.get('batch', 1), 'item')} a batch, "
        f"{_seed_words(plan.seed, seeds)}, learning rate {loop.lr:g}, from {base}. Measured on {people}, "
        f"each at {format_count(plan.levels, 'noise level')}{' in turn' if plan.levels < len(LEVELS) else ''}"
        f"{_video_words(plan, clips)}.\n\n"
    )


def _video_words(plan: Plan, clips: int) -> str:
    count = clips if plan.videos is None else min(plan.videos, clips)
    if not count:
        return ""
    films = format_count(count, "clip")
    return f"; the videos of {films} are of the first seed alone, so their small differences mean nothing"


def _seed_words(first: int, seeds: int) -> str:
    return f"seed {first}" if seeds == 1 else f"seeds {first} to {first + seeds - 1}"


def _claim(out: Path, plan: Plan) -> int:
    """Read the steps that an earlier call of the same plan settled on; 0 if there was none.

    Raises TrainingError where `out` belongs to another plan.
    """
    if not (out / PLAN).is_file():
        return 0
    try:
        before = {"settings": [], "levels": len(LEVELS), **read_object(out / PLAN)}  # a folder of before these
        steps = convert(int, before.pop("steps", None), "steps")
    except (OSError, Unreadable) as error:
        raise TrainingError(f"{out / PLAN}: damaged ({one_line(error)}); choose another folder") from None
    if changed := [name for name, value in dataclasses.asdict(plan).items() if before.get(name) != value]:
        raise TrainingError(
            f"{out}: holds an ablation of other settings ({', '.join(changed)}); use those, or another folder"
        )
    return steps


def _write_plan(out: Path, plan: Plan, steps: int) -> None:
    """Save the plan, and the steps of each row."""
    with written_whole(out / PLAN) as part:
        part.write_text(json.dumps({**dataclasses.asdict(plan), "steps": steps}, indent=2) + "\n", encoding="utf-8")


def _clips(plan: Plan, out: Path, parts: Model) -> list[HeldOutClip]:
    """List the clips to measure on; drawn people are made where the plan names no dataset."""
    dataset = Path(plan.held_out) if plan.held_out else out / "held_out"
    if not plan.held_out:
        make_drawn_clips(dataset, ClipVoices(Path(plan.data)), plan.clips, plan.frames, parts.detector)
    return held_out_clips(dataset, out / "pictures", plan.clips)


def _coded_clips(plan: Plan, out: Path, parts: Model, settings: dict[str, Any]) -> tuple[Path, dict[str, str]]:
    """Code the held-out clips in pieces as long as one cut; returns their folder, and piece -> who is seen in it."""
    dataset, folder = Path(plan.held_out) if plan.held_out else out / "held_out", out / "coded"
    preset, config, _ = stage_settings(plan.stage, settings)
    length = preset.motion_frames + config.frames
    encoder, part = ClipEncoder(EncoderConfig(preset.name), parts.codec, parts.speech, parts.face), Part(0, plan.clips)
    encode_dataset(dataset, folder, encoder, frames=length, seed=plan.seed, split="held_out", part=part)
    rows = accepted_rows(dataset, "held_out")[: plan.clips]
    pieces = ((row, start) for row in rows for start in range(0, (row.frames or 0) - length + 1, length))
    return folder, {clip_name(row, start): row.identity or row.clip for row, start in pieces}


def write_errors(clips: list[ClipError], file: Path) -> None:
    """Write errors as CSV, a line for each clip. Raises OutputError."""
    with written_whole(file, overwrite=True) as part, part.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["clip", "identity", *REGIONS])
        writer.writerows([c.clip, c.identity, *(c.errors[region] for region in REGIONS)] for c in clips)


def read_errors(file: Path) -> list[ClipError]:
    """Read what `write_errors` wrote. Raises TrainingError for a file that is damaged."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return [
                ClipError(row["clip"], row["identity"], {region: float(row[region]) for region in REGIONS})
                for row in csv.DictReader(lines)
            ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{file}: cannot be read ({one_line(error)}); delete it and run it again") from None


def _base(plan: Plan, out: Path, settings: dict[str, Any]) -> str:
    """Make the full network that all rows start from; returns its folder."""
    folder = out / BASE
    if not folder.is_dir():
        shape = stage_settings(plan.stage, settings)[0]
        network = build_network(preset_for_weights(shape, plan.init) if plan.init else shape, plan.seed)
        if plan.init:
            load_weights(network, plan.init)
        with written_folder(folder) as part:
            save_network(network, part, torch.float32)
    return str(folder)


def _steps(plan: Plan, rows: int, settings: dict[str, Any], loop: LoopConfig, base: str) -> int:
    """Turn the budget into steps; minutes are counted in steps of the full model, which are timed here."""
    if plan.budget.steps:
        return plan.budget.steps
    stage = build_stage(plan.stage, Sources(clips=plan.data), dict(settings), base, plan.seed)
    return plan.budget.steps_of(rows, time_steps(stage, loop))


@dataclass
class _Rows:
    """What is needed to finish any row."""

    plan: Plan
    out: Path
    loop: LoopConfig
    settings: dict[str, Any]
    base: str
    clips: list[HeldOutClip]
    """Of which videos are made."""
    parts: Model
    coded: Path
    people: Mapping[str, str]
    weights_dir: str | Path | None
    download: bool

    def finish(self, row: str, number: int, tell: Callable[[int, str], None]) -> None:
        """Train one row with seed `number`, measure its error, and with the first seed its videos.

        What is written last marks the row as done.
        """
        folder, steps = self.out / row_folder(row, number), self.loop.steps
        videos = number == 0 and bool(self.clips)
        if (folder / ERRORS).is_file() and (not videos or (folder / "report" / SUMMARY_FILE).is_file()):
            tell(steps, "done before")
            return
        stage, seed = self.stage(row, number), self.plan.seed + number
        train(
            stage,
            folder / "run",
            dataclasses.replace(self.loop, seed=seed),
            lambda done, of, values: tell(done, f"training, loss {values['loss']:.3g}"),
        )
        weights, preset = averaged_weights(folder / "run"), stage.module.preset
        if not (folder / ERRORS).is_file():
            tell(steps, "measuring the error")
            stage.module.load_state_dict(weights)
            write_errors(self.errors(stage), folder / ERRORS)
        if not videos:
            return
        for name in self.animate(folder / "videos", preset, weights):
            tell(steps, f"video {name}")
        tell(steps, "measuring")
        self.measure(row, folder)

    def measure_before(self, row: str, tell: Callable[[int, str], None]) -> None:
        """Measure the error of a row before its first step, unless it is there already."""
        file = self.out / row_folder(row) / BEFORE
        if not file.is_file():
            tell(0, "measuring the error before the first step")
            write_errors(self.errors(self.stage(row, 0)), file)

    def write(self, rows: list[str], seeds: int, clips: int) -> Ablation:
        """Write the tables of `rows`, each with `seeds` seeds, of so many held-out clips."""
        plan, out = self.plan, self.out
        reports = {row: out / row_folder(row) / "report" for row in rows} if self.clips else {}
        errors = {row: [read_errors(out / row_folder(row, k) / ERRORS) for k in range(seeds)] for row in rows}
        changes, before = region_changes(errors, plan.seed), []
        if all((out / row_folder(row) / BEFORE).is_file() for row in rows):
            before = region_changes({row: [read_errors(out / row_folder(row) / BEFORE)] for row in rows}, plan.seed)
        words = describe_table(plan, self.loop.steps, self.loop, self.settings, clips, seeds)
        _write_tables(out, words, changes, before, reports)
        values = ablation_values(reports) if reports else {}
        return Ablation(out, self.loop.steps, rows, values, changes, before)

    def stage(self, row: str, number: int) -> Stage:
        """Build the stage of a row with seed `number`, with the base's weights."""
        settings = {**self.settings, "ablations": {**self.settings.get("ablations", {}), **ROWS[row]}}
        return build_stage(self.plan.stage, Sources(clips=self.plan.data), settings, self.base, self.plan.seed + number)

    def errors(self, stage: Stage) -> list[ClipError]:
        """Measure the error of a stage's network on the held-out clips."""
        assert isinstance(stage, ClipStage)  # stages 1 and 2
        device = torch.device(self.loop.device)
        torch.set_num_threads(self.loop.threads)
        stage.module.to(device).eval()
        found = errors_by_clip(stage, self.coded, device, self.plan.levels)
        return [ClipError(clip, self.people.get(clip, clip), errors) for clip, errors in found.items()]

    def animate(self, videos: Path, preset: Preset, weights: dict[str, Tensor]) -> Iterator[str]:
        """Make the missing videos of a network, as `cyberhost animate` does; yields the clips' names."""
        videos.mkdir(exist_ok=True)
        host = None
        for clip in self.clips:
            video = videos / f"{clip.name}.mp4"
            if not video.exists():
                host = host or host_with(self.parts, preset, weights, torch.device(self.loop.device))
                plain = Marks(watermark=False, c2pa=False)  # the model is measured, not its marks
                animation = host.animate(clip.picture, clip.film, seed=self.plan.seed, gestures=False)
                animation.save(video, marks=plain)
            yield clip.name

    def measure(self, row: str, folder: Path) -> None:
        """Compare the videos of a row with the films, and write its report."""
        pairs = folder / "videos.json"
        entries = [
            {
                "name": clip.name,
                "identity": clip.identity,
                "generated": str((folder / "videos" / f"{clip.name}.mp4").absolute()),
                "reference": str(clip.film),
                "image": str(clip.picture),
            }
            for clip in self.clips
        ]
        pairs.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        found = evaluate(
            pairs,
            metrics=MEASURES,
            name=row,
            networks=self.plan.networks,
            weights_dir=self.weights_dir,
            download=self.download,
            cache=self.out / "cache",
            seed=self.plan.seed,
            device=self.loop.device,
        )
        (folder / "report").mkdir(exist_ok=True)
        write_results(found.results, folder / "report")

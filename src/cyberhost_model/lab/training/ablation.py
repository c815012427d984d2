"""`ablate`: each row of Table 1 trained from one base, animated on the same clips and measured; what is done is not
done again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from cyberhost_model.config import ABLATIONS, Preset
from cyberhost_model.errors import InputError, NoFaceError, TrainingError
from cyberhost_model.lab.evaluation.protocol import METRICS
from cyberhost_model.lab.evaluation.report.ablation import ablation_table, ablation_values, write_ablation_csv
from cyberhost_model.lab.evaluation.report.text import counted
from cyberhost_model.lab.evaluation.results import SUMMARY, write_results
from cyberhost_model.lab.evaluation.run import evaluate
from cyberhost_model.lab.filmed.manifest import NAME, Row, read_manifest, write_manifest
from cyberhost_model.lab.filmed.source import Unusable, open_video, rgb
from cyberhost_model.lab.synthetic.clips import Synth, export_clip
from cyberhost_model.lab.synthetic.people import People
from cyberhost_model.lab.training.checkpoint import hold
from cyberhost_model.lab.training.dry_run import time_steps
from cyberhost_model.lab.training.init import as_taught, start_from
from cyberhost_model.lab.training.loop import train
from cyberhost_model.lab.training.process import join_processes
from cyberhost_model.lab.training.recipe import Sources, build_stage, clip_settings, read_recipe
from cyberhost_model.lab.training.samples import fitting_parts, host_with
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.lab.training.stages.clip import build_network
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.media.files import written_whole
from cyberhost_model.model.checkpoint import save_network, with_current_names
from cyberhost_model.perception.detector import KeypointDetector, PeopleFinder, analyse
from cyberhost_model.perception.people import has_hand
from cyberhost_model.porting.convert import written_folder
from cyberhost_model.runtime.loading import Model

# Rows of Table 1 by name, and how long each may train.


FULL = "Full"
ROWS: dict[str, dict[str, bool]] = {FULL: {}, **ABLATIONS}
"""Row -> overrides of `presets.Ablations`, in the paper's order."""


def slug(row: str) -> str:
    """The folder of a row: "w/o Pose-aligned Ref." -> "pose-aligned-ref"."""
    return re.sub(r"[^a-z]+", "-", row.lower().removeprefix("w/o ")).strip("-")


def chosen(text: str) -> list[str]:
    """ "all", or names between commas: as in the paper, or as folders.

    The full model is always among them: the others are read against it.

    Raises InputError for a name that is none.
    """
    if text.strip().lower() == "all":
        return list(ROWS)
    known = {slug(row): row for row in ROWS}
    wanted = {FULL}
    for name in text.split(","):
        if slug(name.strip()) not in known:
            raise InputError(f"there is no row {name.strip()!r} in Table 1; choose all, or among {', '.join(known)}")
        wanted.add(known[slug(name.strip())])
    return [row for row in ROWS if row in wanted]


@dataclass(frozen=True)
class Budget:
    """Steps of every row, or minutes of training for all rows together; one of them is 0."""

    steps: int = 0
    minutes: float = 0.0

    @staticmethod
    def parse(text: str) -> Budget:
        """ "200": steps; "20m" or "20min": minutes. Raises InputError."""
        found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*(?:m|min|minutes)", text.strip())
        budget = Budget(int(found[1] or 0), float(found[2] or 0)) if found else Budget()
        if not budget.steps and not budget.minutes:
            raise InputError(f"a budget is a number of steps (200) or of minutes (20m), not {text!r}")
        return budget

    def steps_of(self, rows: int, seconds: float) -> int:
        """Steps for each of `rows` rows when a step takes `seconds`."""
        return self.steps or max(1, int(self.minutes * 60 / rows / seconds))


# Clips to measure on that no row was trained on: those of a dataset, or drawn people made for it.


SEED = 9_001
"""Of the drawn people: not a seed anybody starts a training set with."""
TRIES = 20
"""Drawn people looked at for each that is wanted."""


@dataclass(frozen=True)
class Held:
    """A clip: the picture that is animated, and the film it is measured against, whose sound is heard."""

    name: str
    identity: str
    picture: Path
    film: Path


class CodedVoices:
    """The sound of coded clips as speech for others."""

    def __init__(self, clips: Path) -> None:
        self.files = sorted(clips.glob("*x*/*.safetensors"))
        if not self.files:
            raise InputError(f"no coded clips in {clips}: make them with `cyberhost data encode`")

    def window(self, rng: np.random.Generator, seconds: float) -> np.ndarray:
        """A stretch of one clip's sound, repeated where it is too short: float32 (seconds * 16000,)."""
        with safe_open(self.files[int(rng.integers(len(self.files)))], "np") as file:
            sound = file.get_tensor("sound").astype(np.float32) / 32767
        need = round(seconds * SPEECH_RATE)
        sound = np.tile(sound, -(-need // len(sound)))
        start = int(rng.integers(len(sound) - need + 1))
        return sound[start : start + need]


def drawn_people(
    folder: Path, voices: CodedVoices, count: int, frames: int, detector: KeypointDetector | PeopleFinder
) -> None:
    """Make `count` clips of drawn people as `data synth` does, in a dataset that is there whole or not at all.

    People whose face or hands `detector` does not find are passed over: there would be nothing to measure. Raises
    InputError when all are.
    """
    if (folder / NAME).is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    synth = Synth(People([], drawn=1.0), voices, SEED, frames, clean=True)
    rows: list[Row] = []
    for number in range(TRIES * count):
        clip = synth.clip(number)
        if shows_face_and_hands(clip.reference.picture_u8, detector):
            row = export_clip(clip, folder, number)
            row.split = "held_out"
            rows.append(row)
        if len(rows) == count:
            break
    if not rows:
        raise InputError(
            f"no face with hands is found in {TRIES * count} drawn people: give clips of your own (--held-out DATASET)"
        )
    write_manifest(folder, rows)


def shows_face_and_hands(picture_u8: np.ndarray, detector: KeypointDetector | PeopleFinder) -> bool:
    """Whether the detector finds both in a picture uint8 (H, W, 3)."""
    try:
        return has_hand(analyse(picture_u8, detector, "a drawn person").keypoints)
    except NoFaceError:
        return False


def held_out(dataset: Path, pictures: Path, count: int) -> list[Held]:
    """The first `count` clips of the dataset's held-out split.

    A filmed clip's picture is its first frame, kept in the folder `pictures`.

    Raises InputError where there is none, or a film cannot be read.
    """
    rows = [row for row in read_manifest(dataset, accepted=True) if row.split == "held_out"][:count]
    if not rows:
        raise InputError(
            f"{dataset}: has no clip of split 'held_out'; make some with `cyberhost data synth --held-out`"
        )
    found = []
    for row in rows:
        name, film = row.clip.replace("/", "-"), (dataset / str(row.video)).absolute()
        picture = (dataset / row.reference).absolute() if row.reference else pictures / f"{name}.png"
        if not picture.exists():
            pictures.mkdir(parents=True, exist_ok=True)
            Image.fromarray(first_frame(film)).save(picture)
        found.append(Held(name, row.identity or name, picture, film))
    return found


def first_frame(film: Path) -> np.ndarray:
    """uint8 (H, W, 3). Raises InputError."""
    try:
        with open_video(film) as video:
            return next(rgb(stamped.frame) for stamped in video.frames())
    except (Unusable, StopIteration):
        raise InputError(f"{film}: cannot be read; prepare the dataset again") from None


PLAN = "ablation.json"
TABLE, CSV = "table.md", "table.csv"
BASE = "base"
SAVE_SECONDS = 60.0
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Plan:
    """What all rows share. A folder is bound to one: rows of different plans cannot be compared."""

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


@dataclass(frozen=True)
class Ablation:
    """A finished comparison. `values`: `evaluation.report.ablation.ablation_values`."""

    folder: Path
    steps: int
    rows: list[str]
    values: dict[str, Any]

    @property
    def table(self) -> Path:
        """The table as Markdown."""
        return self.folder / TABLE

    @property
    def csv(self) -> Path:
        """The same, a line a row and measure."""
        return self.folder / CSV


def ablate(
    plan: Plan,
    rows: list[str],
    out: str | Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    workers: int | None = None,
    weights_dir: str | Path | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> Ablation:
    """Train `rows` (names of `ROWS`, the full model among them) in the folder `out`, make the same videos with each,
    measure them, write the table.

    Every row has the same steps, seed, items and noise, and starts from the weights of one full network as far as it
    has them. Rows lie in OUT/ROW: the run, its videos, its report; run again, `ablate` goes on in the middle of a row.
    weights_dir, download: `evaluate`'s. progress(steps done by all rows, of all, words). Raises TrainingError (another
    plan's folder, one in use, more than one process) and what `train`, `CyberHost.animate` and `evaluate` raise.
    """
    out = Path(out)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError("an ablation runs in one process: leave out torchrun and accelerate launch")
    loop, settings = read_recipe(plan.config or None, plan.stage)
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
    with hold(out, join_processes(device)):
        claimed = _claim(out, plan)
        parts = fitting_parts(loop.sample_model, clip_settings(plan.stage, settings)[0])
        material = _material(plan, out, parts)
        base = _base(plan, out, settings)
        steps = claimed or _note(out, plan, _steps(plan, len(rows), settings, loop, base))
        loop = fitted(loop, steps)
        for number, row in enumerate(rows):

            def tell(done: int, words: str, number: int = number, row: str = row) -> None:
                if progress:
                    progress(number * steps + done, len(rows) * steps, f"{row}: {words}")

            _row(row, plan, out, settings, loop, base, material, parts, weights_dir, download, tell)
        reports = {row: out / slug(row) / "report" for row in rows}
        with written_whole(out / TABLE) as part:
            part.write_text(
                heading(plan, steps, loop, settings, len(material)) + ablation_table(reports), encoding="utf-8"
            )
        with written_whole(out / CSV) as part:
            write_ablation_csv(reports, part)
    return Ablation(out, steps, rows, ablation_values(reports))


def fitted(loop: LoopConfig, steps: int) -> LoopConfig:
    """The recipe's loop for so many steps: a tenth of them at most to warm up, half of them at most to decay."""
    return dataclasses.replace(
        loop, steps=steps, warmup=min(loop.warmup, steps // 10), decay=min(loop.decay, steps // 2)
    )


def heading(plan: Plan, steps: int, loop: LoopConfig, settings: dict[str, Any], clips: int) -> str:
    """What a reader of the table must know."""
    films = counted(clips, "clip")
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
        f"Each row: {steps} steps of stage {plan.stage}, {counted(settings.get('batch', 1), 'item')} a batch, seed "
        f"{plan.seed}, learning rate {loop.lr:g}, from {base}. "
        f"Measured on {people}; one seed each, so small differences mean nothing.\n\n"
    )


def _claim(out: Path, plan: Plan) -> int:
    """The steps an earlier call of the same plan settled on; 0 if there was none.

    Raises TrainingError where `out` is another plan's.
    """
    if not (out / PLAN).is_file():
        return 0
    try:
        before = json.loads((out / PLAN).read_text(encoding="utf-8"))
        steps = int(before.pop("steps"))
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{out / PLAN}: damaged ({error}); choose another folder") from None
    if changed := [name for name, value in _plain(plan).items() if before.get(name) != value]:
        raise TrainingError(
            f"{out}: holds an ablation of other settings ({', '.join(changed)}); use those, or another folder"
        )
    return steps


def _note(out: Path, plan: Plan, steps: int) -> int:
    with written_whole(out / PLAN) as part:
        part.write_text(json.dumps({**_plain(plan), "steps": steps}, indent=2) + "\n", encoding="utf-8")
    return steps


def _plain(plan: Plan) -> dict[str, Any]:
    return dataclasses.asdict(plan)


def _material(plan: Plan, out: Path, parts: Model) -> list[Held]:
    dataset = Path(plan.held_out) if plan.held_out else out / "held_out"
    if not plan.held_out:
        drawn_people(dataset, CodedVoices(Path(plan.data)), plan.clips, plan.frames, parts.detector)
    return held_out(dataset, out / "pictures", plan.clips)


def _base(plan: Plan, out: Path, settings: dict[str, Any]) -> str:
    """The full network all rows start from, in a folder."""
    folder = out / BASE
    if not folder.is_dir():
        shape = clip_settings(plan.stage, settings)[0]
        network = build_network(as_taught(shape, plan.init) if plan.init else shape, plan.seed)
        if plan.init:
            start_from(network, plan.init)
        with written_folder(folder) as part:
            save_network(network, part, torch.float32)
    return str(folder)


def _steps(plan: Plan, rows: int, settings: dict[str, Any], loop: LoopConfig, base: str) -> int:
    """The budget in steps; minutes are counted in steps of the full model, timed here."""
    if plan.budget.steps:
        return plan.budget.steps
    return plan.budget.steps_of(
        rows, time_steps(build_stage(plan.stage, Sources(clips=plan.data), dict(settings), base, plan.seed), loop)
    )


def _row(
    row: str,
    plan: Plan,
    out: Path,
    settings: dict[str, Any],
    loop: LoopConfig,
    base: str,
    material: list[Held],
    parts: Model,
    weights_dir: str | Path | None,
    download: bool,
    tell: Callable[[int, str], None],
) -> None:
    """One row: train, animate, measure; its report comes last and says that it is done."""
    folder = out / slug(row)
    if (folder / "report" / SUMMARY).is_file():
        tell(loop.steps, "done before")
        return
    switches = {**settings.get("ablations", {}), **ROWS[row]}
    built = build_stage(plan.stage, Sources(clips=plan.data), {**settings, "ablations": switches}, base, plan.seed)
    last = train(
        built, folder / "run", loop, lambda done, of, values: tell(done, f"training, loss {values['loss']:.3g}")
    )
    videos = folder / "videos"
    for name in animate(
        material,
        videos,
        parts,
        built.module.preset,
        with_current_names(load_file(last / "ema.safetensors")),
        loop.device,
        plan.seed,
    ):
        tell(loop.steps, f"video {name}")
    pairs = folder / "videos.json"
    pairs.write_text(
        json.dumps(
            [
                {
                    "name": h.name,
                    "identity": h.identity,
                    "generated": str((videos / f"{h.name}.mp4").absolute()),
                    "reference": str(h.film),
                    "image": str(h.picture),
                }
                for h in material
            ],
            indent=1,
        ),
        encoding="utf-8",
    )
    tell(loop.steps, "measuring")
    found = evaluate(
        pairs,
        metrics=METRICS,
        name=row,
        networks=plan.networks,
        weights_dir=weights_dir,
        download=download,
        cache=out / "cache",
        seed=plan.seed,
        device=loop.device,
    )
    (folder / "report").mkdir(exist_ok=True)
    write_results(found.results, folder / "report")


def animate(
    material: list[Held], videos: Path, parts: Model, preset: Preset, weights: dict[str, Tensor], device: str, seed: int
) -> Iterator[str]:
    """The missing videos of a network, each as `cyberhost animate` makes it of the clip's picture and sound; yields
    their names.
    """
    videos.mkdir(exist_ok=True)
    host = None
    for held in material:
        video = videos / f"{held.name}.mp4"
        if not video.exists():
            host = host or host_with(parts, preset, weights, torch.device(device))
            host.animate(held.picture, held.film, seed=seed).save(video)
        yield held.name

"""One person: a model learns somebody from videos of them, and becomes a model of its own. Not in the paper.

The videos are prepared and coded, the last fifth of the clips is held out, stage person trains on the others, and the
error on what was held out is measured before and after. Each step has a folder of its own, so a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cyberhost_model.config import Preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.filmed.build import prepare_dataset
from cyberhost_model.lab.filmed.manifest import Row, read_manifest
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.lab.training.checkpoint import lock_run
from cyberhost_model.lab.training.clip_encoder import EncoderConfig, load_clip_encoder
from cyberhost_model.lab.training.encode import claim, encode_rows
from cyberhost_model.lab.training.init import load_weights
from cyberhost_model.lab.training.loop import train
from cyberhost_model.lab.training.process import Process, join_processes
from cyberhost_model.lab.training.recipe import build_stage, read_recipe
from cyberhost_model.lab.training.registry import Sources
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.lab.training.stages.person import check_teachable
from cyberhost_model.lab.training.validation import BEST, Validation
from cyberhost_model.lab.training.whole import claim_folder
from cyberhost_model.media.files import written_folder, written_whole
from cyberhost_model.model.checkpoint import load_preset, save_network
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.reading import Unreadable, convert, read_object
from cyberhost_model.runtime.loading import find_model

STAGE = "person"
PLAN, ERRORS = "person.json", "errors.json"
DATASET, CLIPS, HELD_OUT, RUN, MODEL = "dataset", "clips", "held-out", "run", "model"
"""Folders of the steps."""
SECONDS = (2.0, 4.0)
"""Shortest and longest clip: short ones, so that ten seconds of film have some to hold out."""
HELD_SHARE = 0.2
VALIDATIONS = 4
"""Measurements on the held-out clips in a training, unless the user says otherwise."""
CUTS = 12
"""Cuts of the held-out clips that are measured."""

Progress = Callable[[str, int, int, dict[str, float]], None]
"""(step, done, of, values): called as a step goes on."""


@dataclass(frozen=True)
class TaughtPerson:
    """A model that was taught a person."""

    model: Path
    trained: int
    """Clips it was taught by."""
    held_out: int
    """Clips that it was measured on."""
    before: dict[str, float]
    """Error of the model it began with on held-out clips, as `Validation.measure` names it."""
    after: dict[str, float]
    """The same of the model."""

    @property
    def learnt(self) -> bool:
        """Whether the error on held-out clips became smaller."""
        return self.after["valid"] < self.before["valid"]

    def regions(self) -> dict[str, tuple[float, float]]:
        """List the errors before and after by region, without those that no held-out clip shows."""
        names = {"whole": "valid", **{region: f"valid_{region}" for region in ("face", "hands", "lips")}}
        pairs = {region: (self.before[name], self.after[name]) for region, name in names.items()}
        return {region: pair for region, pair in pairs.items() if pair[0] > 0}


def train_person(
    videos: Sequence[Path],
    base: str,
    out: str | Path,
    change: Callable[[LoopConfig], LoopConfig] = lambda loop: loop,
    *,
    crop: str = "body",
    detector: str = "embedded",
    settings: Sequence[str] = (),
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> TaughtPerson:
    """Teach the model `base` the person in `videos`, and write the new model to OUT/model.

    videos: files or folders that show one person who speaks. base: as for `animate --model`. change: applied to the
    loop's settings, which are those of section [person] of the recipe of the base's preset. crop, detector: as for
    `data prepare`. settings: see `recipe.change_recipe`. Another call with the same arguments goes on where this one
    was stopped. Raises TrainingError where the base cannot be taught, fewer than two clips can be used or `out` belongs
    to another person, and what the steps raise.
    """
    out = Path(out)
    shape = load_preset(find_model(base))
    check_teachable(shape, base)
    loop, own = read_recipe(shape.name, STAGE, settings)
    loop = change(loop)
    loop = replace(loop, validate_every=loop.validate_every or -(-loop.steps // VALIDATIONS))
    world = join_processes(loop.device)
    if world.size > 1:
        raise TrainingError("one person is taught by one process: run it without torchrun")
    facts = {"videos": [str(path) for path in videos], "base": base, "crop": crop, "detector": detector}

    def tell(step: str) -> Callable[[int, int], None] | None:
        return progress and (lambda done, of: progress(step, done, of, {}))

    with lock_run(out, world):
        claim_folder(out / PLAN, {**facts, "set": list(settings)})
        film = _film_settings(shape, crop, detector)
        prepare_dataset(list(videos), out / DATASET, film, loop.workers, progress=tell("preparing"), warn=notify)
        learn, held = split_clips(out / DATASET)
        encoder = load_clip_encoder(EncoderConfig(shape.name, base, base, loop.device))
        frames = encoder.config.stretch(None)
        for folder, rows in ((out / CLIPS, learn), (out / HELD_OUT, held)):
            claim(folder, {"frames": frames, "seed": loop.seed, **encoder.config.facts()})
            encode_rows(
                out / DATASET, rows, folder, encoder, frames, loop.seed, progress=tell("coding clips"), warn=notify
            )
        del encoder  # its memory is the training's now
        stage = build_stage(STAGE, Sources(clips=str(out / CLIPS)), own, base, loop.seed, notify)
        validation = Validation(out / HELD_OUT, CUTS)
        before = _error_before(out / ERRORS, stage, validation, world)
        train(
            stage,
            out / RUN,
            loop,
            progress and (lambda done, of, values: progress("training", done, of, values)),
            validation=validation,
        )
        best = out / RUN / BEST  # not there where the time was over before the first measurement
        load_weights(stage.module, str(best if best.is_dir() else out / RUN))
        after = validation.measure(stage, world)
        _write_json(out / ERRORS, {"before": before, "after": after})
        _write_model(stage.module, base, out / MODEL)
    return TaughtPerson(out / MODEL, len(learn), len(held), before, after)


def _film_settings(shape: Preset, crop: str, detector: str) -> Settings:
    """Say how the videos become clips of the network's size. Raises InputError for an unknown crop.

    Hands need not be seen: who asks for this person has no other videos of them.
    """
    height, width = shape.size
    return Settings(
        crop,
        (width, height),
        min_seconds=SECONDS[0],
        max_seconds=SECONDS[1],
        min_hands=0.0,
        detector=detector,
    )


def split_clips(dataset: Path) -> tuple[list[Row], list[Row]]:
    """Split the accepted clips: those to learn from, and those that are held out, the last fifth, at least one.

    The last ones, because clips that follow each other are alike. Raises TrainingError where there are fewer than two.
    """
    rows = [row for row in read_manifest(dataset) if row.accepted]
    if len(rows) < 2:
        raise TrainingError(
            f"{dataset}: {len(rows)} clips of {SECONDS[0]:g} to {SECONDS[1]:g} s can be used, and two are needed, one "
            "to learn from and one to measure; give a longer video (`cyberhost data inspect` counts what was rejected)"
        )
    rows.sort(key=lambda row: (row.source, row.start or 0.0))
    held = max(1, round(HELD_SHARE * len(rows)))
    return rows[:-held], rows[-held:]


def _error_before(file: Path, stage: Stage, validation: Validation, world: Process) -> dict[str, float]:
    """Measure the model before it trains, unless an earlier call has."""
    try:
        return convert(dict[str, float], read_object(file).get("before"), "before")
    except (OSError, Unreadable):
        stage.module.to(world.device)
        before = validation.measure(stage, world)
        _write_json(file, {"before": before})
        return before


def _write_json(file: Path, values: dict[str, Any]) -> None:
    with written_whole(file) as part:
        part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _write_model(network: torch.nn.Module, base: str, out: Path) -> None:
    """Write the model folder: the base with another network, without the base's card, which says how that was trained.

    Raises OutputError.
    """
    assert isinstance(network, CyberHostNetwork)
    shutil.rmtree(out, ignore_errors=True)
    with written_folder(out) as part:
        shutil.copytree(find_model(base), part, ignore=shutil.ignore_patterns("*.md"), dirs_exist_ok=True)
        save_network(network, part)

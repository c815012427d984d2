"""A whole model by one recipe: every stage in its order, coded clips between them, and the folder that ships.

Each step has a folder of its own, so a run that was stopped goes on where it was, and nothing is done twice. No weights
but those of the steps before go into a step.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.filmed.manifest import NAME as MANIFEST
from cyberhost_model.lab.filmed.manifest import accepted_rows
from cyberhost_model.lab.synthetic.clips import ClipGenerator
from cyberhost_model.lab.synthetic.performance import load_gestures
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary
from cyberhost_model.lab.synthetic.stills import has_labels
from cyberhost_model.lab.training.assemble import assemble
from cyberhost_model.lab.training.checkpoint import STATE, RunState, lock_run
from cyberhost_model.lab.training.clip_encoder import ClipEncoder, EncoderConfig, load_clip_encoder
from cyberhost_model.lab.training.encode import claim, encode_made, encode_rows
from cyberhost_model.lab.training.loop import train
from cyberhost_model.lab.training.process import join_processes
from cyberhost_model.lab.training.recipe import build_stage, read_clips, read_recipe
from cyberhost_model.lab.training.registry import SOURCES, Sources, require
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.reading import Unreadable, build, one_line, read_object

PLAN = "recipe.json"
MODEL = "model"
CLIPS = "clips"
DONE = "done"
"""File among the clips that says that all are there."""
Progress = Callable[[str, int, int, dict[str, float]], None]
"""(step of the recipe, done, of, values): called as a step goes on."""


@dataclass(frozen=True)
class Step:
    """One step of a whole recipe: a stage of training."""

    name: str
    """Its folder's name, and the recipe's section."""
    stage: str
    init: str = ""
    """Step whose weights it begins with."""
    recipe: str = ""
    """Another recipe that has the section."""


STEPS = (
    Step("codec", "codec"),
    Step("close", "codec", init="codec", recipe="close"),
    Step("audio", "audio"),
    Step("detector", "detector"),
    Step("arms", "detector", init="detector", recipe="arms"),
    Step("lips", "lips"),
    Step("hear", "hear"),
    Step("1", "1", init="hear"),
    Step("pose", "pose", init="1"),
    Step("2", "2", init="pose"),
    Step("distill", "distill", init="2"),
)
"""In this order; the clips are coded before stage hear, by the codec that ships: latents of one with `left` depend on
all of its decoder.
"""


@dataclass(frozen=True)
class Material:
    """What a whole model is made from: folders of stills, speech, filmed people, labels and recorded gestures.

    filmed: for stage audio; those that are datasets (`data prepare`) are for the codec, the detector and the lip reader
    too, and for the network where the recipe says so; those that are labelled pictures are for the detector alone.
    """

    stills: list[str]
    speech: list[str]
    filmed: list[str]
    labels: list[str]
    gestures: str | None = None

    def sources(self, stage: str, clips: Path) -> Sources:
        """Gather the folders for one stage."""
        pictures = [folder for folder in self.filmed if has_labels(folder)]
        filmed = [str(dataset) for dataset in self.datasets()]
        if stage == "audio":
            filmed = [folder for folder in self.filmed if folder not in pictures]
        elif stage == "detector":
            filmed += pictures
        return Sources(self.stills, self.speech, str(clips), filmed, self.labels)

    def datasets(self) -> list[Path]:
        """List the folders of filmed people that are datasets."""
        return [Path(folder) for folder in self.filmed if (Path(folder) / MANIFEST).is_file()]

    def check(self) -> None:
        """Raise TrainingError where a step would miss something."""
        for name in ("stills", "speech", "filmed", "labels"):
            require(getattr(self, name), *SOURCES[name])


def train_whole(
    recipe: str,
    material: Material,
    out: str | Path,
    change: Callable[[LoopConfig], LoopConfig] = lambda loop: loop,
    *,
    clips: int | None = None,
    settings: Sequence[str] = (),
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> Path:
    """Train all parts of a model and assemble them in OUT/model; returns that folder.

    recipe: "tiny" or a file with a section for each of `STEPS` and [clips]. change: applied to the loop's settings of
    every step. clips: how many are coded, by default as the recipe says. settings: see `recipe.change_recipe`. Another
    call with the same arguments goes on where this one was stopped. Raises TrainingError where something is missing or
    `out` belongs to another recipe or material, and what the stages raise.
    """
    out = Path(out)
    material.check()
    plans = {step.name: read_recipe(step.recipe or recipe, step.stage, settings) for step in STEPS}
    count, made = read_clips(recipe)
    with lock_run(out, join_processes("cpu")):
        facts = {"recipe": recipe, **dataclasses.asdict(material), "clips": clips or count, "set": list(settings)}
        claim_folder(out / PLAN, facts)
        for step in STEPS:
            loop, own = plans[step.name]
            loop = change(loop)
            if step.name == "hear":
                _code_clips(out, material, clips or count, made, loop.seed, progress, notify)
            if not _is_done(out / step.name, loop.steps):
                _train_step(step, out, material, loop, own, progress, notify)
        runs = {part: str(out / step) for part, step in _PARTS.items()}
        assemble(out / MODEL, recipe=recipe, **runs)  # type: ignore[arg-type]
    return out / MODEL


_PARTS = {"network": "distill", "codec": "close", "speech": "audio", "detector": "arms", "lips": "lips"}
"""Part of a model -> the step that makes it."""


def _train_step(
    step: Step,
    out: Path,
    material: Material,
    loop: LoopConfig,
    settings: dict[str, Any],
    progress: Progress | None,
    notify: Callable[[str], None] | None,
) -> None:
    """Train one step in its folder."""
    sources = material.sources(step.stage, out / CLIPS)
    init = str(out / step.init) if step.init else None
    stage = build_stage(step.stage, sources, dict(settings), init, loop.seed, notify, out / step.name)

    def tell(done: int, of: int, values: dict[str, float]) -> None:
        if progress:
            progress(step.name, done, of, values)

    train(stage, out / step.name, loop, tell)


def _code_clips(
    out: Path,
    material: Material,
    count: int,
    settings: dict[str, Any],
    seed: int,
    progress: Progress | None,
    notify: Callable[[str], None] | None,
) -> None:
    """Code the clips that the network learns from, with the codec and the speech encoder of the steps before.

    Of filmed people those who speak; the others teach the codec alone.
    """
    done_file = out / CLIPS / DONE
    if done_file.is_file():
        return
    encoder = load_clip_encoder(EncoderConfig("tiny", str(out / "close"), str(out / "audio")))

    def make(encoder: ClipEncoder) -> ClipGenerator:
        return ClipGenerator(
            People(material.stills, settings["drawn"]),
            SpeechLibrary(material.speech),
            seed,
            settings["frames"],
            load_gestures(material.gestures) if material.gestures else None,
            heads=settings["heads"],
            reaching=settings["reaching"],
            listener=encoder.speech,  # type: ignore[arg-type]
        )

    def tell(done: int, of: int) -> None:
        if progress:
            progress(CLIPS, done, of, {})

    claim(out / CLIPS, {"frames": settings["frames"], "seed": seed})
    fidelity = encode_made(make, out / CLIPS, encoder, range(count), progress=tell).fidelity
    for dataset in material.datasets() if settings["filmed"] else []:
        rows = [row for row in accepted_rows(dataset) if row.speech_share]
        filmed = encode_rows(dataset, rows, out / CLIPS, encoder, settings["frames"], seed, warn=notify)
        fidelity.extend(filmed.fidelity)
    if notify and (low := fidelity.too_low()):
        worst = ", ".join(f"{name} {value:.1f} dB" for name, value in low.items())
        notify(f"{out / CLIPS}: the codec brings its clips back poorly ({worst})")
    done_file.touch()


def _is_done(run: Path, steps: int) -> bool:
    """Whether an earlier call finished a step."""
    try:
        return build(RunState, read_object(run / "last" / STATE)).step >= steps
    except (OSError, Unreadable):
        return False


def claim_folder(file: Path, facts: dict[str, Any]) -> None:
    """Save in `file` what the model in its folder is made of. Raises TrainingError where that is another model's."""
    if file.is_file():
        try:
            before = read_object(file)
        except (OSError, Unreadable) as error:
            raise TrainingError(f"{file}: damaged ({one_line(error)}); choose another folder") from None
        if changed := [name for name, value in facts.items() if before.get(name) != value]:
            raise TrainingError(f"{file.parent}: a model of other {', '.join(changed)}; use those, or another folder")
        return
    file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

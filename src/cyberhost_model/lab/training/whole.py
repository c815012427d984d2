"""A whole model by one recipe: every stage in its order, coded clips between them, and the folder that ships.

Each step has a folder of its own, so a run that was stopped goes on where it was, and nothing is done twice. No weights
but those of the steps before go into a step.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.synthetic.clips import ClipGenerator
from cyberhost_model.lab.synthetic.performance import load_gestures
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary
from cyberhost_model.lab.training.assemble import assemble
from cyberhost_model.lab.training.checkpoint import STATE, lock_run
from cyberhost_model.lab.training.encode import claim, encode_made, load_clip_encoder
from cyberhost_model.lab.training.loop import train
from cyberhost_model.lab.training.process import join_processes
from cyberhost_model.lab.training.recipe import build_stage, read_clips, read_recipe
from cyberhost_model.lab.training.registry import SOURCES, Sources, require
from cyberhost_model.lab.training.settings import LoopConfig

PLAN = "recipe.json"
MODEL = "model"
CLIPS = "clips"
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
    Step("audio", "audio"),
    Step("detector", "detector"),
    Step("lips", "lips"),
    Step("hear", "hear"),
    Step("1", "1", init="hear"),
    Step("pose", "pose", init="1"),
    Step("2", "2", init="pose"),
    Step("close", "codec", init="codec", recipe="close"),
)
"""In this order; the clips are coded before stage hear."""


@dataclass(frozen=True)
class Material:
    """What a whole model is made from: folders of stills, speech, filmed people, labels and recorded gestures."""

    stills: list[str]
    speech: list[str]
    filmed: list[str]
    labels: list[str]
    gestures: str | None = None

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
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> Path:
    """Train all parts of a model and assemble them in OUT/model; returns that folder.

    recipe: "tiny" or a file with a section for each of `STEPS` and [clips]. change: applied to the loop's settings of
    every step. clips: how many are coded, by default as the recipe says. Another call with the same arguments goes on
    where this one was stopped. Raises TrainingError where something is missing or `out` belongs to another recipe or
    material, and what the stages raise.
    """
    out = Path(out)
    material.check()
    plans = {step.name: read_recipe(step.recipe or recipe, step.stage) for step in STEPS}
    count, settings = read_clips(recipe)
    with lock_run(out, join_processes("cpu")):
        _claim(out, {"recipe": recipe, **dataclasses.asdict(material), "clips": clips or count})
        for step in STEPS:
            loop, own = plans[step.name]
            loop = change(loop)
            if step.name == "hear":
                _code_clips(out, material, clips or count, settings, loop.seed, progress)
            if not _is_done(out / step.name, loop.steps):
                _train_step(step, out, material, loop, own, progress, notify)
        runs = {part: str(out / step) for part, step in _PARTS.items()}
        assemble(out / MODEL, recipe=recipe, **runs)  # type: ignore[arg-type]
    return out / MODEL


_PARTS = {"network": "2", "codec": "close", "speech": "audio", "detector": "detector", "lips": "lips"}
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
    sources = Sources(material.stills, material.speech, str(out / CLIPS), material.filmed, material.labels)
    init = str(out / step.init) if step.init else None
    stage = build_stage(step.stage, sources, dict(settings), init, loop.seed, notify, out / step.name)

    def tell(done: int, of: int, values: dict[str, float]) -> None:
        if progress:
            progress(step.name, done, of, values)

    train(stage, out / step.name, loop, tell)


def _code_clips(
    out: Path, material: Material, count: int, settings: dict[str, Any], seed: int, progress: Progress | None
) -> None:
    """Code the clips that the network learns from, with the codec and the speech encoder of the steps before."""
    if len(list((out / CLIPS).glob("*x*/*.safetensors"))) >= count:
        return
    encoder, _ = load_clip_encoder("tiny", str(out / "codec"), str(out / "audio"))
    made = ClipGenerator(
        People(material.stills, settings["drawn"]),
        SpeechLibrary(material.speech),
        seed,
        settings["frames"],
        load_gestures(material.gestures) if material.gestures else None,
        heads=settings["heads"],
        listener=encoder.speech,  # type: ignore[arg-type]
    )
    claim(out / CLIPS, {"frames": settings["frames"], "seed": seed})
    for done in encode_made(made, out / CLIPS, encoder, range(count)):
        if progress:
            progress(CLIPS, done, count, {})


def _is_done(run: Path, steps: int) -> bool:
    """Whether an earlier call finished a step."""
    try:
        return int(json.loads((run / "last" / STATE).read_text())["step"]) >= steps
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _claim(out: Path, facts: dict[str, Any]) -> None:
    """Save in `out` what the model is made of. Raises TrainingError where it is another model's folder."""
    file = out / PLAN
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise TrainingError(f"{file}: damaged ({error}); choose another folder") from None
        if changed := [name for name, value in facts.items() if before.get(name) != value]:
            raise TrainingError(f"{out}: a model of other {', '.join(changed)}; use those, or another folder")
        return
    file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

"""Recipes: from a stage's name and a recipe file to a stage that `loop.train` can run."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cyberhost_model.lab.training.stages  # noqa: F401  it registers the stages
from cyberhost_model.config import Ablations, Preset, SamplingConfig, preset
from cyberhost_model.errors import InputError, TrainingError
from cyberhost_model.lab.training.init import load_weights
from cyberhost_model.lab.training.registry import SOURCES, Sources, StageInputs, require, stage_spec
from cyberhost_model.lab.training.settings import LoopConfig, check_types
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.reading import Unreadable, build, convert, is_file, one_line, parse_toml, read_toml, short

HERE = Path(__file__).parent
DEFAULT = "tiny"
SHARED = ("loop", "sampling", "clips")
"""Tables of a recipe that are no stage's."""
CLIPS = {"count": 2000, "frames": 32, "drawn": 0.3, "heads": 0.0, "reaching": 0.0, "filmed": False}
"""Settings of a recipe's table [clips]: how many made clips a whole model learns from, their frames, shares of drawn
people, of heads and of hands that reach out; and whether clips of filmed people that speak join them, which wants a
codec that learned them.
"""


def find_recipe(name: str | Path | None) -> Path:
    """Find a recipe's file: one of the package by its name ("tiny", "sd15"), or a path."""
    name = name or DEFAULT
    own = HERE / f"{name}.toml"
    return own if Path(name).suffix == "" and is_file(own) else Path(name)


def read_recipe(name: str | Path | None, stage: str, changes: Sequence[str] = ()) -> tuple[LoopConfig, dict[str, Any]]:
    """Read the loop's settings for `stage`, and the stage's own.

    changes: see `change_recipe`. Raises InputError for a file that is not there and TrainingError for one that is no
    TOML, unknown names and values of other kinds.
    """
    path, recipe = _parse(name)
    recipe = change_recipe(recipe, changes)
    if stage not in recipe:
        stages = ", ".join(key for key in recipe if key not in SHARED)
        raise TrainingError(f"{path}: has no section [{stage}]; it has {stages}")
    if not isinstance(recipe[stage], dict) or not isinstance(recipe.get("loop", {}), dict):
        raise TrainingError(f"{path}: [{stage}] and [loop] must be tables of settings")
    own = {**recipe.get("loop", {}), **recipe[stage]}
    names = {f.name for f in dataclasses.fields(LoopConfig)}
    known = names | stage_spec(stage).settings
    if unknown := [name for name in own if name not in known]:
        raise TrainingError(f"{path}: unknown setting {unknown[0]!r} in section [{stage}]")
    if "steps" not in own:
        raise TrainingError(f"{path}: section [{stage}] does not say how many steps")
    config = LoopConfig(**{k: v for k, v in own.items() if k in names})
    check_types(config, f"{path}, [{stage}]: ")
    return config, {k: v for k, v in own.items() if k not in names}


def change_recipe(recipe: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Replace settings of a recipe by "section.name=value", the value as in a recipe's file; the recipe stays.

    A name may go on into tables ("2.driving.hands=0.5"). Raises InputError for one of another form.
    """
    changed = copy.deepcopy(recipe)
    for change in changes:
        names, equals, text = change.partition("=")
        section, *path = names.strip().split(".")
        if not equals or not section or not path or not all(path):
            raise InputError(f"{change!r} is no setting; write SECTION.NAME=VALUE, for example 2.batch=4")
        try:
            value = parse_toml(f"value = {text.strip()}")["value"]
        except Unreadable:
            value = text.strip()  # a word needs no quotes
        place = changed
        for name in (section, *path[:-1]):
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise InputError(f"{change!r}: {name} is no table of settings")
        place[path[-1]] = value
    return changed


def read_sampling(name: str | Path | None, sampling: SamplingConfig) -> SamplingConfig:
    """Replace entries of `sampling` by those of a recipe's table [sampling].

    Raises InputError for a file that cannot be read and TrainingError for unknown or impossible entries.
    """
    path, recipe = _parse(name)
    try:
        found: SamplingConfig = build(
            SamplingConfig, {**dataclasses.asdict(sampling), **_table(recipe, "sampling")}, "sampling"
        )
        return found
    except Unreadable as error:
        raise TrainingError(f"{path}: unknown or impossible setting in [sampling]: {error}") from error


def read_clips(name: str | Path | None) -> tuple[int, dict[str, Any]]:
    """Read a recipe's table [clips] -> how many, and the other settings of CLIPS.

    Raises InputError for a file that cannot be read and TrainingError for unknown names.
    """
    path, recipe = _parse(name)
    try:
        given = _table(recipe, "clips")
        if unknown := [name for name in given if name not in CLIPS]:
            raise Unreadable(f"unknown setting {short(unknown[0])}")
        for name, value in given.items():
            kind = type(CLIPS[name])
            convert(kind, value, name)
            if kind is not bool and not 0 <= value <= (1 if kind is float else 10_000_000):
                raise Unreadable(f"{name} = {short(value)} is impossible")
    except Unreadable as error:
        raise TrainingError(f"{path}: [clips] must be a table of {', '.join(CLIPS)}: {error}") from error
    settings = {**CLIPS, **given}
    return int(settings.pop("count")), settings


def _table(recipe: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a table of a recipe, empty where it has none. Raises Unreadable."""
    found: dict[str, Any] = convert(dict[str, Any], recipe.get(name, {}), name)
    return found


class RecipeError(TrainingError, InputError):
    """A recipe's file that is no TOML."""


def _parse(name: str | Path | None) -> tuple[Path, dict[str, Any]]:
    """Find and parse a recipe."""
    path = find_recipe(name)
    try:
        return path, read_toml(path)
    except OSError as error:
        raise InputError(
            f"{path}: not a training recipe ({one_line(error)}); see docs/reference/training.md"
        ) from error
    except Unreadable as error:
        raise RecipeError(f"{path}: not a training recipe ({error}); see docs/reference/training.md") from error


def stage_settings(stage: str, settings: dict[str, Any]) -> tuple[Preset, Any, list[str]]:
    """Turn a recipe's settings of a stage into the network's preset, the stage's configuration and frozen parts.

    The preset has the ablations of the settings. Raises TrainingError for unknown settings.
    """
    spec = stage_spec(stage)
    if unknown := [name for name in settings if name not in spec.settings]:
        raise TrainingError(f"unknown setting {unknown[0]!r} in the recipe's section [{stage}]")
    network = {name: settings[name] for name in settings if name in spec.network}
    own = {name: settings[name] for name in settings if name not in spec.network}
    try:
        shape = preset(convert(str, network.get("preset", "tiny"), "preset"))
        ablations = {
            **dataclasses.asdict(shape.ablations),
            **convert(dict[str, bool], network.get("ablations", {}), "it"),
        }
        shape = dataclasses.replace(shape, ablations=build(Ablations, ablations, "ablations"))
        frozen = convert(list[str], network.get("frozen", []), "frozen")
        slow_noise = convert(float, network.get("slow_noise", shape.diffusion.slow_noise), "slow_noise")
        shape = dataclasses.replace(
            shape,
            pose_shift=convert(bool, network.get("pose_shift", shape.pose_shift), "pose_shift"),
            diffusion=dataclasses.replace(shape.diffusion, slow_noise=slow_noise),
        )
        made = spec.config(**own)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"unknown setting in the recipe's section [{stage}]: {error}") from error
    check_types(made, f"[{stage}]: ")
    return shape, made, frozen


def build_stage(
    stage: str,
    sources: Sources,
    settings: dict[str, Any],
    init: str | None = None,
    seed: int = 0,
    notify: Callable[[str], None] | None = None,
    run: str | Path | None = None,
) -> Stage:
    """Build a stage, ready to train.

    init: where its weights come from (`init.read_weights`). notify: called with a line about weights that were not
    found or not used. run: the run's folder; where it has a checkpoint, the weights come from there, and what `init`
    names need not be there any more (a teacher still must). Raises TrainingError when material is missing.
    """
    spec = stage_spec(stage)
    for name in spec.sources:
        require(getattr(sources, name), *SOURCES[name])
    if spec.needs_init:
        require(init, "--init", spec.needs_init)
    weights = init
    if run is not None and not spec.needs_init and (Path(run) / "last").is_dir():
        weights, init = str(run), None
    shape, config, frozen = stage_settings(stage, settings)
    built = spec.build(StageInputs(stage, sources, config, shape, frozen, init, weights, seed))
    if init and not spec.needs_init and not spec.own_init:
        loaded = load_weights(built.module, init)
        for names, what in (
            (loaded.missing, "weights that it has not begin afresh"),
            (loaded.unused, "of its weights have no place here"),
        ):
            if names and notify:
                notify(f"{init}: {len(names)} {what} ({', '.join(network_parts(names))})")
    return built


def network_parts(names: list[str]) -> list[str]:
    """List the parts of a network that weights belong to.

    "denoising_unet.regions" for "denoising_unet.regions.hands.0.weight".
    """
    return sorted({".".join(name.split(".")[: 2 if name.startswith("denoising_unet.") else 1]) for name in names})

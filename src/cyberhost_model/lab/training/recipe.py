"""From a stage's name and a recipe file to something `loop.train` can run."""

from __future__ import annotations

import dataclasses
import fnmatch
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from cyberhost_model.config import Ablations, Preset, SamplingConfig, preset
from cyberhost_model.errors import InputError, TrainingError
from cyberhost_model.lab.filmed.manifest import held_out
from cyberhost_model.lab.training.clips import find_clips
from cyberhost_model.lab.training.init import as_taught, named_shapes, start_from, taught_preset
from cyberhost_model.lab.training.settings import LoopConfig, check_types
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.lab.training.stages.clip import ClipStage, ClipStageConfig, build_network
from cyberhost_model.lab.training.stages.distill import DistillStage, DistillStageConfig
from cyberhost_model.lab.training.stages.pose import PoseStage, PoseStageConfig
from cyberhost_model.model.network import CyberHostNetwork

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
DEFAULT = "tiny"
SHARED = ("loop", "sampling")
"""Tables of a recipe that are no stage's."""
STAGES = ("codec", "audio", "detector", "lips", "1", "pose", "2", "distill")
OTHER = {
    "codec": {"drawn", "decoder_only", "close"},
    "audio": set(),
    "detector": {"drawn"},
    "lips": {"drawn", "puppets"},
}
"""What stages that train no network know besides the loop's settings; the others have dataclasses of their own."""


@dataclass
class Sources:
    """Where training material lies: folders of labelled stills, a folder of speech, a folder of coded clips."""

    stills: list[str] = field(default_factory=list)
    speech: str | None = None
    clips: str | None = None


def find_recipe(name: str | Path | None) -> Path:
    """A recipe's file: one of the package by its name ("tiny", "sd15"), or a path."""
    name = name or DEFAULT
    own = HERE / f"{name}.toml"
    return own if Path(name).suffix == "" and own.is_file() else Path(name)


def read_recipe(name: str | Path | None, stage: str) -> tuple[LoopConfig, dict[str, Any]]:
    """The loop of `stage` and its other settings.

    Raises InputError for a file that cannot be read and TrainingError for unknown names.
    """
    path, recipe = _parse(name)
    if stage not in recipe:
        stages = ", ".join(key for key in recipe if key not in SHARED)
        raise TrainingError(f"{path}: has no section [{stage}]; it has {stages}")
    if not isinstance(recipe[stage], dict) or not isinstance(recipe.get("loop", {}), dict):
        raise TrainingError(f"{path}: [{stage}] and [loop] must be tables of settings")
    own = {**recipe.get("loop", {}), **recipe[stage]}
    names = {f.name for f in dataclasses.fields(LoopConfig)}
    known = names | OTHER.get(stage, {*own})
    if unknown := [name for name in own if name not in known]:
        raise TrainingError(f"{path}: unknown setting {unknown[0]!r} in section [{stage}]")
    if "steps" not in own:
        raise TrainingError(f"{path}: section [{stage}] does not say how many steps")
    config = LoopConfig(**{k: v for k, v in own.items() if k in names})
    check_types(config, f"{path}, [{stage}]: ")
    return config, {k: v for k, v in own.items() if k not in names}


def sampling_of(name: str | Path | None, sampling: SamplingConfig) -> SamplingConfig:
    """`sampling` with the entries of a recipe's table [sampling], which says how its network is sampled.

    Raises InputError for a file that cannot be read and TrainingError for unknown or impossible entries.
    """
    path, recipe = _parse(name)
    try:
        return dataclasses.replace(sampling, **recipe.get("sampling", {}))
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{path}: unknown or impossible setting in [sampling]: {error}") from error


def _parse(name: str | Path | None) -> tuple[Path, dict[str, Any]]:
    path = find_recipe(name)
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not a training recipe ({error}); see docs/reference/training.md") from error


def clip_settings(stage: str, settings: dict[str, Any]) -> tuple[Preset, ClipStageConfig, list[str]]:
    """Preset (with the ablations), configuration and frozen parts of stage 1, 2 or distill.

    Raises TrainingError for unknown settings.
    """
    own = dict(settings)
    switches, frozen = own.pop("ablations", {}), own.pop("frozen", [])
    try:
        shape = preset(own.pop("preset", "tiny")).without(**switches)
        shape = dataclasses.replace(shape, pose_shift=own.pop("pose_shift", shape.pose_shift))
        kind = DistillStageConfig if stage == "distill" else ClipStageConfig
        made = kind(name=stage, **own)
    except TypeError as error:
        raise TrainingError(f"unknown setting in the recipe's section [{stage}]: {error}") from error
    check_types(made, f"[{stage}]: ")
    return shape, made, frozen


def pose_settings(settings: dict[str, Any]) -> tuple[Preset, PoseStageConfig]:
    """Preset and configuration of stage pose. Raises TrainingError for unknown settings."""
    own = dict(settings)
    shape = dataclasses.replace(preset(own.pop("preset", "tiny")), pose_shift=True)
    try:
        made = PoseStageConfig(**own)
    except TypeError as error:
        raise TrainingError(f"unknown setting in the recipe's section [pose]: {error}") from error
    check_types(made, "[pose]: ")
    return shape, made


def build_stage(
    stage: str,
    sources: Sources,
    settings: dict[str, Any],
    init: str | None = None,
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
    run: str | Path | None = None,
) -> Stage:
    """The stage, ready to train; `init` is where its weights begin (`initial.beginning`), and `tell` hears what did
    not travel.

    run: the run's folder. Where it has a checkpoint, that is where the weights come from, and what `init` named need
    not be there any more; the teacher of stage distill is still needed.

    Raises TrainingError when material is missing.
    """
    taught = init
    if run is not None and stage != "distill" and (Path(run) / "last").is_dir():
        taught, init = str(run), None
    if stage in ("1", "2"):
        clips = _needed(sources.clips, "--data", "coded clips (cyberhost data encode)")
        shape, config, frozen = clip_settings(stage, settings)
        find_clips(clips, shape, config.frames)  # before a network of gigabytes is made for nothing
        built: Stage = ClipStage(clips, build_network(as_taught(shape, taught) if taught else shape, seed), config)
        freeze(built.module, frozen)
    elif stage == "pose":
        clips = _needed(sources.clips, "--data", "coded clips (cyberhost data encode)")
        shape, follow = pose_settings(settings)
        find_clips(clips, shape, follow.frames)
        built = PoseStage(clips, build_network(as_taught(shape, taught) if taught else shape, seed), follow)
    elif stage == "distill":
        clips = _needed(sources.clips, "--data", "coded clips (cyberhost data encode)")
        teacher = _needed(init, "--init", "the network to distil (a run, a model or a safetensors file)")
        shape, config, frozen = clip_settings(stage, settings)
        shape = taught_preset(teacher) or shape
        find_clips(clips, shape, config.frames)
        network = build_network(shape, seed)
        start_from(network, teacher)  # before the stage, which keeps the teacher as it is now
        built = DistillStage(clips, network, config)  # type: ignore[arg-type]
        freeze(built.module, frozen)
        return built
    elif stage == "codec":
        from cyberhost_model.codecs.reference import ReferenceCodec
        from cyberhost_model.lab.synthetic.people import People
        from cyberhost_model.lab.training.stages.codec import CodecStage

        _needed(sources.stills, "--stills", "labelled pictures")
        people = People(sources.stills, drawn=settings.get("drawn", 0.15))
        built = CodecStage(
            people,
            ReferenceCodec() if taught else None,
            settings.get("decoder_only", False),
            settings.get("close", 0.0),
        )
    elif stage == "audio":
        from cyberhost_model.lab.training.stages.audio import AudioStage, speech_files

        built = AudioStage(speech_files(_needed(sources.speech, "--speech", "16 kHz speech"), held=False))
    elif stage in ("detector", "lips"):
        from cyberhost_model.lab.synthetic.drawn import drawn_still
        from cyberhost_model.lab.synthetic.stills import load_stills
        from cyberhost_model.lab.training.stages.detector import DetectorStage
        from cyberhost_model.lab.training.stages.lips import LipsStage

        folders = _needed(sources.stills, "--stills", "labelled pictures")
        stills = [s for folder in folders for s in load_stills(folder) if not held_out(s.identity)]
        drawn = [drawn_still(seed * 1_000_000 + i, (384, 384)) for i in range(settings.get("drawn", 0))]
        built = (
            DetectorStage(stills, drawn)
            if stage == "detector"
            else LipsStage(stills, drawn, settings.get("puppets", 8), seed=seed)
        )
    else:
        raise TrainingError(f"there is no stage {stage!r}; choose one of {', '.join(STAGES)}")
    if init:
        started = start_from(built.module, init)
        for names, what in (
            (started.fresh, "weights that it has not begin afresh"),
            (started.left, "of its weights have no place here"),
        ):
            if names and tell:
                tell(f"{init}: {len(names)} {what} ({', '.join(parts_of(names))})")
    return built


def parts_of(names: list[str]) -> list[str]:
    """The parts of a network that weights belong to: "denoising_unet.regions" of
    "denoising_unet.regions.hands.0.weight".
    """
    return sorted({".".join(name.split(".")[: 2 if name.startswith("denoising_unet.") else 1]) for name in names})


def freeze(module: nn.Module, patterns: list[str]) -> None:
    """Leave parameters out of training whose names fit one of the shell patterns.

    Raises TrainingError for a pattern that fits none, neither of this network nor of the whole one that it was ablated
    from.
    """
    names = dict(module.named_parameters())
    elsewhere: list[str] = []
    if isinstance(module, CyberHostNetwork) and module.preset.ablations != Ablations():
        elsewhere = list(named_shapes(dataclasses.replace(module.preset, ablations=Ablations())))
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found and not fnmatch.filter(elsewhere, pattern):
            raise TrainingError(f"frozen = {pattern!r} fits no parameter of this stage")
        for name in found:
            names[name].requires_grad_(False)


def _needed(value: Any, option: str, what: str) -> Any:
    if not value:
        raise TrainingError(f"this stage needs {option}: {what}")
    return value

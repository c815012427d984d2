"""From a stage's name and a recipe file to something `loop.train` can run."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..data.splits import held_out
from ..errors import InputError, TrainingError
from ..presets import preset
from .clip_stage import ClipStage, ClipStageConfig, build_network
from .loop import LoopConfig, Stage

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT = Path(__file__).with_name("tiny.toml")
STAGES = ("codec", "audio", "detector", "1", "2")


@dataclass
class Sources:
    """Where training material lies: folders of labelled stills, a folder of speech, a folder of coded clips."""

    stills: list[str] = field(default_factory=list)
    speech: str | None = None
    clips: str | None = None


def read_recipe(path: str | Path | None, stage: str) -> tuple[LoopConfig, dict[str, Any]]:
    """The loop of `stage` and its other settings. Raises InputError for a file that cannot be read and TrainingError for unknown names."""
    path = Path(path) if path else DEFAULT
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not a training recipe ({error}); see docs/training.md") from error
    if stage not in recipe:
        raise TrainingError(f"{path}: has no section [{stage}]; it has {', '.join(k for k in recipe if k != 'loop')}")
    own = {**recipe.get("loop", {}), **recipe[stage]}
    names = {f.name for f in dataclasses.fields(LoopConfig)}
    return LoopConfig(**{k: v for k, v in own.items() if k in names}), {k: v for k, v in own.items() if k not in names}


def build_stage(stage: str, sources: Sources, settings: dict[str, Any], init: str | None = None, seed: int = 0) -> Stage:
    """The stage, ready to train; `init` is a run's folder or a safetensors file it starts from. Raises TrainingError when material is missing."""
    if stage in ("1", "2"):
        clips = _needed(sources.clips, "--data", "coded clips (cyberhost data encode)")
        network = build_network(preset(settings.pop("preset", "tiny")).without(**settings.pop("ablations", {})), seed)
        try:
            config = ClipStageConfig(name=stage, **settings)
        except TypeError as error:
            raise TrainingError(f"unknown setting in the recipe's section [{stage}]: {error}") from error
        built: Stage = ClipStage(clips, network, config)
    elif stage == "codec":
        from ..data.people import People
        from .codec_stage import CodecStage

        _needed(sources.stills, "--stills", "labelled pictures")
        built = CodecStage(People(sources.stills, drawn=settings.get("drawn", 0.15)))
    elif stage == "audio":
        from .audio_stage import AudioStage, speech_files

        built = AudioStage(speech_files(_needed(sources.speech, "--speech", "16 kHz speech"), held=False))
    elif stage == "detector":
        from ..data.drawn import drawn_still
        from ..data.stills import load_stills
        from .detector_stage import DetectorStage

        folders = _needed(sources.stills, "--stills", "labelled pictures")
        stills = [s for folder in folders for s in load_stills(folder) if not held_out(s.identity)]
        built = DetectorStage(stills, [drawn_still(seed * 1_000_000 + i, (384, 384)) for i in range(settings.get("drawn", 0))])
    else:
        raise TrainingError(f"there is no stage {stage!r}; choose one of {', '.join(STAGES)}")
    if init:
        _start_from(built.module, Path(init))
    return built


def _needed(value: Any, option: str, what: str) -> Any:
    if not value:
        raise TrainingError(f"this stage needs {option}: {what}")
    return value


def _start_from(module: nn.Module, path: Path) -> None:
    """Weights of a run (its EMA) or of a safetensors file; every key must fit."""
    file = path / "last" / "ema.safetensors" if path.is_dir() else path
    try:
        module.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(f"{path}: cannot start from it ({str(error).splitlines()[0]}); give a run of the same preset") from error

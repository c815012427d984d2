"""The registry of training stages.

A stage is a file that registers its builder, the dataclass of its settings and the sources it needs. `recipe` reads
those settings from a recipe and calls the builder. A file outside this package may register a stage as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cyberhost_model.config import Preset
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.stage import Stage

NETWORK_SETTINGS = ("preset", "pose_shift", "slow_noise", "ablations", "frozen")
"""Settings of a stage that trains a `CyberHostNetwork`, beside those of its dataclass."""


@dataclass
class Sources:
    """Where training material lies: folders of labelled stills, speech, filmed people and labels; encoded clips."""

    stills: list[str] = field(default_factory=list)
    speech: list[str] = field(default_factory=list)
    clips: str | list[str] | None = None
    """One folder, or several with their shares (`clips.clip_shares`)."""
    filmed: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


SOURCES = {
    "stills": ("--stills", "labelled pictures"),
    "speech": ("--speech", "16 kHz speech"),
    "clips": ("--data", "coded clips (cyberhost data encode)"),
    "filmed": ("--filmed", "clips of filmed people (cyberhost data prepare)"),
    "labels": ("--labels", "phonemes of the speech and lips of the filmed people"),
}
"""Field of `Sources` -> the option that names it, and what it holds."""


@dataclass
class StageInputs:
    """What a builder makes its stage from."""

    name: str
    """The name the stage is registered under."""
    sources: Sources
    config: Any
    """The stage's settings, an instance of its dataclass."""
    preset: Preset
    """Of the network, for stages that train one."""
    frozen: list[str]
    """Shell patterns of the names of parameters that do not train."""
    init: str | None
    """Where the weights are loaded from: `init.load_weights` does it after the builder, unless `needs_init` or
    `own_init`.
    """
    weights: str | None
    """The run or model whose weights the stage will have: `init`, or the run itself where it goes on."""
    seed: int

    @property
    def clips(self) -> str | list[str]:
        """The folders of encoded clips."""
        assert self.sources.clips is not None
        return self.sources.clips


@dataclass(frozen=True)
class StageSpec:
    """A registered stage."""

    name: str
    config: type
    build: Callable[[StageInputs], Stage]
    sources: tuple[str, ...]
    """Fields of `Sources` that must be given."""
    network: tuple[str, ...]
    """Those of `NETWORK_SETTINGS` that a recipe may give."""
    needs_init: str
    """What `init` is, for a stage whose builder loads it, always; "": `init` is optional."""
    own_init: bool = False
    """Whether the builder loads `init` itself where it is given."""

    @property
    def settings(self) -> set[str]:
        """Names a recipe's section may have beside those of `LoopConfig`."""
        return {entry.name for entry in dataclasses.fields(self.config) if entry.name != "name"} | {*self.network}


STAGES: dict[str, StageSpec] = {}
"""Registered stages by name."""


def register_stage(
    name: str,
    config: type,
    sources: tuple[str, ...] = (),
    network: tuple[str, ...] = (),
    needs_init: str = "",
    own_init: bool = False,
) -> Callable[[Callable[[StageInputs], Stage]], Callable[[StageInputs], Stage]]:
    """Register the decorated builder as the stage `name`; see `StageSpec` for the other arguments."""

    def register(build: Callable[[StageInputs], Stage]) -> Callable[[StageInputs], Stage]:
        STAGES[name] = StageSpec(name, config, build, sources, network, needs_init, own_init)
        return build

    return register


def stage_spec(name: str) -> StageSpec:
    """Return the stage of that name. Raises TrainingError where there is none."""
    if name not in STAGES:
        raise TrainingError(f"there is no stage {name!r}; choose one of {', '.join(STAGES)}")
    return STAGES[name]


def require(value: Any, option: str, what: str) -> None:
    """Raise TrainingError where a value that a stage needs was not given by its option."""
    if not value:
        raise TrainingError(f"this stage needs {option}: {what}")

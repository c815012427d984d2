"""A video as a command with inputs and options by name: as the command line, lists, records and servers ask for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyberhost_model.config import DenoisingConfig, GenerationConfig

if TYPE_CHECKING:
    from cyberhost_model.runtime.pipeline import Animation, CyberHost

OWN: dict[str, dict[str, Any]] = {
    "animate": {"body_movement": None, "gestures": None, "loop": False},
    "reenact": {"retarget": True},
    "multimodal": {"retarget": True, "body_movement": None},
    "dub": {"length": "film"},
}
"""Options of each command beside those of its configuration, with their defaults."""
_OPTIONAL_INPUTS: dict[str, dict[str, Any]] = {"reenact": {"audio": "keep"}, "multimodal": {"hands": None}}


def config_of(command: str) -> type[DenoisingConfig]:
    """Return the class of a command's configuration."""
    return DenoisingConfig if command == "dub" else GenerationConfig


def numbered(name: str, files: Sequence[Path]) -> dict[str, Path]:
    """Give each of several files a name: the first has `name`, the second "`name` 2"."""
    return {name if number == 1 else f"{name} {number}": file for number, file in enumerate(files, 1)}


@dataclass(frozen=True)
class NamedJob:
    """A video that was asked for. `command` is a method of `CyberHost`."""

    command: str
    inputs: Mapping[str, Path | str | list[Path] | None]
    """By the method's names: paths, and words such as the name of a gesture; "audio" of `reenact` may be "none",
    "picture" may be several.
    """
    options: Mapping[str, Any]
    """Keywords of the method; those that are left out have their defaults."""

    def begin(self, host: CyberHost) -> Animation:
        """Begin the video. Raises InputError and NoFaceError."""
        inputs = dict(self.inputs)
        if self.command == "reenact" and inputs.get("audio") == "none":
            inputs["audio"] = None
        method: Callable[..., Animation] = getattr(host, self.command)
        return method(**inputs, **self.options)

    def facts(self, host: CyberHost) -> dict[str, str] | None:
        """Describe what the frames depend on (`resume.facts_of`): the same for the same video, whoever asks for it.

        None where an input cannot be read a second time (a pipe): then nothing can be kept.
        """
        from cyberhost_model.runtime.resume import facts_of  # late: lists of jobs are read without torch

        kind = config_of(self.command)
        named = {entry.name: str(entry.type) for entry in fields(kind)}
        given = {name: value for name, value in self.options.items() if name in named}
        for name, value in given.items():
            if isinstance(value, int) and named[name].startswith("float"):
                given[name] = float(value)  # 25 frames a second are 25.0
        settings = asdict(kind(**given))
        own = {name: self.options.get(name, default) for name, default in OWN[self.command].items()}
        inputs = {**_OPTIONAL_INPUTS.get(self.command, {}), **self.inputs}
        if isinstance(pictures := inputs.get("picture"), list):
            inputs |= numbered("picture", pictures)
        where = {"model": host.folder_digest, "device": host.device.type, "precision": str(host.dtype)}
        try:
            return facts_of(command=self.command, **inputs, **settings, **own, **where)
        except OSError:
            return None

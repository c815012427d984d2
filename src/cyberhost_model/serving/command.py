"""The command that makes the video of a job on a machine of one's own."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import Any

from cyberhost_model.config import RuntimeConfig
from cyberhost_model.media.output_form import colour_of
from cyberhost_model.options import options_of
from cyberhost_model.serving.making import BACKGROUND, PICTURE, SOUND, SUBTITLES
from cyberhost_model.serving.settings import ServedModel, VideoOptions
from cyberhost_model.serving.store import VideoJob


def command_of(job: VideoJob, model: ServedModel) -> str:
    """Write the command line: options that differ from their defaults, and the client's own names of the files."""
    picture, sound, gesture = job.names[PICTURE], job.names[SOUND], job.options.get("gesture")
    if gesture is None:
        words = ["animate", _file(picture), _file(sound)]
    else:
        words = ["multimodal", _file(picture), "--audio", _file(sound), "--hands", gesture]
    options = {name: value for name, value in job.options.items() if name != "gesture"}
    if gesture is not None:
        options.pop("body_movement", None)  # a gesture moves the body
    for field, flag in ((BACKGROUND, "--background"), (SUBTITLES, "--subtitles")):
        if field in job.names:
            words += [flag, _file(job.names[field])]
    words += ["-o", job.video, *flags(VideoOptions, options)]
    words += flags(RuntimeConfig, {"model": model.name, **model.options})
    return shlex.join(["cyberhost", *words])


def flags(kind: type, values: dict[str, Any]) -> list[str]:
    """Write the options of a dataclass as the command line takes them, leaving out defaults."""
    rules, defaults = options_of(kind), {entry.name: entry.default for entry in fields(kind)}
    words: list[str] = []
    for name, value in values.items():
        if value is None or value == defaults[name]:
            continue
        flag = next(iter(rules[name].flags), f"--{name.replace('_', '-')}")
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag.removeprefix('--')}")
        else:
            words += [
                flag,
                ",".join(f"{number:g}" for number in value) if isinstance(value, list | tuple) else f"{value}",
            ]
    return words


def _file(name: str) -> str:
    """Write the name of a file so that it is neither an option nor a colour."""
    return f"./{name}" if name.startswith("-") or colour_of(name) is not None else name

"""Settings of a server, and the options of a video that it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyberhost_model.config import GenerationConfig, LivePace
from cyberhost_model.errors import InputError, printable
from cyberhost_model.media.output_form import colour_of
from cyberhost_model.options import check_options, option

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""


@dataclass(frozen=True)
class ServingConfig:
    """Where a server listens, and its limits. Raises InputError for a value out of its bounds."""

    port: int = option(8000, "Port to listen on.", metavar="N", min=0, max=65535)
    host: str = option(
        LOOPBACK[0], "Address to listen on; another than this machine's own needs a token.", metavar="ADDRESS"
    )
    token: str | None = option(
        None, "What clients must send as Authorization: Bearer TOKEN. [default: CYBERHOST_TOKEN]", metavar="TOKEN"
    )
    folder: Path | None = option(
        None, "Where jobs and their videos are kept. [default: a folder of the user's data]", metavar="DIR"
    )
    keep_hours: float = option(24.0, "Hours until a finished video is removed.", metavar="H", min=0.01, max=87600)
    max_upload: int = option(64, "Largest upload, all its files together, in MiB.", metavar="MB", min=1, max=65536)
    max_seconds: float = option(300.0, "Longest speech in seconds.", metavar="S", min=1, max=86400)
    max_size: int = option(1024, "Largest size that may be asked for.", metavar="SIZE", min=64, max=2048)
    max_steps: int = option(100, "Most denoising steps that may be asked for.", metavar="N", min=1, max=1000)
    max_waiting: int = option(
        16, "Jobs that may wait; more are refused until one is done.", metavar="N", min=1, max=100_000
    )
    max_uploads: int = option(8, "Uploads that are received at the same time.", metavar="N", min=1, max=10_000)
    max_sessions: int = option(
        1, "Live sessions at the same time; 0 is none. Videos wait for them.", metavar="N", min=0, max=16
    )
    max_live: float = option(3600.0, "Longest live session, in seconds of sound.", metavar="S", min=1, max=86400)

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def upload_bytes(self) -> int:
        """Value of `max_upload` in bytes."""
        return self.max_upload << 20

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        return self.host in LOOPBACK


@dataclass(frozen=True)
class SpeakingOptions(GenerationConfig):
    """The options of a picture that speaks: those of every command, and what `animate` and `live` have beside them."""

    body_movement: float | None = option(
        None, "How far the body moves: 0 in place, 1 lively. [default: 0.1]", metavar="X", min=0, max=1
    )
    gestures: bool | None = option(
        None, "Whether hands that the picture shows gesture with the speech. [default: the model's]"
    )


def parse_colour(text: str) -> str:
    """Check a colour as CSS writes it and return it as it is. Raises InputError: a path is none, and is not read."""
    if colour_of(text) is None:
        raise InputError(f"background must be a colour (green, #00b140), not {printable(text)[:60]!r}")
    return text


@dataclass(frozen=True)
class VideoOptions(SpeakingOptions):
    """The options of one video."""

    gesture: str | None = option(None, "A gesture for the hands: the name of one that comes along.", metavar="NAME")
    loop: bool = option(False, "The end leads into the beginning; with a silent sound a clip of idle movement.")
    alpha: bool = option(False, "Leave the background out: the video is a WebM (VP9 with alpha).")
    background: str | None = option(
        None, "Put the person before a colour (green, #00b140).", metavar="COLOUR", parse=parse_colour
    )


@dataclass(frozen=True)
class SessionOptions(LivePace, SpeakingOptions):
    """The options of one live session."""


@dataclass(frozen=True)
class ServedModel:
    """What clients may know of the model: its name, without the path of a folder, and what it is started with."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the command line that change its frames, `precision` for example."""
    signed: bool = False
    """Every video has to be signed."""

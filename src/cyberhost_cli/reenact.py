"""`cyberhost reenact`: the picture moves as the person in a video does."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink
from cyberhost_cli.settings import Out, Ref, Running, Settings

if TYPE_CHECKING:
    from cyberhost_model.runtime.pipeline import Animation, CyberHost


@spread
def reenact(
    ref: Ref,
    driving: Annotated[Path, typer.Argument(metavar="DRIVING", help="Video of one person, or a key point file.")],
    output: Out,
    settings: Settings,
    *,
    audio: Annotated[
        str, typer.Option(metavar="keep|none|FILE", help="The driving video's sound, none, or another one.")
    ] = "keep",
    retarget: Annotated[
        bool, typer.Option("--retarget/--no-retarget", help="Bring the motion to the proportions in REF.")
    ] = True,
    running: Running,
    sink: Sink,
) -> None:
    """Make the person in the picture REF move as the person in DRIVING.

    The video lasts as long as DRIVING. What is heard moves the lips.
    """
    started = time.monotonic()
    sink.hush_libraries()
    from cyberhost_model.media.audio import load_audio
    from cyberhost_model.media.image import load_picture

    target = running.check_output(output, ref, driving, *([] if audio in ("keep", "none") else [Path(audio)]))
    picture = load_picture(ref)
    sound = audio if audio == "keep" else None if audio == "none" else load_audio(audio)

    def start(host: CyberHost) -> Animation:
        with sink.progress("reading the driving", None) as tick:
            return host.reenact(picture, driving, audio=sound, retarget=retarget, progress=tick, **asdict(settings))

    running.make(start, target, ref, settings, sink, started, setting="reenact")

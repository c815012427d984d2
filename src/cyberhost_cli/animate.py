"""`cyberhost animate`: checks everything that can fail early, then calls the library once."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink
from cyberhost_cli.settings import SPEECH, Out, Ref, Running, Settings


@spread
def animate(
    ref: Ref,
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help=SPEECH)],
    output: Out,
    settings: Settings,
    *,
    body_movement: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, max=1, help="How far the body moves: 0 in place, 1 lively. [default: 0.1]"),
    ] = None,
    running: Running,
    sink: Sink,
) -> None:
    """Make the person in the picture REF speak AUDIO.

    The video has the picture's aspect and exactly the sound's length.
    """
    started = time.monotonic()
    sink.hush_libraries()

    # Late imports: the parser answers before them, and bad input is named before torch is loaded.
    from cyberhost_model.media.audio import load_audio
    from cyberhost_model.media.image import load_picture

    target = running.check_output(output, ref, audio)
    picture, sound = load_picture(ref), load_audio(audio)
    running.make(
        lambda host: host.animate(picture, sound, body_movement=body_movement, **asdict(settings)), target, ref, settings, sink, started
    )

"""`cyberhost multimodal`: speech moves the head and the lips, a template the hands."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink
from cyberhost_cli.settings import SPEECH, Out, Ref, Running, Settings

if TYPE_CHECKING:
    from cyberhost_model.runtime.pipeline import Animation, CyberHost


@spread
def multimodal(
    ref: Ref,
    audio: Annotated[Path, typer.Option("--audio", metavar="AUDIO", help=SPEECH)],
    hands: Annotated[
        str,
        typer.Option(
            "--hands", metavar="TEMPLATE", help="A gesture's name (cyberhost template list), a key point file or a video."
        ),
    ],
    output: Out,
    settings: Settings,
    *,
    retarget: Annotated[
        bool,
        typer.Option("--retarget/--no-retarget", help="Move the hands to where REF has them, in its proportions."),
    ] = True,
    running: Running,
    sink: Sink,
) -> None:
    """Make the person in the picture REF speak AUDIO while the hands follow TEMPLATE.

    The template is repeated without a jump for as long as the sound lasts.
    """
    started = time.monotonic()
    sink.hush_libraries()
    from cyberhost_model.media.audio import load_audio
    from cyberhost_model.media.image import load_picture

    target = running.check_output(output, ref, audio, Path(hands))
    picture, sound = load_picture(ref), load_audio(audio)

    def start(host: CyberHost) -> Animation:
        with sink.progress("reading the template", None) as tick:
            return host.multimodal(picture, sound, hands, retarget=retarget, progress=tick, **asdict(settings))

    running.make(start, target, ref, settings, sink, started, setting="multimodal")

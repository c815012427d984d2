"""`cyberhost multimodal`: speech moves the head and the lips, a template the hands."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.options import SPEECH, GenerationOptions, JobOptions, Out, Ref, expand_options

if TYPE_CHECKING:
    from cyberhost_model.runtime.pipeline import Animation, CyberHost

# `cyberhost animate`: checks everything that can fail early, then calls the library once.


@expand_options
def animate(
    ref: Ref,
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help=SPEECH)],
    output: Out,
    settings: GenerationOptions,
    *,
    body_movement: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, max=1, help="How far the body moves: 0 in place, 1 lively. [default: 0.1]"),
    ] = None,
    running: JobOptions,
    sink: Console,
) -> None:
    """Make the person in the picture REF speak AUDIO.

    The video has the picture's aspect and exactly the sound's length.
    """
    started = time.monotonic()
    sink.silence_libraries()

    # Late imports: the parser answers before them, and bad input is named before torch is loaded.
    from cyberhost_model.media.audio import load_audio
    from cyberhost_model.media.image import load_picture

    target = running.check_output(output, ref, audio)
    picture, sound = load_picture(ref), load_audio(audio)
    running.make(
        lambda host: host.animate(picture, sound, body_movement=body_movement, **asdict(settings)),
        target,
        ref,
        settings,
        sink,
        started,
    )


# `cyberhost reenact`: the picture moves as the person in a video does.


@expand_options
def reenact(
    ref: Ref,
    driving: Annotated[Path, typer.Argument(metavar="DRIVING", help="Video of one person, or a key point file.")],
    output: Out,
    settings: GenerationOptions,
    *,
    audio: Annotated[
        str, typer.Option(metavar="keep|none|FILE", help="The driving video's sound, none, or another one.")
    ] = "keep",
    retarget: Annotated[
        bool, typer.Option("--retarget/--no-retarget", help="Bring the motion to the proportions in REF.")
    ] = True,
    running: JobOptions,
    sink: Console,
) -> None:
    """Make the person in the picture REF move as the person in DRIVING.

    The video lasts as long as DRIVING. What is heard moves the lips.
    """
    started = time.monotonic()
    sink.silence_libraries()
    from cyberhost_model.media.audio import load_audio
    from cyberhost_model.media.image import load_picture

    target = running.check_output(output, ref, driving, *([] if audio in ("keep", "none") else [Path(audio)]))
    picture = load_picture(ref)
    sound = audio if audio == "keep" else None if audio == "none" else load_audio(audio)

    def start(host: CyberHost) -> Animation:
        with sink.progress("reading the driving", None) as tick:
            return host.reenact(picture, driving, audio=sound, retarget=retarget, progress=tick, **asdict(settings))

    running.make(start, target, ref, settings, sink, started, setting="reenact")


@expand_options
def multimodal(
    ref: Ref,
    audio: Annotated[Path, typer.Option("--audio", metavar="AUDIO", help=SPEECH)],
    hands: Annotated[
        str,
        typer.Option(
            "--hands",
            metavar="TEMPLATE",
            help="A gesture's name (cyberhost template list), a key point file or a video.",
        ),
    ],
    output: Out,
    settings: GenerationOptions,
    *,
    retarget: Annotated[
        bool,
        typer.Option("--retarget/--no-retarget", help="Move the hands to where REF has them, in its proportions."),
    ] = True,
    running: JobOptions,
    sink: Console,
) -> None:
    """Make the person in the picture REF speak AUDIO while the hands follow TEMPLATE.

    The template is repeated without a jump for as long as the sound lasts.
    """
    started = time.monotonic()
    sink.silence_libraries()
    from cyberhost_model.media.audio import load_audio
    from cyberhost_model.media.image import load_picture

    target = running.check_output(output, ref, audio, Path(hands))
    picture, sound = load_picture(ref), load_audio(audio)

    def start(host: CyberHost) -> Animation:
        with sink.progress("reading the template", None) as tick:
            return host.multimodal(picture, sound, hands, retarget=retarget, progress=tick, **asdict(settings))

    running.make(start, target, ref, settings, sink, started, setting="multimodal")

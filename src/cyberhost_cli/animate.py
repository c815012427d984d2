"""`cyberhost animate`: checks everything that can fail early, then calls the library once."""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from cyberhost_cli.output import Sink


class Device(str, Enum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(str, Enum):
    """Numbers the network computes with."""

    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


LOOK = "Look"
RUN = "Running"


def animate(
    ref: Annotated[Path, typer.Argument(metavar="REF", help="Picture of one person: PNG, JPEG or WebP.")],
    audio: Annotated[
        Path, typer.Argument(metavar="AUDIO", help="Speech: WAV, FLAC, MP3, M4A, OGG, or the sound of a video.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The video to write (.mp4).")],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="'tiny' (inside the package), a folder with a model, or a Hub id.")
    ] = "tiny",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Same seed, same video.")] = 0,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=1000, help="Denoising steps a clip. [default: the model's]")
    ] = None,
    fps: Annotated[float, typer.Option(metavar="RATE", min=1, max=60, help="Frames a second.")] = 25.0,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            min=64,
            max=2048,
            help="Side in pixels of a square of the video's area, in steps of the model's working size. "
            "[default: the picture's, at most 512]",
        ),
    ] = None,
    guidance_reference: Annotated[
        float | None,
        typer.Option(metavar="SCALE", min=0, help="Guidance towards the picture. [default: the model's]"),
    ] = None,
    guidance_audio: Annotated[
        float | None,
        typer.Option(metavar="SCALE", min=0, help="Guidance towards the speech. [default: the model's]"),
    ] = None,
    body_movement: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, max=1, help="How far the body moves: 0 in place, 1 lively. [default: 0.1]"),
    ] = None,
    hand_clarity: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, max=1, help="How sharp the hands are asked to be. [default: 0.5]"),
    ] = None,
    head: Annotated[bool, typer.Option("--head", help="Crop to the face first.")] = False,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    precision: Annotated[Precision, typer.Option(help="Numbers to compute with.")] = Precision.auto,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object about the result on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Make the person in the picture REF speak AUDIO.

    The video has the picture's aspect and exactly the sound's length.
    """
    started = time.monotonic()
    sink = Sink(quiet=quiet, as_json=as_json, debug=debug)
    sink.hush_libraries()

    # Late imports: the parser answers before them, and bad input is named before torch is loaded.
    from cyberhost_model.errors import OutputError
    from cyberhost_model.inputs import load_audio, load_picture
    from cyberhost_model.video import check_output

    target = check_output(output, overwrite)
    picture = load_picture(ref)
    sound = load_audio(audio)
    for source in (ref, audio):
        if target.exists() and target.samefile(source):
            raise OutputError(f"{target}: is the input itself; give another name")

    from cyberhost_model import CyberHost

    host = CyberHost.from_pretrained(model, device=device.value, precision=precision.value)
    animation = host.animate(
        picture,
        sound,
        seed=seed,
        steps=steps,
        fps=fps,
        size=size,
        guidance_reference=guidance_reference,
        guidance_audio=guidance_audio,
        body_movement=body_movement,
        hand_clarity=hand_clarity,
        head=head,
    )
    notes = animation.warnings
    for note in notes:
        sink.warn(note)
    with sink.progress("animating", animation.n_frames) as tick:
        path = animation.save(target, overwrite=overwrite, progress=tick)
    seconds = time.monotonic() - started
    width, height = animation.size
    sink.note(
        f"{path}: {animation.n_frames} frames of {width}x{height}, {sound.duration:.2f} s of video "
        f"in {seconds:.1f} s ({animation.n_frames / seconds:.1f} frames a second)"
    )
    sink.data(
        {
            "output": str(path),
            "frames": animation.n_frames,
            "fps": fps,
            "size": [width, height],
            "seconds": round(seconds, 3),
            "duration": round(sound.duration, 6),
            "seed": seed,
            "model": model,
            "warnings": notes,
        }
    )

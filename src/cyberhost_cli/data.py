"""`cyberhost data`: training material made by the project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyberhost_cli.output import Sink

if TYPE_CHECKING:
    from cyberhost_model.data.synth import Synth

app = typer.Typer(help="Make training data.", no_args_is_help=True, rich_markup_mode=None)

Stills = Annotated[list[str] | None, typer.Option(metavar="DIR", help="Labelled pictures; may be repeated.")]
Speech = Annotated[str, typer.Option(metavar="DIR", help="16 kHz speech (FLAC, WAV).")]
Gestures = Annotated[Path | None, typer.Option(metavar="DIR", help="Recorded gestures (.npz); optional.")]
Drawn = Annotated[float, typer.Option(min=0, max=1, help="Share of drawn people; 1 without --stills.")]
Clips = Annotated[int, typer.Option(min=1, help="How many clips.")]
Start = Annotated[int, typer.Option(min=0, help="Number of the first clip.")]
Frames = Annotated[int, typer.Option(min=16, help="Frames a clip, at 25 a second.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same clips.")]
HeldOut = Annotated[bool, typer.Option("--held-out", help="Only people and speakers kept out of training.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command()
def synth(
    speech: Speech,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for videos and labels.")],
    stills: Stills = None,
    gestures: Gestures = None,
    drawn: Drawn = 0.3,
    clips: Clips = 10,
    start: Start = 0,
    frames: Frames = 50,
    seed: Seed = 0,
    held_out: HeldOut = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Videos of photo puppets and drawn people that speak, with exact labels.

    Clip N is N.mp4 with N.png (its reference) and N.npz: key points, flow, boxes, thorax, clarity, mouth opening.
    """
    sink = Sink(quiet=quiet, as_json=as_json, debug=debug)
    sink.hush_libraries()
    from cyberhost_model.data.export import export_clip

    source = _source(speech, stills, gestures, drawn, frames, seed, held_out)
    output.mkdir(parents=True, exist_ok=True)
    with sink.progress("making clips", clips, unit="clips") as tick:
        for done in range(clips):
            export_clip(source.clip(start + done), output, start + done)
            tick(done + 1)
    sink.note(f"{output}: {clips} clips of {frames} frames")
    sink.data({"output": str(output), "clips": clips, "frames": frames, "seed": seed})


@app.command()
def encode(
    speech: Speech,
    codec: Annotated[Path, typer.Option(metavar="RUN", help="Run of stage codec.")],
    audio: Annotated[Path, typer.Option(metavar="RUN", help="Run of stage audio.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the coded clips.")],
    stills: Stills = None,
    gestures: Gestures = None,
    drawn: Drawn = 0.3,
    clips: Clips = 500,
    start: Start = 0,
    frames: Frames = 32,
    seed: Seed = 0,
    held_out: HeldOut = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The same clips coded for stages 1 and 2 of training; clips that are there already are kept."""
    sink = Sink(quiet=quiet, as_json=as_json, debug=debug)
    sink.hush_libraries()
    from cyberhost_model.presets import preset
    from cyberhost_model.training.assemble import trained_codec, trained_speech
    from cyberhost_model.training.latents import describe_clip, encode_clip, save_summary, write_clip

    coder, hearing = trained_codec(codec), trained_speech(audio)
    source = _source(speech, stills, gestures, drawn, frames, seed, held_out)
    output.mkdir(parents=True, exist_ok=True)
    save_summary(output, stills=stills, speech=speech, gestures=gestures, drawn=drawn, frames=frames, seed=seed)
    there = {int(p.stem) for p in output.glob("*x*/*.safetensors")}
    with sink.progress("coding clips", clips, unit="clips") as tick:
        for number in range(start, start + clips):
            if number not in there:
                clip = source.clip(number)
                saved = encode_clip(clip, coder)
                saved.update(describe_clip(saved, coder, hearing, preset("tiny").audio.tokens))
                write_clip(output, number, saved, clip.reference.size)
            tick(number - start + 1)
    sink.note(f"{output}: {clips} coded clips of {frames} frames")
    sink.data({"output": str(output), "clips": clips, "frames": frames, "seed": seed})


def _source(
    speech: str, stills: list[str] | None, gestures: Path | None, drawn: float, frames: int, seed: int, held_out: bool
) -> Synth:
    from cyberhost_model.data.people import People
    from cyberhost_model.data.performance import load_gestures
    from cyberhost_model.data.speech_library import SpeechLibrary
    from cyberhost_model.data.synth import Synth

    people = People(stills or [], drawn, held_out)
    return Synth(people, SpeechLibrary(speech, held_out), seed, frames, load_gestures(gestures) if gestures else None)

"""`cyberhost data synth`: clips the project makes itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink

if TYPE_CHECKING:
    from cyberhost_model.lab.synthetic.clips import Synth

Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the clips.")]
Clips = Annotated[int, typer.Option(min=1, help="How many clips.")]
Frames = Annotated[int, typer.Option(min=16, help="Frames a clip, at 25 a second.")]


@dataclass
class Source:
    """What clips are made of."""

    speech: Annotated[str | None, typer.Option(metavar="DIR", help="16 kHz speech (FLAC, WAV), for clips that are made.")] = None
    stills: Annotated[list[str] | None, typer.Option(metavar="DIR", help="Labelled pictures; may be repeated.")] = None
    gestures: Annotated[Path | None, typer.Option(metavar="DIR", help="Recorded gestures (.npz); optional.")] = None
    drawn: Annotated[float, typer.Option(min=0, max=1, help="Share of drawn people; 1 without --stills.")] = 0.3
    heads: Annotated[float, typer.Option(min=0, max=1, help="Share of crops about the head.")] = 0.0
    start: Annotated[int, typer.Option(min=0, help="Number of the first clip.")] = 0
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same clips.")] = 0
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Only people and speakers kept out of training.")
    ] = False

    def open(self, frames: int) -> Synth:
        """The source of clips. Raises InputError when a folder holds nothing of use."""
        if self.speech is None:
            raise typer.BadParameter("clips that are made need speech: --speech DIR", param_hint="'--speech'")
        from cyberhost_model.lab.synthetic.clips import Synth
        from cyberhost_model.lab.synthetic.people import People
        from cyberhost_model.lab.synthetic.performance import load_gestures
        from cyberhost_model.lab.synthetic.speech_library import SpeechLibrary

        people = People(self.stills or [], self.drawn, self.held_out)
        gestures = load_gestures(self.gestures) if self.gestures else None
        return Synth(people, SpeechLibrary(self.speech, self.held_out), self.seed, frames, gestures, heads=self.heads)


@spread
def synth(source: Source, output: Output, *, clips: Clips = 10, frames: Frames = 50, sink: Sink) -> None:
    """Videos of photo puppets and drawn people that speak, with exact labels.

    Clip N is N.mp4 with N.png (its reference) and N.npz: key points, flow, boxes, thorax, clarity, mouth opening.
    They are listed in manifest.parquet, as those of `data prepare`.
    """
    sink.hush_libraries()
    from cyberhost_model.lab.filmed.manifest import add_rows, need
    from cyberhost_model.lab.synthetic.clips import export_clip

    need("pyarrow")
    made = source.open(frames)
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    try:
        with sink.progress("making clips", clips, unit="clips") as tick:
            for done in range(clips):
                rows.append(export_clip(made.clip(source.start + done), output, source.start + done))
                tick(done + 1)
    finally:  # the clips that are there when it is stopped are in the manifest
        if rows:
            add_rows(output, rows)
    sink.note(f"{output}: {clips} clips of {frames} frames")
    sink.data({"output": str(output), "clips": clips, "frames": frames, "seed": source.seed})

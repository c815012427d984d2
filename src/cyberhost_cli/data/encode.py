"""`cyberhost data encode`: clips as stages 1 and 2 of training take them, of a dataset or made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyberhost_cli.data.synth import Frames, Output, Source
from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink

if TYPE_CHECKING:
    from cyberhost_model.lab.synthetic.clips import Synth
    from cyberhost_model.lab.training.encode import Coder

MADE = 500


@spread
def encode(
    source: Source,
    output: Output,
    *,
    data: Annotated[Path | None, typer.Option(metavar="DATASET", help="Code these clips (data prepare, data synth) instead of making some.")] = None,
    preset: Annotated[str, typer.Option(metavar="tiny|sd15", help="Size of the network that the clips are for.")] = "tiny",
    codec: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage codec, or a model. [default: the preset's]")] = None,
    audio: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage audio, or a model. [default: the preset's]")] = None,
    clips: Annotated[int | None, typer.Option(min=1, help=f"How many clips. [default: {MADE}; all of a dataset]")] = None,
    frames: Frames = 32,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    sink: Sink,
) -> None:
    """Code clips for stages 1 and 2 of training; clips that are there already are kept.

    With --data the training split of a dataset (--held-out: the other one); a clip that cannot be read is named and left out. Without, the clips
    `data synth` would make of the same --speech, --stills and --gestures.
    """
    sink.hush_libraries()
    if data is not None and (source.speech or source.stills or source.gestures):
        raise typer.BadParameter("a dataset has its own sound and pictures: give --data, or --speech with --stills and --gestures", param_hint="'--data'")
    made = source.open(frames) if data is None else None
    from cyberhost_model.device import choose_device
    from cyberhost_model.lab.training.encode import load_coder

    coder, warnings = load_coder(preset, codec, audio, choose_device(device, "auto")[0])
    for line in warnings:
        sink.warn(line)
    facts: dict[str, object] = {"preset": preset, "codec": codec or preset, "audio": audio or preset}
    if made is None:
        assert data is not None
        _of_dataset(data, source, output, coder, facts, clips, frames, sink)
    else:
        _made(made, source, output, coder, facts, clips or MADE, frames, sink)


def _of_dataset(
    data: Path, source: Source, output: Path, coder: Coder, facts: dict[str, object], clips: int | None, frames: int, sink: Sink
) -> None:  # fmt: skip
    from cyberhost_model.lab.training.encode import encode_dataset

    split = "held_out" if source.held_out else "train"
    with sink.progress("coding clips", None, unit="clips") as tick:
        report = encode_dataset(data, output, coder, frames=frames, seed=source.seed, split=split, limit=clips, facts=facts, progress=tick, warn=sink.warn)
    sink.note(f"{output}: {report.coded} coded clips of {frames} frames from {report.clips} clips, {report.kept} of them done before")
    if report.short:
        sink.note(f"left out: {report.short} clips of fewer than {frames} frames (--frames)")
    broken = [{"clip": clip, "detail": detail} for clip, detail in report.broken]
    sink.data({"output": str(output), "clips": report.clips, "done_before": report.kept, "coded": report.coded, "short": report.short,
               "split": split, "frames": frames, "seed": source.seed, "broken": broken})  # fmt: skip


def _made(
    made: Synth, source: Source, output: Path, coder: Coder, facts: dict[str, object], clips: int, frames: int, sink: Sink
) -> None:  # fmt: skip
    from cyberhost_model.lab.training.clips import save_summary, write_clip
    from cyberhost_model.lab.training.encode import claim

    claim(output, {**facts, "frames": frames})  # clips of other sources may join, of another length or coder not
    save_summary(output, stills=source.stills, speech=source.speech, gestures=source.gestures, drawn=source.drawn, heads=source.heads,
                 frames=frames, seed=source.seed, **facts)  # fmt: skip
    there = {p.stem for p in output.glob("*x*/*.safetensors")}
    with sink.progress("coding clips", clips, unit="clips") as tick:
        for number in range(source.start, source.start + clips):
            if f"{number:06d}" not in there:
                clip = made.clip(number)
                write_clip(output, f"{number:06d}", coder.code(clip), clip.reference.size, clip.head)
            tick(number - source.start + 1)
    sink.note(f"{output}: {clips} coded clips of {frames} frames")
    sink.data({"output": str(output), "clips": clips, "frames": frames, "seed": source.seed})

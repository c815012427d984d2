"""`cyberhost template`: gestures that drive a body, as key point files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.options import expand_options
from cyberhost_model.perception.keypoints import VISIBLE

app = typer.Typer(help="Make and show gesture templates.", no_args_is_help=True, rich_markup_mode=None)

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]


@app.command()
@expand_options
def extract(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video of one person.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The key points (.npz or .json).")],
    *,
    max_seconds: Annotated[
        float | None, typer.Option(metavar="S", min=0.04, help="Read no more than this. [default: all]")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Keep gaps and trembling.")] = False,
    model: Annotated[str, typer.Option(metavar="NAME", help="Whose detector reads it.")] = "tiny",
    overwrite: Overwrite = False,
    sink: Console,
) -> None:
    """Write the key points of the person in a video, at 25 frames a second.

    The file is a template for `--hands`, and drives like the video itself.
    """
    sink.silence_libraries()
    from cyberhost_model.driving.sequence import check_target

    target = check_target(output, overwrite)

    from cyberhost_model.driving.video import read_poses
    from cyberhost_model.runtime.loading import find_model, load_detector

    detector, warnings = load_detector(find_model(model) / "detector")
    with sink.progress("reading", None) as tick:
        sequence = read_poses(video, detector, tick, max_seconds, smooth=not raw)
    sequence.warnings[:0] = warnings
    for line in sequence.warnings:
        sink.warn(line)
    sequence.save(target, overwrite)
    sink.note(f"{target}: {len(sequence)} frames, {sequence.seconds:.2f} s")
    sink.data({"output": str(target), **_summary(sequence), "warnings": sequence.warnings})


@app.command()
@expand_options
def show(
    template: Annotated[
        str, typer.Argument(metavar="TEMPLATE", help="A name (`template list`), a key point file or a video.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The video to write (.mp4).")],
    *,
    size: Annotated[int, typer.Option(min=64, max=2048, help="The video has the area of SIZE x SIZE pixels.")] = 512,
    overwrite: Overwrite = False,
    sink: Console,
) -> None:
    """Draw a template's skeleton as a silent video."""
    sink.silence_libraries()
    from cyberhost_model.media.video_writer import check_output, write_video

    target = check_output(output, overwrite)

    from cyberhost_model.driving.template import load_template, preview

    with sink.progress("reading", None) as tick:
        sequence = load_template(template, progress=tick)
    for line in sequence.warnings:
        sink.warn(line)
    with sink.progress("drawing", len(sequence)) as tick:
        write_video(
            preview(sequence, size), target, sequence.fps, overwrite=overwrite, total=len(sequence), progress=tick
        )
    sink.note(f"{target}: {len(sequence)} frames, {sequence.seconds:.2f} s")
    sink.data({"output": str(target), **_summary(sequence), "warnings": sequence.warnings})


@app.command("list")
@expand_options
def show_names(*, sink: Console) -> None:
    """List the gestures that come with the package."""
    from cyberhost_model.driving.template import load_template, template_names

    found = {name: load_template(name) for name in template_names()}
    if not sink.as_json and not sink.quiet:
        for name, sequence in found.items():
            print(f"{name:12} {sequence.seconds:.1f} s")
    sink.data({"templates": {name: _summary(sequence) for name, sequence in found.items()}})


def _summary(sequence) -> dict[str, object]:  # type: ignore[no-untyped-def]
    seen = {
        part: round(float((getattr(sequence, f"{part}_score") > VISIBLE).mean()), 3)
        for part in ("body", "hands", "face")
    }
    return {"frames": len(sequence), "fps": sequence.fps, "size": list(sequence.size), "seen": seen}

"""`cyberhost template`: gestures that drive a body, as key point files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.options import check_choice, expand_options

if TYPE_CHECKING:
    from cyberhost_model.driving.sequence import PoseSequence

app = typer.Typer(help="Make and show gesture templates.", no_args_is_help=True, rich_markup_mode=None)

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]


@app.command()
@expand_options
def extract(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video of one person.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The key points (.npz or .json).")],
    *,
    max_seconds: Annotated[
        float | None, typer.Option(metavar="S", min=0.04, max=1e6, help="Read no more than this. [default: all]")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Keep gaps and jitter.")] = False,
    model: Annotated[str, typer.Option(metavar="NAME", help="Model whose detector finds the key points.")] = "tiny",
    detector: Annotated[
        str,
        typer.Option(
            metavar="model|dwpose",
            help="The model's detector, or DWPose, which was taught by filmed people (350 MB, fetched).",
        ),
    ] = "model",
    overwrite: Overwrite = False,
    console: Console,
) -> None:
    """Write the key points of the person in a video, at 25 frames a second.

    The file is a template for `--hands`, and drives like the video itself.
    """
    console.silence_libraries()
    check_choice("--detector", detector, "model", "dwpose")
    from cyberhost_model.driving.sequence import check_sequence_target
    from cyberhost_model.media.files import check_regular

    target = check_sequence_target(output, overwrite)
    check_regular(video, "video", "one video file")

    from cyberhost_model.driving.video import read_poses
    from cyberhost_model.perception.dwpose import load_dwpose
    from cyberhost_model.runtime.loading import find_model, load_detector

    finder, warnings = (load_dwpose(), []) if detector == "dwpose" else load_detector(find_model(model) / "detector")
    with console.progress("reading", None) as tick:
        sequence = read_poses(video, finder, tick, max_seconds, smooth=not raw)
    sequence.warnings[:0] = warnings
    for line in sequence.warnings:
        console.warn(line)
    sequence.save(target, overwrite)
    _finish(sequence, target, console)


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
    console: Console,
) -> None:
    """Draw a template's skeleton as a silent video."""
    console.silence_libraries()
    from cyberhost_model.media.video_writer import check_output, write_video

    target = check_output(output, overwrite)

    from cyberhost_model.driving.template import load_template, preview

    with console.progress("reading", None) as tick:
        sequence = load_template(template, progress=tick)
    for line in sequence.warnings:
        console.warn(line)
    with console.progress("drawing", len(sequence)) as tick:
        write_video(
            preview(sequence, size), target, sequence.fps, overwrite=overwrite, total=len(sequence), progress=tick
        )
    _finish(sequence, target, console)


@app.command("list")
@expand_options
def show_names(*, console: Console) -> None:
    """List the gestures that come with the package."""
    from cyberhost_model.driving.template import load_template, template_names

    found = {name: load_template(name) for name in template_names()}
    console.text(f"{name:12} {sequence.seconds:.1f} s" for name, sequence in found.items())
    console.data({"templates": {name: _summary(sequence) for name, sequence in found.items()}})


def _finish(sequence: PoseSequence, target: Path, console: Console) -> None:
    """Print what was written."""
    console.note(f"{target}: {len(sequence)} frames, {sequence.seconds:.2f} s")
    console.data({"output": str(target), **_summary(sequence), "warnings": sequence.warnings})


def _summary(sequence: PoseSequence) -> dict[str, object]:
    """Length, rate and size of a sequence, and the share of each part's points that are visible."""
    from cyberhost_model.perception.keypoints import VISIBLE

    seen = {
        part: round(float((getattr(sequence, f"{part}_score") > VISIBLE).mean()), 3)
        for part in ("body", "hands", "face")
    }
    return {"frames": len(sequence), "fps": sequence.fps, "size": list(sequence.size), "seen": seen}

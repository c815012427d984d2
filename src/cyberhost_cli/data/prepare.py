"""`cyberhost data prepare`: raw talking videos become a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink


@spread
def prepare(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEOS...", help="Videos, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DATASET", help="Folder of the dataset.")],
    *,
    crop: Annotated[str, typer.Option(metavar="body|head", help="Head to hands, or the head alone.")] = "body",
    area: Annotated[str, typer.Option(metavar="WxH", help="Clips get about this area, sides 64n.")] = "640x384",
    min_seconds: Annotated[float, typer.Option(help="Shortest clip.")] = 2.0,
    max_seconds: Annotated[float, typer.Option(help="Longest clip.")] = 10.0,
    min_face: Annotated[float, typer.Option(min=0, max=1, help="Least share of frames with a face.")] = 0.95,
    min_hands: Annotated[float, typer.Option(min=0, max=1, help="Least share with a hand (body).")] = 0.5,
    min_speech: Annotated[float, typer.Option(min=0, max=1, help="Least share with speech.")] = 0.3,
    min_fps: Annotated[float, typer.Option(min=0, help="Least different frames a second.")] = 18.0,
    max_enlarge: Annotated[float, typer.Option(min=0.1, help="Most a crop may be enlarged.")] = 1.5,
    identity_by: Annotated[str, typer.Option(metavar="video|folder", help="What shares an identity.")] = "video",
    detector: Annotated[str, typer.Option(help="Key point detector.")] = "embedded",
    min_sync: Annotated[float | None, typer.Option(help="Least SyncNet confidence that lips and sound fit. [default: not asked]")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 works in this one.")] = 1,
    engine: Annotated[str, typer.Option(metavar="local|ray", help="Where videos are worked on.")] = "local",
    address: Annotated[str | None, typer.Option(help="Ray cluster. [default: this machine]")] = None,
    sink: Sink,
) -> None:
    """Turn raw talking videos into training clips with labels.

    One person, face and hands, speech; 25 frames a second, 16 kHz. manifest.parquet has a row for every
    candidate clip, with the reason where it was rejected. Running it again does only what is missing.
    """
    sink.hush_libraries()
    from cyberhost_model.errors import InputError
    from cyberhost_model.lab.filmed.build import ENGINES, prepare_dataset
    from cyberhost_model.lab.filmed.settings import Settings

    if engine not in ENGINES:
        raise typer.BadParameter(f"--engine must be {' or '.join(ENGINES)}, not {engine!r}")
    if address is not None and engine != "ray":
        raise typer.BadParameter("--address goes with --engine ray")
    try:
        settings = Settings(crop, _size(area), min_seconds, max_seconds, min_face, min_hands, min_speech, min_fps,
                            max_enlarge, identity_by, detector, min_sync)  # fmt: skip
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    with sink.progress("preparing", None, unit="videos") as tick:
        report = prepare_dataset(videos, output, settings, workers, engine, address, tick, sink.warn)
    sink.note(f"{output}: {report.accepted} clips ({report.seconds / 60:.1f} minutes) from {report.videos} videos, {report.kept} of them done before")
    reasons = dict(report.reasons.most_common())
    if reasons:
        sink.note(f"rejected {report.rejected}: " + ", ".join(f"{name} {n}" for name, n in reasons.items()))
    skipped = [dict(zip(("source", "reason", "detail"), item, strict=True)) for item in report.skipped]
    sink.data({"output": str(output), "videos": report.videos, "done_before": report.kept, "accepted": report.accepted, "rejected": report.rejected,
               "seconds": round(report.seconds, 2), "reasons": reasons, "broken": skipped})  # fmt: skip


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"--area must look like 640x384, not {text!r}")
    return int(width), int(height)

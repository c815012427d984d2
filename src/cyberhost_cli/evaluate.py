"""`cyberhost eval`: the paper's metrics for videos of any method, and runs side by side."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.options import RUN, RunByDefault, expand_options

if TYPE_CHECKING:
    from cyberhost_model.lab.evaluation.results import Results

# Measures as a command shows them.


def table(results: Results) -> str:
    """A line a measure: value, interval, videos, coverage, or why there is none."""
    from cyberhost_model.lab.evaluation.report.wording import (
        format_count,
        format_interval,
        format_number,
        format_share,
        measure_header,
    )

    rows = []
    for m in results.metrics:
        sure = f"95% {format_interval(m.ci95, m.decimals)}" if m.ci95 else ""
        measured = f"{format_count(m.n, 'video')}, {format_share(m.coverage)} covered"
        told = measured if m.status == "ok" else f"skipped: {m.reason}"
        rows.append((measure_header(m), format_number(m.value, m.decimals) if m.status == "ok" else "", sure, told))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:3]
    lines = [
        f"{head:<{widths[0]}}  {value:>{widths[1]}}  {sure:<{widths[2]}}  {told}" for head, value, sure, told in rows
    ]
    return "\n".join(
        [
            f"{results.name} ({', '.join(sorted({m.protocol for m in results.metrics}))})",
            *(line.rstrip() for line in lines),
        ]
    )


def command() -> str:
    """What was typed."""
    return shlex.join(["cyberhost", *sys.argv[1:]])


# `--report`: what can be measured of a video that was just made, and which of its seconds are weak.


def report_on(video: Path, out: Path, picture: Path, device: str, overwrite: bool, sink: Console) -> dict[str, Any]:
    """Write the report and tell what it says. The video stays, whatever happens. Raises CyberHostError."""
    from cyberhost_model.errors import CyberHostError
    from cyberhost_model.lab.evaluation.report.single import report_video
    from cyberhost_model.lab.evaluation.results import summary_values

    try:
        with sink.progress("measuring", None) as tick:
            made = report_video(
                video, out, picture=picture, device=device, overwrite=overwrite, command=command(), progress=tick
            )
    except CyberHostError as error:
        raise type(error)(f"{video}: the video is made, its report is not: {error}") from error
    results = made.evaluation.results
    sink.note(table(results))
    sink.note(f"{made.page}: report written; weak seconds: {len(made.weak) or 'none'}")
    for line in made.lines:
        sink.note(f"  {line}")
    return {"page": str(made.page), "weak": made.values, "metrics": summary_values(results)["metrics"]}


app = typer.Typer(
    cls=RunByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="`cyberhost eval VIDEOS ...` is short for `cyberhost eval run VIDEOS ...`.",
)


@app.command(RUN)
@expand_options
def run(
    generated: Annotated[
        Path, typer.Argument(metavar="VIDEOS", help="A video, a folder of them, or a manifest (.csv, .json).")
    ],
    reference: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Ground truth: a video, or a folder with the same names.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Reference pictures. [default: first frames of the ground truth]"),
    ] = None,
    audio: Annotated[Path | None, typer.Option(metavar="PATH", help="Sounds. [default: the videos' own]")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="REPORT", help="Folder of the report. [default: none is written]"),
    ] = None,
    *,
    metrics: Annotated[
        list[str] | None, typer.Option(metavar="NAMES", help="Metrics, with commas between. [default: all]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the method is called. [default: the folder's name]")] = None,
    networks: Annotated[
        str, typer.Option(metavar="public|embedded", help="Networks of CSIM, AKD, HKC, HKV: another protocol each.")
    ] = "public",
    clips: Annotated[int, typer.Option(min=1, help="Clips of 16 frames a video, for FVD.")] = 4,
    weights_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with weights, looked into first.")
    ] = None,
    download: Annotated[bool, typer.Option(help="Fetch weights that are not on this machine.")] = True,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the features. [default: the user's cache]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap and of the splits.")] = 0,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    sink: Console,
) -> None:
    """Measure videos of any method: SSIM, PSNR, FID, FVD, CSIM, SyncC, SyncD, AKD, HKC, HKV.

    Videos are matched with their ground truth by name; what does not fit is told. A metric that cannot be had is
    skipped with the reason; where all are, the exit code says so. Features are kept, so a run that was stopped goes on,
    and the ground truth is seen once for all methods.
    """
    sink.silence_libraries()
    from cyberhost_model.errors import InputError
    from cyberhost_model.lab.evaluation.registry import headline_measures, select_metrics
    from cyberhost_model.lab.evaluation.results import check_folder, summary_values, write_results

    if networks not in ("public", "embedded"):
        raise typer.BadParameter(f"--networks must be public or embedded, not {networks!r}")
    wanted = [word for words in metrics or [] for word in words.replace(",", " ").split()] or list(headline_measures())
    try:
        select_metrics(wanted)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    if output is not None:
        check_folder(output)
    from cyberhost_model.lab.evaluation.report.page import write_report
    from cyberhost_model.lab.evaluation.run import evaluate

    with sink.progress("measuring", None) as tick:
        evaluation = evaluate(
            generated,
            reference,
            images=images,
            audio=audio,
            metrics=wanted,
            name=name,
            weights_dir=weights_dir,
            download=download,
            networks=networks,  # type: ignore[arg-type]
            clips=clips,
            cache=cache,
            seed=seed,
            device=device,
            command=command(),
            progress=tick,
        )
    results = evaluation.results
    for kind, rule in {told.kind: told.rule for told in results.mismatches}.items():
        sink.warn(f"{kind}: {rule}")
        for told in results.mismatches:
            if told.kind == kind:
                sink.note(f"  {told.video}: {told.detail}")
    if output is not None:
        write_results(results, output)
        write_report(evaluation, output)
    if not sink.as_json and not sink.quiet:
        print(table(results))
    if output is not None:
        sink.note(f"{output}: report written")
    results.require_a_value()
    sink.data({"output": str(output) if output else None, **summary_values(results)})


@app.command()
@expand_options
def compare(
    reports: Annotated[
        list[Path],
        typer.Argument(metavar="REPORTS...", help="Folders that `eval ... -o` wrote; the first is compared with."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder of the comparison. [default: none is written]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    *,
    sink: Console,
) -> None:
    """Set runs on the same videos side by side: paired differences with confidence intervals."""
    from cyberhost_model.lab.evaluation.report.compare import compare_reports
    from cyberhost_model.lab.evaluation.report.compare_output import (
        comparison_text,
        comparison_values,
        write_comparison,
    )
    from cyberhost_model.lab.evaluation.results import check_folder

    if output is not None:
        check_folder(output)
    comparison = compare_reports(reports, seed)
    if output is not None:
        write_comparison(comparison, output)
    if not sink.as_json and not sink.quiet:
        print(comparison_text(comparison))
    if output is not None:
        sink.note(f"{output}: comparison written")
    sink.data({"output": str(output) if output else None, **comparison_values(comparison)})

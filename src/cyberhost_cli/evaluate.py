"""`cyberhost eval`: the paper's metrics for videos of any method, and runs side by side."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.drift import show_drift
from cyberhost_cli.options import (
    RUN,
    SPEECH,
    Ref,
    RunByDefault,
    check_choice,
    expand_options,
    input_errors_as_usage,
)
from cyberhost_model.config import GenerationConfig, RuntimeConfig, parse_device
from cyberhost_model.options import SEEDS

if TYPE_CHECKING:
    import numpy as np

    from cyberhost_model.lab.evaluation.results import Results

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
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Measures or groups, with commas between: paper, articulation, regions, temporal, theval, all. "
            "[default: paper, articulation]",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the method. [default: the folder's name]")] = None,
    networks: Annotated[
        str, typer.Option(metavar="public|embedded", help="Networks of CSIM, AKD, HKC, HKV: another protocol each.")
    ] = "public",
    clips: Annotated[int, typer.Option(min=1, max=10_000, help="Clips of 16 frames a video, for FVD.")] = 4,
    truth: Annotated[
        bool, typer.Option("--truth/--no-truth", help="Measure the ground truth itself too, by what it can be.")
    ] = True,
    weights_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with weights, searched first.")
    ] = None,
    download: Annotated[bool, typer.Option(help="Fetch weights that are not on this machine.")] = True,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Videos that are looked at at once.")] = 1,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the features. [default: the user's cache]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=SEEDS, help="Seed of the bootstrap and of the splits.")] = 0,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    drift: Annotated[
        bool, typer.Option("--drift", help="Only compare each second of VIDEOS with its first one, for long videos.")
    ] = False,
    console: Console,
) -> None:
    """Measure videos of any method by the paper's metrics.

    Each metric is described in docs/reference/evaluation.md; an unknown name lists all of them. Videos are matched with
    their ground truth by name; mismatches are listed. A metric that cannot be computed is skipped with the reason; the
    exit code is 10 where all are. Features are cached, so a run that was stopped goes on, and the ground truth is read
    once for all methods.
    """
    console.silence_libraries()
    if drift:
        show_drift(generated, console)
        return
    from cyberhost_model.lab.evaluation.registry import headline_measures, select_metrics
    from cyberhost_model.lab.evaluation.results import check_folder, summary_values, write_results, write_truth

    check_choice("--networks", networks, "public", "embedded")
    wanted = [word for words in metrics or [] for word in words.replace(",", " ").split()] or list(headline_measures())
    with input_errors_as_usage():
        parse_device(device)
        select_metrics(wanted)
    if output is not None:
        check_folder(output)
    from cyberhost_model.lab.evaluation.report.page import write_report
    from cyberhost_model.lab.evaluation.run import evaluate

    with console.progress("measuring", None) as tick:
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
            workers=workers,
            truth=truth,
            progress=tick,
        )
    results = evaluation.results
    for kind, rule in {mismatch.kind: mismatch.rule for mismatch in results.mismatches}.items():
        console.warn(f"{kind}: {rule}")
        for mismatch in results.mismatches:
            if mismatch.kind == kind:
                console.note(f"  {mismatch.video}: {mismatch.detail}")
    if output is not None:
        write_results(results, output)
        write_report(evaluation, output, truth=evaluation.truth)
        if evaluation.truth is not None:
            write_truth(evaluation.truth, output)
    console.text([table(results), *([table(evaluation.truth)] if evaluation.truth is not None else [])])
    if output is not None:
        console.note(f"{output}: report written")
    results.require_a_value()
    own = None if evaluation.truth is None else summary_values(evaluation.truth)["metrics"]
    console.data({"output": str(output) if output else None, **summary_values(results), "ground_truth": own})


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
    seed: Annotated[int, typer.Option(min=0, max=SEEDS, help="Seed of the bootstrap.")] = 0,
    *,
    console: Console,
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
    console.text([comparison_text(comparison)])
    if output is not None:
        console.note(f"{output}: comparison written")
    console.data({"output": str(output) if output else None, **comparison_values(comparison)})


@app.command("table")
@expand_options
def print_table(
    reports: Annotated[list[Path], typer.Argument(metavar="REPORTS...", help="Folders that `eval ... -o` wrote.")],
    number: Annotated[int, typer.Option("--table", min=1, max=3, help="The paper's table to fill.")] = 1,
    latex: Annotated[bool, typer.Option("--latex", help="LaTeX (booktabs) in place of Markdown.")] = False,
    *,
    console: Console,
) -> None:
    """Print runs as rows of the paper's Table 1, 2 or 3, its own rows above them."""
    from cyberhost_model.lab.evaluation.report import paper_table

    made = paper_table.paper_table(number, reports)
    console.text([(paper_table.latex if latex else paper_table.markdown)(made).rstrip()])
    values = {row: {measure.name: made.value(row, measure) for measure in made.measures} for row in made.own}
    console.data({"table": made.name, "rows": values, "paper": {k: dict(v) for k, v in made.printed.items()}})


@app.command()
@expand_options
def speed(
    ref: Ref,
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help=SPEECH)],
    settings: GenerationConfig,
    *,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="Videos that are timed, after one that is not.")] = 3,
    runtime: RuntimeConfig,
    console: Console,
) -> None:
    """Time how a model animates REF: the wait for the first frame, and the real-time factor.

    The factor is seconds of computing for a second of video: below 1 it is faster than the clock. Frames are made and
    thrown away; loading the model and writing a file do not count.
    """
    console.silence_libraries()
    from cyberhost_model import CyberHost
    from cyberhost_model.lab.evaluation.speed import summarise_timings, time_frames
    from cyberhost_model.media.audio import load_audio
    from cyberhost_model.media.image import load_picture

    load_picture(ref), load_audio(audio)  # bad input is named before a model is loaded
    host = CyberHost.from_pretrained(**asdict(runtime))

    def start() -> tuple[Iterable[np.ndarray], float]:
        animation = host.animate(ref, audio, **asdict(settings))
        return animation.frames, animation.fps

    timings = []
    with console.progress("timing", runs + 1, unit="videos") as tick:
        for number in range(runs + 1):
            timings.append(time_frames(start))
            tick(number + 1, runs + 1)
    found = {"model": runtime.model, "device": str(host.device), **summarise_timings(timings[1:])}
    console.text(
        [
            f"{runtime.model} on {host.device}: {found['frames']} frames, median of {runs}",
            f"first frame      {found['first_frame_s']:.3g} s",
            f"whole video      {found['seconds']:.3g} s ({found['frames_per_second']:.3g} frames a second)",
            f"real-time factor {found['real_time_factor']:.3g}",
        ]
    )
    console.data(found)


def table(results: Results) -> str:
    """Lay results out, a line for each metric: value, interval, videos, coverage, or why it was skipped."""
    from cyberhost_model.lab.evaluation.report.selection import caution
    from cyberhost_model.lab.evaluation.report.wording import (
        format_count,
        format_interval,
        format_number,
        format_share,
        measure_header,
        with_caution,
    )

    rows = []
    for m in results.metrics:
        sure = with_caution(f"95% {format_interval(m.ci95, m.decimals)}" if m.ci95 else "", caution(results, m)).strip()
        measured = f"{format_count(m.n, 'video')}, {format_share(m.coverage)} covered"
        note = measured if m.status == "ok" else f"skipped: {m.reason}"
        rows.append((measure_header(m), format_number(m.value, m.decimals) if m.status == "ok" else "", sure, note))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:3]
    title = f"{results.name} ({', '.join(sorted({m.protocol for m in results.metrics}))})"
    lines = (f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:<{widths[2]}}  {d}".rstrip() for a, b, c, d in rows)
    return "\n".join([title, *lines])


def command() -> str:
    """Return the command line that was typed."""
    return shlex.join(["cyberhost", *sys.argv[1:]])


def report_on(video: Path, out: Path, picture: Path, device: str, overwrite: bool, console: Console) -> dict[str, Any]:
    """Measure a video that was just made (--report), write the page and print its weak seconds.

    The video stays, whatever happens. Raises CyberHostError.
    """
    from cyberhost_model.errors import CyberHostError
    from cyberhost_model.lab.evaluation.report.single import report_video
    from cyberhost_model.lab.evaluation.results import summary_values

    try:
        with console.progress("measuring", None) as tick:
            made = report_video(
                video, out, picture=picture, device=device, overwrite=overwrite, command=command(), progress=tick
            )
    except CyberHostError as error:
        raise type(error)(f"{video}: the video is made, its report is not: {error}") from error
    results = made.evaluation.results
    console.note(table(results))
    console.note(f"{made.page}: report written; weak seconds: {len(made.weak) or 'none'}")
    for line in made.lines:
        console.note(f"  {line}")
    return {"page": str(made.page), "weak": made.values, "metrics": summary_values(results)["metrics"]}

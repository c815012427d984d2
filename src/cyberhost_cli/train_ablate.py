"""`cyberhost train ablate`: the rows of the paper's Table 1 at the size at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink


@spread
def ablate(
    data: Annotated[Path, typer.Option(metavar="CLIPS", help="Coded clips (data encode).")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all rows; an earlier one goes on.")],
    budget: Annotated[str, typer.Option(metavar="STEPS|MINUTES", help="200: steps a row; 20m: minutes of training for all rows.")],
    *,
    rows: Annotated[str, typer.Option(metavar="all|NAME,...", help="Rows of Table 1, with commas between; the full model comes along.")] = "all",
    init: Annotated[str | None, typer.Option(metavar="FROM", help="Base of all rows: 'tiny', a run, a model. [default: from scratch]")] = None,
    stage: Annotated[str, typer.Option(metavar="1|2", help="Stage that is trained.")] = "2",
    config: Annotated[str | None, typer.Option(metavar="FILE", help="Recipe. [default: tiny]")] = None,
    held_out: Annotated[
        Path | None,
        typer.Option("--held-out", metavar="DATASET", help="Measure on its held-out clips. [default: drawn people with voices of CLIPS]"),
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips to measure on.")] = 4,
    frames: Annotated[int, typer.Option(min=16, help="Frames of a drawn clip, at 25 a second.")] = 50,
    networks: Annotated[str, typer.Option(metavar="public|embedded", help="Networks of CSIM, AKD, HKC, HKV.")] = "embedded",
    weights_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with the metrics' weights, looked into first.")] = None,
    download: Annotated[bool, typer.Option(help="Fetch weights that are not on this machine.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same batches, noise and videos.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that make batches. [default: the recipe's]")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    sink: Sink,
) -> None:
    """Train the rows of the paper's Table 1 from one base with equal steps and seeds, and measure them.

    Writes DIR/table.md and table.csv, the paper's figures beside ours; each row's run, videos and report are in its folder.
    The same command goes on where a stopped one was; further --rows join those that are there.
    """
    sink.hush_libraries()
    from cyberhost_model.errors import InputError
    from cyberhost_model.lab.training.ablation import Budget, chosen

    if networks not in ("public", "embedded"):
        raise typer.BadParameter(f"--networks must be public or embedded, not {networks!r}")
    if stage not in ("1", "2"):
        raise typer.BadParameter(f"--stage must be 1 or 2, not {stage!r}")
    try:
        names, wanted = chosen(rows), Budget.parse(budget)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    from cyberhost_model.lab.training.ablation import Plan, ablate

    plan = Plan(str(data), stage, config or "", init or "", wanted, seed, str(held_out or ""), clips, frames, networks)  # type: ignore[arg-type]
    with sink.progress("ablations", None, unit="steps") as tick:
        done = ablate(plan, names, output, device=device, threads=threads, workers=workers, weights_dir=weights_dir, download=download, progress=tick)
    if not sink.as_json and not sink.quiet:
        print(done.table.read_text(encoding="utf-8"), end="")
    sink.note(f"{done.table}: {len(names)} rows of {done.steps} steps")
    sink.data({"output": str(output), "steps": done.steps, "table": str(done.table), "csv": str(done.csv), "rows": done.values})

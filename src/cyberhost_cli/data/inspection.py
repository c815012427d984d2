"""`cyberhost data inspect`: what a dataset holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink


@spread
def inspect(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder with a manifest.parquet.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PAGE", help="Also write an HTML page of samples.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Clips on the page.")] = 12,
    sink: Sink,
) -> None:
    """Counts, hours, identities, sizes, histograms and rejections of a dataset.

    The page is one file: sample clips with their key points drawn, and the figures.
    """
    sink.hush_libraries()
    from cyberhost_model.lab.filmed.inspection import summarise, summary_text
    from cyberhost_model.lab.filmed.manifest import read_manifest

    rows = read_manifest(dataset)
    summary = summarise(rows)
    if not sink.as_json and not sink.quiet:
        print(summary_text(summary))
    page = None
    if output is not None:
        from cyberhost_model.lab.filmed.page import write_page

        page = write_page(dataset, rows, summary, output, samples)
        sink.note(f"{page}: {min(samples, summary['clips']['accepted'])} sample clips")
    sink.data({"dataset": str(dataset), **summary, "page": str(page) if page else None})

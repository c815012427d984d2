"""`cyberhost weights`: models as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cyberhost_cli.output import Sink

app = typer.Typer(help="Put models together.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Put models together."""


@app.command()
def assemble(
    network: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage 2.")] = None,
    codec: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage codec.")] = None,
    audio: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage audio.")] = None,
    detector: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage detector.")] = None,
    base: Annotated[str, typer.Option(metavar="MODEL", help="Where the other parts come from.")] = "tiny",
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the model.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Write a model folder (fp16 safetensors) from the runs of the stages; `--model DIR` takes it."""
    sink = Sink(quiet=quiet, debug=debug)
    sink.hush_libraries()
    from cyberhost_model.training.assemble import assemble as put_together

    put_together(output, network=network, codec=codec, speech=audio, detector=detector, base=base)
    sink.note(f"{output}: model written")

"""`cyberhost weights assemble`: a model folder from training runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink


@spread
def assemble(
    network: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage 2 or distill.")] = None,
    codec: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage codec.")] = None,
    audio: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage audio.")] = None,
    detector: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage detector.")] = None,
    lips: Annotated[str | None, typer.Option(metavar="RUN", help="Run of stage lips, for the detector.")] = None,
    base: Annotated[str, typer.Option(metavar="MODEL", help="Where the other parts come from.")] = "tiny",
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the model.")],
    sink: Sink,
) -> None:
    """Write a model folder (fp16 safetensors) from the runs of the stages; `--model DIR` takes it."""
    sink.hush_libraries()
    from cyberhost_model.lab.training.assemble import assemble as put_together

    put_together(output, network=network, codec=codec, speech=audio, detector=detector, lips=lips, base=base)
    sink.note(f"{output}: model written")
    sink.data({"model": str(output)})

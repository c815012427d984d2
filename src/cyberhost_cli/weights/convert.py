"""`cyberhost weights convert`: published weights become a model of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink


@spread
def convert(
    name: Annotated[str, typer.Argument(metavar="NAME", help="sd15, animate-anyone, echomimic-v2 or hallo2.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the model.")],
    *,
    part: Annotated[
        list[str] | None, typer.Option(metavar="PART=SOURCE", help="Another name, folder or file for a part; may be repeated.")
    ] = None,
    precision: Annotated[str, typer.Option(metavar="fp32|fp16", help="How weights are stored.")] = "fp32",
    sink: Sink,
) -> None:
    """Make a model folder of published weights: safetensors, an account of every weight, the licences.

    What is not on this machine is fetched. A weight that cannot be mapped is an error that names it.
    """
    sink.hush_libraries()
    if precision not in ("fp32", "fp16"):
        raise typer.BadParameter(f"--precision must be fp32 or fp16, not {precision!r}")
    if wrong := [one for one in part or [] if "=" not in one]:
        raise typer.BadParameter(f"--part must be PART=SOURCE, not {wrong[0]!r}")
    import torch

    from cyberhost_model.porting.convert import convert as take_over

    parts = dict(one.split("=", 1) for one in part or [])
    done = take_over(name, output, parts, dtype=torch.float32 if precision == "fp32" else torch.float16)
    sink.note(f"{output}: {done.taken} weights taken, {done.initial} of ours begin afresh")
    for reason, count in done.left_out.items():
        sink.note(f"  {count} left out: {reason}")
    for name_, licence in done.licences.items():
        sink.note(f"  {name_}: {licence}")
    sink.data(
        {
            "model": str(output),
            "taken": done.taken,
            "initial": done.initial,
            "left_out": done.left_out,
            "licences": done.licences,
        }
    )

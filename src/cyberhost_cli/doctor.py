"""`cyberhost doctor`: what can be made on this machine, and what it takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cyberhost_cli.doctor_report import doctor_lines, verdict
from cyberhost_cli.options import spread
from cyberhost_cli.output import Sink
from cyberhost_cli.settings import Device, Precision


@spread
def doctor(
    *,
    model: Annotated[str, typer.Option(metavar="NAME", help="'tiny', a folder with a model, a published one or a Hub id.")] = "tiny",
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    precision: Annotated[Precision, typer.Option(help="Numbers to compute with.")] = Precision.auto,
    sink: Sink,
) -> None:
    """Tell whether videos can be made here: device, ffmpeg, weights, network; and measure what a minute of video takes.

    The exit code is 0 when they can, else the code of what stands in the way. Nothing is fetched and nothing is written.
    """
    sink.hush_libraries()
    from cyberhost_model.doctor.examination import examine

    found = examine(model, device.value, precision.value)
    sink.data({**asdict(found), "verdict": verdict(found), "exit_code": found.exit_code})
    if not sink.as_json and not sink.quiet:
        for line in doctor_lines(found):
            print(line)
    if not sink.as_json and (found.problems or not sink.quiet):
        print(verdict(found))
    raise typer.Exit(found.exit_code)

"""`cyberhost inspect` and `cyberhost rerun`: what a file says of its making, and the same frames again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_cli.generate import Request, make_video
from cyberhost_cli.options import Out, OutputOptions, expand_options
from cyberhost_model.config import RuntimeConfig
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.output_form import OutputForm

if TYPE_CHECKING:
    from cyberhost_model.marks.inspection import Inspection
    from cyberhost_model.runtime.pipeline import Animation, CyberHost


@expand_options
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A video or a picture, of this program or not.")],
    *,
    console: Console,
) -> None:
    """Say by which marks FILE says that a model made it.

    Ends with 0 where a mark says so, and with 12 where none does.
    """
    console.silence_libraries()
    from cyberhost_model.marks.inspection import inspect_file

    found = inspect_file(file)
    console.text(describe_marks(found))
    console.data(asdict(found))
    if not found.made:
        raise typer.Exit(int(ExitStatus.MARK))


def describe_marks(found: Inspection) -> Iterator[str]:
    """Write what was found, a line for each kind of mark."""
    mark, signed = found.watermark, found.credentials
    if mark is None:
        yield "watermark: not looked for, the file holds no picture"
    elif mark.found:
        place = "" if abs(mark.scale - 1) < 0.01 else f", {mark.scale:.2f} of the whole frame's side"
        turned = ", mirrored" if mark.mirrored else ""
        run = f"run {found.runs['watermark']}" if "watermark" in found.runs else "the run's number cannot be read"
        yield f"watermark: found (false alarm below {mark.false_alarm:.0e}{place}{turned}); {run}"
    else:
        yield "watermark: not found"
    if signed is None:
        yield f"content credentials: {found.credentials_note or 'none'}"
    else:
        trust = "signer trusted" if signed.trusted else "signer not on a list of trusted ones"
        state = "signature holds" if signed.valid else "signature does NOT hold: the file was changed"
        yield f"content credentials: {signed.generator}, signed by {signed.signer}; {state}; {trust}"
        if signed.source_types:
            yield f"  digital source type: {', '.join(signed.source_types)}"
        for title in signed.ingredients:
            yield f"  made of: {title}"
    for name in ("comment", "description", "digital_source_type"):
        if name in found.tags:
            yield f"container, {name}: {' '.join(found.tags[name].split())}"
    if found.record is not None:
        yield f"record: {found.record}" + (" (of this file)" if found.record_holds else " (NOT of this file as it is)")
    yield f"made by a model, as {', '.join(found.made)} say" if found.made else "no mark found"


@expand_options
def rerun(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="The JSON file that --record wrote.")],
    output: Out,
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
    console: Console,
) -> None:
    """Make the video of a record again, and compare its frames.

    Ends with 3 where an input has changed, 6 where the model has, and 12 where the frames differ.
    """
    console.silence_libraries()
    from cyberhost_model.errors import InputError, ModelError
    from cyberhost_model.marks.record import find_inputs, read_record
    from cyberhost_model.media.files import digest_of
    from cyberhost_model.runtime.named_job import config_of

    told = read_record(record)
    inputs, arguments = find_inputs(told, record.parent), told["arguments"]
    try:
        interval = arguments["settings"].get("guidance_interval")
        settings = config_of(told["command"])(
            **{**arguments["settings"], "guidance_interval": interval and tuple(interval)}
        )
        runtime = RuntimeConfig(**arguments["runtime"])
        runtime = replace(runtime, device=told["model"]["device"], precision=told["model"]["precision"])
        kept = arguments["marks"]
        marks = Marks(watermark=bool(kept["watermark"]), label=bool(kept["label"]), c2pa=kept["c2pa"])
        own, formed = dict(arguments["own"]), dict(arguments.get("form", {}))
        expected = str(told["output"]["frames_sha256"])
        run = told["output"].get("run")
        number = None if run is None else int(run, 16) & 0xFFFFFFFF
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{record}: the record cannot be followed ({error})") from None
    background = inputs.pop("background", None) or formed.get("background")
    form = OutputForm(inputs.pop("subtitles", None), str(background) if background else None, bool(formed.get("alpha")))
    options = OutputOptions(overwrite=overwrite)
    command = told["command"]
    ref = inputs["film" if command == "dub" else "ref"]
    request = Request(ref, output, settings, runtime, options, form, marks, console, command, own, inputs)
    request.check_output()
    job = request.job()

    def start(host: CyberHost) -> Animation:
        if host.folder is not None and digest_of(host.folder) != told["model"].get("sha256"):
            raise ModelError(f"{runtime.model}: is not the model of the record (its SHA-256 differs)")
        return job.begin(host)

    make_video(request, start, job, expected, number)

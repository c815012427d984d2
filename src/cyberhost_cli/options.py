"""Options of the commands that make a video: how it looks, where it is computed, what becomes of it."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperGroup

from cyberhost_cli.console import Console

if TYPE_CHECKING:
    from cyberhost_model.runtime.pipeline import Animation, CyberHost

# Commands that are a command themselves and have others beside it.


RUN = "run"


class RunByDefault(TyperGroup):
    """`eval VIDEOS ...` is `eval run VIDEOS ...`: what is no command's name belongs to `run`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if not args or args[0] in own else [RUN, *args])


# Options that several commands share, written once: a dataclass whose fields are Typer options, spread into a command's
# signature.


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command one or more of whose parameters are dataclasses of options -> the same command with those options in
    their place.

    A `Console` is such a parameter too: it becomes --quiet, --json and --debug.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    flat: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if kind is Console:
            groups[name] = Console
            flat += [_keyword("quiet", Quiet, False), _keyword("as_json", Json, False), _keyword("debug", Debug, False)]
        elif is_dataclass(kind):
            groups[name] = kind  # type: ignore[assignment]
            inner = get_type_hints(kind, include_extras=True)
            flat += [
                _keyword(f.name, inner[f.name], inspect.Parameter.empty if f.default is MISSING else f.default)
                for f in fields(kind)
            ]
        else:
            flat.append(_keyword(name, hints[name], parameter.default))
    members = {
        name: ["quiet", "as_json", "debug"] if kind is Console else [f.name for f in fields(kind)]
        for name, kind in groups.items()
    }  # type: ignore[arg-type]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        grouped = {name: kind(**{m: values.pop(m) for m in members[name]}) for name, kind in groups.items()}
        command(**values, **grouped)

    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in flat}
    del run.__wrapped__  # type: ignore[attr-defined]  # or the first signature would be found behind this one
    return run


def given(command: Callable[..., None], about: str, **values: Any) -> Callable[..., None]:
    """A command with some options given, and so without them; `about` is its help."""
    hints = get_type_hints(command, include_extras=True)
    left = [
        _keyword(name, hints[name], p.default)
        for name, p in inspect.signature(command).parameters.items()
        if name not in values
    ]

    def run(**others: Any) -> None:
        command(**values, **others)

    run.__signature__ = inspect.Signature(left)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in left}
    run.__doc__ = about
    return run


def _keyword(name: str, kind: Any, default: Any) -> inspect.Parameter:
    # Python 3.10 reads `x: Annotated[...] = None` as Optional[Annotated[...]], which would hide the option.
    kind = next((k for k in get_args(kind) if get_origin(k) is Annotated), kind) if get_origin(kind) is Union else kind
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


class Device(str, Enum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(str, Enum):
    """Numbers the network computes with."""

    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


Ref = Annotated[Path, typer.Argument(metavar="REF", help="Picture of one person: PNG, JPEG or WebP.")]
Out = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The video to write (.mp4).")]
SPEECH = "Speech: WAV, FLAC, MP3, M4A, OGG, or the sound of a video."


def interval(text: str) -> tuple[float, float]:
    """ "0.2,0.8" -> (0.2, 0.8). Raises BadParameter."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not 0 <= low <= high <= 1:
        raise typer.BadParameter(f"{text!r} is not two rising numbers in 0..1, such as 0.2,0.8")
    return low, high


@dataclass
class GenerationOptions:
    """The fields of `cyberhost_model.pipeline.Look`."""

    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Same seed, same video.")] = 0
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=1000, help="Denoising steps a clip. [default: the model's]")
    ] = None
    fps: Annotated[float, typer.Option(metavar="RATE", min=1, max=60, help="Frames a second.")] = 25.0
    size: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            min=64,
            max=2048,
            help="Side in pixels of a square of the video's area, in steps of the model's working size. "
            "[default: the picture's, at most 512]",
        ),
    ] = None
    guidance_reference: Annotated[
        float | None,
        typer.Option(metavar="SCALE", min=0, help="Guidance towards the picture. [default: the model's]"),
    ] = None
    guidance_audio: Annotated[
        float | None,
        typer.Option(metavar="SCALE", min=0, help="Guidance towards the speech. [default: the model's]"),
    ] = None
    guidance_interval: Annotated[
        Any,  # tuple[float, float] | None, which Typer would take as two arguments
        typer.Option(
            metavar="LO,HI", parser=interval, help="Noise levels in 0..1 at which guidance acts. [default: 0,1]"
        ),
    ] = None
    hand_clarity: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, max=1, help="How sharp the hands are asked to be. [default: 0.5]"),
    ] = None
    head: Annotated[
        bool | None,
        typer.Option(
            "--head/--no-head",
            help="Crop to the face and leave the hands out. [default: for a picture of a head alone]",
        ),
    ] = None
    cache_blocks: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Compute the U-Net's deep blocks at every N-th step alone: quicker, not quite the same frames.",
        ),
    ] = 1


@dataclass
class JobOptions:
    """Where it is computed and what becomes of the output."""

    model: Annotated[
        str, typer.Option(metavar="NAME", help="'tiny' (inside the package), a folder with a model, or a Hub id.")
    ] = "tiny"
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto
    precision: Annotated[Precision, typer.Option(help="Numbers to compute with.")] = Precision.auto
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Compile the network first (torch.compile): pays for long videos on a GPU."),
    ] = False
    cuda_graphs: Annotated[
        bool | None,
        typer.Option(
            "--cuda-graphs/--no-cuda-graphs",
            show_default=False,
            help="Record a step once and play it back. [default: on an NVIDIA GPU with room for it]",
        ),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            help="Measure the video and name its weak seconds: a page (.html), or a folder with the numbers too.",
        ),
    ] = None
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Check picture and sound, tell frames, downloads, time and memory; make nothing."),
    ] = False

    def check_output(self, output: Path, *inputs: Path) -> Path:
        """The output and the report before any work: they can be written, and are none of the inputs.

        Raises OutputError.
        """
        from cyberhost_model.errors import OutputError
        from cyberhost_model.media.video_writer import check_output

        target = check_output(output, self.overwrite)
        for source in inputs:
            if target.exists() and source.exists() and target.samefile(source):
                raise OutputError(f"{target}: is the input itself; give another name")
        if self.report is not None:
            from cyberhost_model.lab.evaluation.report.single import check_page

            check_page(self.report, self.overwrite)
        return target

    def make(
        self,
        start: Callable[[CyberHost], Animation],
        target: Path,
        ref: Path,
        settings: GenerationOptions,
        sink: Console,
        started: float,
        **facts: Any,
    ) -> None:
        """Make what `start` begins, or with --plan only tell of it.

        Raises ModelError, NetworkError, ResourceError, and what `start` does.
        """
        if self.plan:
            self._tell(start, sink, **facts)
            return
        from cyberhost_model import CyberHost

        host = CyberHost.from_pretrained(
            self.model,
            device=self.device.value,
            precision=self.precision.value,
            compiled=self.compiled,
            cuda_graphs=self.cuda_graphs,
        )
        self._write(start(host), target, ref, settings, sink, started, **facts)

    def _tell(self, start: Callable[[CyberHost], Animation], sink: Console, **facts: Any) -> None:
        from cyberhost_cli.doctor import plan_lines
        from cyberhost_model.doctor.plan import plan

        found = plan(start, self.model, self.device.value, self.precision.value)
        for note in found.warnings:
            sink.warn(note)
        if not sink.as_json and not sink.quiet:
            for line in plan_lines(found):
                print(line)
        sink.data({**asdict(found), **facts})

    def _write(
        self,
        animation: Animation,
        target: Path,
        ref: Path,
        settings: GenerationOptions,
        sink: Console,
        started: float,
        **facts: Any,
    ) -> None:
        """Make the video with a bar, tell what was made, and report on it where that is wanted."""
        told = len(animation.warnings)
        for note in animation.warnings:
            sink.warn(note)
        with sink.progress("animating", animation.n_frames) as tick:
            path = animation.save(target, overwrite=self.overwrite, progress=tick)
        for note in animation.warnings[told:]:  # of memory that was short
            sink.warn(note)
        seconds = time.monotonic() - started
        duration = (
            animation.sound.duration if animation.fits and animation.sound else animation.n_frames / animation.fps
        )
        width, height = animation.size
        sink.note(
            f"{path}: {animation.n_frames} frames of {width}x{height}, {duration:.2f} s of video "
            f"in {seconds:.1f} s ({animation.n_frames / seconds:.1f} frames a second)"
        )
        if self.report is not None:
            from cyberhost_cli.evaluate import report_on

            facts["report"] = report_on(path, self.report, ref, self.device.value, self.overwrite, sink)
        sink.data(
            {
                "output": str(path),
                "frames": animation.n_frames,
                "fps": animation.fps,
                "size": [width, height],
                "seconds": round(seconds, 3),
                "duration": round(duration, 6),
                "seed": settings.seed,
                "model": self.model,
                "warnings": animation.warnings,
                **facts,
            }
        )

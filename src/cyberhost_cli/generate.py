"""`cyberhost animate`, `reenact`, `multimodal` and `dub`: one picture, or one film, becomes a video.

Each command checks its input before any model is loaded, and says how the library starts the video; the rest is
shared, from `make_video` down.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.options import (
    SPEECH,
    BodyMovement,
    Gestures,
    MoreRefs,
    Out,
    OutputOptions,
    Ref,
    WritingOptions,
    check_choice,
    expand_options,
    input_errors_as_usage,
)
from cyberhost_model.config import DenoisingConfig, GenerationConfig, RuntimeConfig
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.output_form import OutputForm, SubtitleOptions
from cyberhost_model.runtime.named_job import numbered

if TYPE_CHECKING:
    from cyberhost_model.marks.marking import FrameDigests
    from cyberhost_model.runtime.named_job import NamedJob
    from cyberhost_model.runtime.pipeline import Animation, CyberHost

DEFAULT_MODEL = RuntimeConfig.model
Start = Callable[["CyberHost"], "Animation"]


@expand_options
def animate(
    ref: Ref,
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help=SPEECH)],
    output: Out,
    settings: GenerationConfig,
    *,
    more: MoreRefs = None,
    body_movement: BodyMovement = None,
    gestures: Gestures = None,
    loop: Annotated[
        bool, typer.Option("--loop", help="The end leads into the beginning; with silence:6 a clip of idle movement.")
    ] = False,
    runtime: RuntimeConfig,
    options: OutputOptions,
    form: OutputForm,
    marks: Marks,
    console: Console,
) -> None:
    """Make the person in the picture REF speak AUDIO.

    The video has the picture's aspect and exactly the sound's length.
    """
    console.silence_libraries()
    own: dict[str, Any] = {"body_movement": body_movement, "gestures": gestures, "loop": loop}
    refs = [ref, *(more or ())]
    files = {**numbered("ref", refs), "audio": audio}
    request = Request(ref, output, settings, runtime, options, form, marks, console, "animate", own, files)
    request.check_output()

    # Late imports: the parser answers before them, and bad input is named before torch is loaded.
    from cyberhost_model.media.audio import load_audio
    from cyberhost_model.media.image import load_picture

    pictures, sound = [load_picture(path) for path in refs], load_audio(audio)
    request.check_model("animate", body_movement=body_movement, gestures=gestures, ref=bool(more) or None)
    make_video(
        request,
        lambda host: host.animate(pictures, sound, **own, **asdict(settings)),
        request.job(),
    )


@expand_options
def reenact(
    ref: Ref,
    driving: Annotated[
        Path, typer.Argument(metavar="DRIVING", help="Video of one person, or a key point file; - is standard input.")
    ],
    output: Out,
    settings: GenerationConfig,
    *,
    more: MoreRefs = None,
    audio: Annotated[
        str, typer.Option(metavar="keep|none|FILE", help="The driving video's sound, none, or another one.")
    ] = "keep",
    retarget: Annotated[
        bool, typer.Option("--retarget/--no-retarget", help="Bring the motion to the proportions in REF.")
    ] = True,
    runtime: RuntimeConfig,
    options: OutputOptions,
    form: OutputForm,
    marks: Marks,
    console: Console,
) -> None:
    """Make the person in the picture REF move as the person in DRIVING.

    The video lasts as long as DRIVING. The sound moves the lips.
    """
    console.silence_libraries()
    refs = [ref, *(more or ())]
    own, files = {"audio": audio, "retarget": retarget}, {**numbered("ref", refs), "driving": driving}
    if audio not in ("keep", "none"):
        files["audio"] = Path(audio)
    request = Request(ref, output, settings, runtime, options, form, marks, console, "reenact", own, files)
    request.check_output()
    from cyberhost_model.media.audio import load_audio
    from cyberhost_model.media.image import load_picture

    pictures = [load_picture(path) for path in refs]
    sound = audio if audio == "keep" else None if audio == "none" else load_audio(audio)
    request.check_model("reenact", ref=bool(more) or None)

    with request.open_driving(driving) as file:

        def start(host: CyberHost) -> Animation:
            with console.progress("reading the driving", None) as tick:
                return host.reenact(pictures, file, audio=sound, retarget=retarget, progress=tick, **asdict(settings))

        make_video(request, start, request.job(driving=file), setting="reenact")


@expand_options
def multimodal(
    ref: Ref,
    audio: Annotated[Path, typer.Option("--audio", metavar="AUDIO", help=SPEECH)],
    output: Out,
    settings: GenerationConfig,
    *,
    more: MoreRefs = None,
    hands: Annotated[
        str | None,
        typer.Option(
            "--hands",
            metavar="TEMPLATE",
            help="A gesture's name (cyberhost template list), a key point file, a pose folder of EchoMimicV2 or a "
            "video. [default: gestures timed by the speech]",
        ),
    ] = None,
    retarget: Annotated[
        bool,
        typer.Option("--retarget/--no-retarget", help="Move the hands to where REF has them, in its proportions."),
    ] = True,
    runtime: RuntimeConfig,
    options: OutputOptions,
    form: OutputForm,
    marks: Marks,
    console: Console,
) -> None:
    """Make the person in the picture REF speak AUDIO while the hands follow TEMPLATE.

    The template is repeated without a jump for as long as the sound lasts. Without one the seed chooses gestures.
    """
    console.silence_libraries()
    refs = [ref, *(more or ())]
    files = {**numbered("ref", refs), "audio": audio, **({} if hands is None else {"hands": Path(hands)})}
    request = Request(
        ref, output, settings, runtime, options, form, marks, console, "multimodal", {"retarget": retarget}, files
    )
    request.check_output()
    from cyberhost_model.media.audio import load_audio
    from cyberhost_model.media.image import load_picture

    pictures, sound = [load_picture(path) for path in refs], load_audio(audio)
    request.check_model("multimodal", ref=bool(more) or None)

    with contextlib.ExitStack() as stack:
        # Not a name alone, which a gesture of the package may have.
        if hands is not None and (Path(hands).exists() or Path(hands) == Path("-")):
            hands = str(stack.enter_context(request.open_driving(Path(hands))))

        def start(host: CyberHost) -> Animation:
            with console.progress("reading the template", None) as tick:
                return host.multimodal(pictures, sound, hands, retarget=retarget, progress=tick, **asdict(settings))

        make_video(
            request, start, request.job(**({} if hands is None else {"hands": Path(hands)})), setting="multimodal"
        )


@expand_options
def dub(
    film: Annotated[Path, typer.Argument(metavar="FILM", help="Video of a person whose mouth is seen.")],
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help=SPEECH)],
    output: Out,
    settings: DenoisingConfig,
    *,
    length: Annotated[
        str,
        typer.Option(
            metavar="film|audio",
            help="How long the video is: as FILM, or as AUDIO, for which FILM goes there and back.",
        ),
    ] = "film",
    runtime: RuntimeConfig,
    options: WritingOptions,
    subtitled: SubtitleOptions,
    marks: Marks,
    console: Console,
) -> None:
    """Make the lips of the person in FILM follow AUDIO.

    All else stays as it was filmed, at FILM's size and rate. The sound of the video is AUDIO.
    """
    console.silence_libraries()
    check_choice("--length", length, "film", "audio")
    form, files = OutputForm(subtitled.subtitles), {"film": film, "audio": audio}
    request = Request(film, output, settings, runtime, options, form, marks, console, "dub", {"length": length}, files)
    request.check_output()
    from cyberhost_model.media.audio import load_audio

    sound = load_audio(audio)
    request.check_model("dub")

    with request.open_driving(film) as file:

        def start(host: CyberHost) -> Animation:
            with console.progress("reading the film", None) as tick:
                return host.dub(file, sound, length=length, progress=tick, **asdict(settings))

        make_video(request, start, request.job(film=file), setting="dub")


@dataclass(frozen=True)
class Request:
    """What was typed for one video, beside the inputs that only its command has."""

    ref: Path
    """The picture, or the film that is dubbed."""
    output: Path
    settings: DenoisingConfig
    runtime: RuntimeConfig
    options: WritingOptions
    form: OutputForm
    marks: Marks
    console: Console
    command: str
    own: dict[str, Any]
    """Options that only this command has, for the record."""
    inputs: dict[str, Path]
    """Every file that the model makes the video of, by the name of its argument."""
    started: float = field(default_factory=time.monotonic)

    @property
    def files(self) -> dict[str, Path]:
        """Every file that the video is made of: inputs, background, subtitles."""
        return {**self.inputs, **self.form.files}

    def job(self, **files: Path) -> NamedJob:
        """Name the job for the library. files: in the place of `inputs` of these names."""
        from cyberhost_model.runtime.named_job import OWN, NamedJob

        inputs: dict[str, Path | str | list[Path] | None] = {**self.inputs, **files}
        refs = [name for name in inputs if name == "ref" or name.startswith("ref ")]  # as `numbered` names them
        if pictures := [Path(str(inputs.pop(name))) for name in refs]:
            inputs["picture"] = pictures if len(pictures) > 1 else pictures[0]
        if isinstance(hands := inputs.get("hands"), Path) and not hands.exists():
            inputs["hands"] = str(hands)  # a gesture of the package
        if self.command == "reenact" and "audio" not in inputs:
            inputs["audio"] = self.own.get("audio", "keep")
        own = {name: value for name, value in self.own.items() if name in OWN[self.command]}
        return NamedJob(self.command, inputs, {**asdict(self.settings), **own})

    def check_output(self) -> None:
        """Check that the video, its report and its record can be written and would replace no input, form and signer.

        Raises OutputError, InputError, ResourceError, and BadParameter for two inputs from standard input and for a
        form that cannot be.
        """
        from cyberhost_model.errors import OutputError
        from cyberhost_model.media.video_writer import check_output

        if [*self.inputs.values()].count(Path("-")) > 1:
            raise typer.BadParameter("- is standard input, which only one input can be")
        target = check_output(self.output, self.options.overwrite)
        with input_errors_as_usage():
            self.form.check(target)
        sources = [*self.files.values()]
        for source in sources:
            if target.exists() and source.exists() and target.samefile(source):
                raise OutputError(f"{target}: is the input itself; give another name")
        if self.options.record:
            from cyberhost_model.marks.record import check_record

            record = check_record(target, self.options.overwrite)
            if any(record.exists() and source.exists() and record.samefile(source) for source in sources):
                raise OutputError(f"{record}: is an input itself, and the record would replace it; rename OUT")
        if not self.options.plan:
            self.marks.signing(target.name)
        self.form.open_subtitles()
        self.form.open_background()
        if self.options.report is not None:
            from cyberhost_model.lab.evaluation.report.single import check_page

            check_page(self.options.report, self.options.overwrite)

    @contextlib.contextmanager
    def open_driving(self, driving: Path) -> Iterator[Path]:
        """Check that what drives the body can be read; yields it, or for "-" a file with all of standard input.

        Raises InputError at once, before a model is loaded.
        """
        from cyberhost_model.media.files import check_regular
        from cyberhost_model.media.standard_input import as_file

        with as_file(driving) as file:
            if not file.is_dir():  # a pose folder
                check_regular(file, "driving video or key point file", "one video")
            yield file

    def check_model(self, command: str, **own: float | bool | None) -> None:
        """Check that the model can run `command` with these settings and its `own`, before it is fetched.

        Raises InputError, ModelError, NetworkError.
        """
        prepare_imports(self.runtime)
        from cyberhost_model.runtime.loading import check_model

        runtime, ask = self.runtime, not self.options.plan
        check_model(runtime.model, command, self.settings, runtime.allow_untrained, ask, **own)


def make_video(
    request: Request,
    start: Start,
    job: NamedJob,
    expected: str | None = None,
    run: int | None = None,
    **facts: Any,
) -> None:
    """Make the video that `start` begins, or with --plan only estimate it; `facts` join the JSON object.

    job: what `start` begins, by name. expected: the digest that its frames must have. run: the number of the run; None:
    made of what the frames depend on. Raises ModelError, NetworkError, ResourceError, MarkError where the frames
    differ, and what `start` does.
    """
    if request.options.plan:
        show_plan(request, start, facts)
        return
    from cyberhost_model import CyberHost

    host = CyberHost.from_pretrained(**asdict(request.runtime))
    animation = start(host)
    animation.inputs = tuple(path for path in request.files.values() if path.is_file())
    digests = None
    if request.options.record or expected is not None:
        from cyberhost_model.marks.marking import FrameDigests

        digests = FrameDigests()
    animation.run = run
    path = write_video(animation, request, job.facts(host), digests)
    frames = None if digests is None else digests.hexdigest()
    summary = summarise(animation, path, request)
    if request.options.record and frames is not None:
        facts["record"] = str(record_run(host, animation, path, frames, request))
    if request.options.report is not None:
        from cyberhost_cli.evaluate import report_on

        facts["report"] = report_on(
            path,
            request.options.report,
            request.ref,
            request.runtime.device,
            request.options.overwrite,
            request.console,
        )
    if expected is not None:
        facts["frames_equal"] = frames == expected
    request.console.data({**summary, "warnings": animation.warnings, **facts})
    if not facts.get("frames_equal", True):
        from cyberhost_model.errors import MarkError

        raise MarkError(f"{path}: its frames are not those of the record; compare the record's versions and machine")


def record_run(host: CyberHost, animation: Animation, path: Path, frames: str, request: Request) -> Path:
    """Write the record of a video that was made. Raises OutputError."""
    from cyberhost_model.marks.record import make_record, record_path, write_record
    from cyberhost_model.marks.run_code import name_of
    from cyberhost_model.media.files import digest_of

    precision = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}[str(host.dtype).removeprefix("torch.")]
    marks = request.marks
    kept = {"watermark": marks.watermark, "label": marks.label, "c2pa": marks.c2pa}
    record = make_record(
        request.command,
        {
            "settings": asdict(request.settings),
            "runtime": asdict(request.runtime),
            "marks": kept,
            "form": {"background": request.form.background, "alpha": request.form.alpha},
            "own": request.own,
        },
        {name: str(source) for name, source in request.files.items()},
        {
            "name": request.runtime.model,
            "sha256": None if host.folder is None else digest_of(host.folder),
            "device": host.device.type,
            "precision": precision,
        },
        {
            "file": path.name,
            "sha256": digest_of(path),
            "frames_sha256": frames,
            "frames": animation.n_frames,
            "fps": animation.fps,
            "size": list(animation.size),
            "run": None if animation.run is None else name_of(animation.run),
        },
    )
    return write_record(record, record_path(path))


def prepare_imports(runtime: RuntimeConfig) -> None:
    """Import the libraries of networks before the model does, where it needs only a part of them."""
    if runtime.model == DEFAULT_MODEL and not (runtime.compiled or runtime.onnx):
        from cyberhost_cli.lean_imports import import_networks

        import_networks()


def show_plan(request: Request, start: Start, facts: dict[str, Any]) -> None:
    """Print what the video would take."""
    from cyberhost_cli.doctor import plan_lines
    from cyberhost_model.doctor.plan import plan

    runtime = request.runtime
    found = plan(
        start,
        runtime.model,
        runtime.device,
        runtime.precision,
        runtime.allow_untrained,
        form=request.form,
        onnx=runtime.onnx,
    )
    for line in found.warnings:
        request.console.warn(line)
    request.console.text(plan_lines(found))
    request.console.data({**asdict(found), **facts})


def write_video(
    animation: Animation, request: Request, facts: dict[str, str] | None, digests: FrameDigests | None
) -> Path:
    """Compute the frames and write them with a bar; the warnings of the input come before, those of memory after.

    facts: see `Animation.save`.
    """
    early = len(animation.warnings)
    for line in animation.warnings:
        request.console.warn(line)
    options = request.options
    with request.console.progress("animating", animation.n_frames, clip=animation.clip) as tick:
        animation.on_step = lambda step, steps: tick(0, None, f"step {step} of {steps}")
        path = animation.save(
            request.output,
            options.overwrite,
            tick,
            marks=request.marks,
            form=request.form,
            digests=digests,
            facts=facts,
            resume=options.resume,
            tell=lambda line: request.console.note(f"{request.output}: {line}"),
        )
    for line in animation.warnings[early:]:
        request.console.warn(line)
    return path


def summarise(animation: Animation, path: Path, request: Request) -> dict[str, Any]:
    """Print one line about the video that was made, and return the same as values."""
    seconds = time.monotonic() - request.started
    duration = animation.sound.duration if animation.fits and animation.sound else animation.n_frames / animation.fps
    width, height = animation.size
    request.console.note(
        f"{path}: {animation.n_frames} frames of {width}x{height}, {duration:.2f} s of video "
        f"in {seconds:.1f} s ({animation.n_frames / seconds:.1f} frames a second)"
    )
    return {
        "output": str(path),
        "frames": animation.n_frames,
        "fps": animation.fps,
        "size": [width, height],
        "seconds": round(seconds, 3),
        "duration": round(duration, 6),
        "seed": request.settings.seed,
        "model": request.runtime.model,
    }

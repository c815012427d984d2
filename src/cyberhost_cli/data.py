"""`cyberhost data`: training clips, made or prepared from videos, and coded for training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.options import check_choice, expand_options, input_errors_as_usage
from cyberhost_model.options import SEEDS, option

if TYPE_CHECKING:
    from cyberhost_model.lab.engines import Engine
    from cyberhost_model.lab.synthetic.clips import ClipGenerator
    from cyberhost_model.lab.synthetic.speech_motion import LipListener
    from cyberhost_model.lab.training.clip_encoder import ClipEncoder
    from cyberhost_model.lab.training.encode import EncodeSummary, Part

Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the clips.")]
Clips = Annotated[int, typer.Option(min=1, max=10_000_000, help="How many clips.")]
Frames = Annotated[int, typer.Option(min=16, max=10_000, help="Frames a clip, at 25 a second.")]


@dataclass(frozen=True)
class Source:
    """Material of clips that are made: photo puppets and drawn people that speak."""

    speech: list[str] | None = option(
        None, "16 kHz speech (FLAC, WAV), for clips that are made; may be repeated.", metavar="DIR"
    )
    stills: list[str] | None = option(None, "Labelled pictures; may be repeated.", metavar="DIR")
    gestures: Path | None = option(None, "Recorded gestures (.npz); optional.", metavar="DIR")
    drawn: float = option(0.3, "Share of drawn people; 1 without --stills.", min=0, max=1)
    heads: float = option(0.0, "Share of crops about the head.", min=0, max=1)
    reaching: float = option(0.0, "Share of clips whose hands reach out.", min=0, max=1)
    start: int = option(0, "Number of the first clip.", min=0, max=10**9)
    seed: int = option(0, "Same seed, same clips.", min=0, max=SEEDS)
    held_out: bool = option(False, "Only people and speakers kept out of training.")

    def open(self, frames: int, listener: LipListener | None = None) -> ClipGenerator:
        """Load the material as a source of clips of `frames` frames. listener: see `ClipGenerator`.

        Raises InputError when a folder holds nothing of use.
        """
        if not self.speech:
            raise typer.BadParameter("clips that are made need speech: --speech DIR", param_hint="'--speech'")
        from cyberhost_model.lab.synthetic.clips import ClipGenerator
        from cyberhost_model.lab.synthetic.performance import load_gestures
        from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary

        people = People(self.stills or [], self.drawn, self.held_out)
        gestures = load_gestures(self.gestures) if self.gestures else None
        return ClipGenerator(
            people,
            SpeechLibrary(self.speech, self.held_out),
            self.seed,
            frames,
            gestures,
            heads=self.heads,
            reaching=self.reaching,
            listener=listener,
        )


@expand_options
def synth(source: Source, output: Output, *, clips: Clips = 10, frames: Frames = 50, console: Console) -> None:
    """Make videos of photo puppets and drawn people that speak, with exact labels.

    Clip N is N.mp4 with N.png (its reference) and N.npz: key points, flow, boxes, thorax, clarity, mouth opening.
    They are listed in manifest.parquet, like those of `data prepare`.
    """
    console.silence_libraries()
    from cyberhost_model.lab.filmed.manifest import add_rows, need
    from cyberhost_model.lab.synthetic.clips import export_clip

    need("pyarrow")
    made = source.open(frames)
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    try:
        with console.progress("making clips", clips, unit="clips") as tick:
            for done in range(clips):
                number = source.start + done
                rows.append(export_clip(made.clip(number), output, number, source.held_out))
                tick(done + 1)
    finally:  # clips that were made before a Ctrl-C are in the manifest too
        if rows:
            add_rows(output, rows)
    console.note(f"{output}: {clips} clips of {frames} frames")
    console.data({"output": str(output), "clips": clips, "frames": frames, "seed": source.seed})


@expand_options
def prepare(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEOS...", help="Videos, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DATASET", help="Folder of the dataset.")],
    *,
    crop: Annotated[str, typer.Option(metavar="body|head", help="Head to hands, or the head alone.")] = "body",
    area: Annotated[str, typer.Option(metavar="WxH", help="Clips get about this area, sides 64n.")] = "640x384",
    min_seconds: Annotated[float, typer.Option(min=0.2, max=120, help="Shortest clip.")] = 2.0,
    max_seconds: Annotated[float, typer.Option(min=0.2, max=120, help="Longest clip.")] = 10.0,
    min_face: Annotated[float, typer.Option(min=0, max=1, help="Least share of frames with a face.")] = 0.95,
    min_hands: Annotated[float, typer.Option(min=0, max=1, help="Least share with a hand (body).")] = 0.3,
    min_speech: Annotated[
        float, typer.Option(min=0, max=1, help="Least share with speech; 0 takes clips without sound too.")
    ] = 0.3,
    min_fps: Annotated[float, typer.Option(min=0, max=240, help="Fewest distinct frames a second.")] = 18.0,
    max_enlarge: Annotated[
        float, typer.Option(min=0.1, max=16, help="Largest factor by which a crop is enlarged.")
    ] = 1.5,
    identity_by: Annotated[
        str,
        typer.Option(
            metavar="video|folder|face",
            help="Clips of one video, of one folder, or of one face (ArcFace, extra face) share an identity.",
        ),
    ] = "video",
    split_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Lines NAME,train or NAME,held_out. [default: a tenth is held out, by its name]"
        ),
    ] = None,
    detector: Annotated[str, typer.Option(help="Key point detector.")] = "embedded",
    min_sync: Annotated[
        float | None,
        typer.Option(
            min=-100, max=100, help="Least SyncNet confidence that lips and sound fit. [default: not measured]"
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, max=1024, help="Worker processes; 0 for none.")] = 1,
    engine: Annotated[str, typer.Option(metavar="local|ray", help="Where videos are processed.")] = "local",
    address: Annotated[str | None, typer.Option(help="Ray cluster. [default: this machine]")] = None,
    console: Console,
) -> None:
    """Turn raw talking videos into training clips with labels.

    One person, face and hands, speech; 25 frames a second, 16 kHz. manifest.parquet has a row for every
    candidate clip, with the reason where it was rejected. Running it again does only what is missing.
    """
    console.silence_libraries()
    from cyberhost_model.lab.engines import ENGINES
    from cyberhost_model.lab.filmed.build import prepare_dataset
    from cyberhost_model.lab.filmed.detectors import DETECTORS
    from cyberhost_model.lab.filmed.manifest import read_splits
    from cyberhost_model.lab.filmed.settings import Settings

    check_choice("--engine", engine, *ENGINES)
    check_choice("--detector", detector, *DETECTORS)
    if address is not None and engine != "ray":
        raise typer.BadParameter("--address goes with --engine ray")
    splits = None if split_file is None else read_splits(split_file)
    with input_errors_as_usage():
        settings = Settings(
            crop,
            _size(area),
            min_seconds,
            max_seconds,
            min_face,
            min_hands,
            min_speech,
            min_fps,
            max_enlarge,
            identity_by,
            detector,
            min_sync,
            splits,
        )
    with console.progress("preparing", None, unit="videos") as tick:
        report = prepare_dataset(videos, output, settings, workers, engine, address, tick, console.warn)
    console.note(
        f"{output}: {report.accepted} clips ({report.seconds / 60:.1f} minutes) from {report.videos} videos, "
        f"{report.kept} of them done before"
    )
    reasons = dict(report.reasons.most_common())
    if reasons:
        console.note(f"rejected {report.rejected}: " + ", ".join(f"{name} {n}" for name, n in reasons.items()))
    skipped = [dict(zip(("source", "reason", "detail"), item, strict=True)) for item in report.skipped]
    console.data(
        {
            "output": str(output),
            "videos": report.videos,
            "done_before": report.kept,
            "accepted": report.accepted,
            "rejected": report.rejected,
            "seconds": round(report.seconds, 2),
            "reasons": reasons,
            "broken": skipped,
        }
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()) or len(text) > 20:
        raise typer.BadParameter(f"--area must look like 640x384, not {text[:40]!r}")
    return int(width), int(height)


@expand_options
def inspect(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder with a manifest.parquet.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PAGE", help="Also write an HTML page of samples.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=10_000, help="Clips on the page.")] = 12,
    console: Console,
) -> None:
    """Count clips, hours, identities, sizes and rejections of a dataset.

    The page is one file: sample clips with their key points drawn, and the figures.
    """
    console.silence_libraries()
    from cyberhost_model.lab.filmed.inspection import summarise, summary_text
    from cyberhost_model.lab.filmed.manifest import read_manifest

    rows = read_manifest(dataset)
    summary = summarise(rows)
    console.text([summary_text(summary)])
    page = None
    if output is not None:
        from cyberhost_model.lab.filmed.page import write_page

        page = write_page(dataset, rows, summary, output, samples)
        console.note(f"{page}: {min(samples, summary['clips']['accepted'])} sample clips")
    console.data({"dataset": str(dataset), **summary, "page": str(page) if page else None})


MADE = 500
"""Clips that `data encode` makes unless --clips says otherwise."""


@dataclass(frozen=True)
class Coding:
    """How `data encode` codes clips: for which network, with what, and what it keeps of them."""

    preset: str = option("tiny", "Size of the network that the clips are for.", metavar="tiny|sd15")
    codec: str | None = option(None, "Run of stage codec, or a model. [default: the preset's]", metavar="RUN")
    audio: str | None = option(None, "Run of stage audio, or a model. [default: the preset's]", metavar="RUN")
    frames: int | None = option(
        None, "Frames a clip. [default: 32; sd15: whole clips of a dataset]", min=16, max=10_000, metavar="N"
    )
    references: int | None = option(
        None, "Reference frames of a filmed clip, one drawn anew at each step. [default: 1; sd15: 3]", min=1, max=64
    )
    features: str | None = option(
        None, "How speech features are kept. [default: float16; sd15: int8]", metavar="float16|int8"
    )
    device: str = option("cpu", "cpu, cuda or mps; workers take the GPUs in turn.")
    precision: str = option("fp32", "Precision the codec computes in: fp32, fp16, bf16.")


@dataclass(frozen=True)
class Spread:
    """Where `data encode` works, and on which part of the clips."""

    workers: int = option(0, "Worker processes; 0 for none.", min=0, max=1024)
    engine: str = option("local", "Where clips are coded.", metavar="local|ray")
    address: str | None = option(None, "Ray cluster. [default: this machine]")
    shard: str = option("1/1", "Code only every n-th clip, from the i-th on: one of n machines.", metavar="I/N")


@expand_options
def encode(
    source: Source,
    output: Output,
    *,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATASET", help="Code these clips (data prepare, data synth) instead of making some."),
    ] = None,
    clips: Annotated[
        int | None, typer.Option(min=1, max=10_000_000, help=f"How many clips. [default: {MADE}; all of a dataset]")
    ] = None,
    coding: Coding,
    spread: Spread,
    console: Console,
) -> None:
    """Code clips for stages 1 and 2 of training; clips that are there already are kept.

    With --data the training split of a dataset is coded (--held-out: the other one), --clips of its clips from --start
    on; a clip that cannot be read is named and left out. Without it, the clips that `data synth` makes of the same
    --speech, --stills and --gestures.
    """
    console.silence_libraries()
    if data is not None and (source.speech or source.stills or source.gestures):
        raise typer.BadParameter(
            "a dataset has its own sound and pictures: give --data, or --speech with --stills and --gestures",
            param_hint="'--data'",
        )
    if spread.address is not None and spread.engine != "ray":
        raise typer.BadParameter("--address goes with --engine ray")
    if data is None and not source.speech:
        source.open(1)  # says what is missing
    from cyberhost_model.lab.engines import ENGINES, Engine
    from cyberhost_model.lab.filmed.manifest import accepted_rows
    from cyberhost_model.lab.training.clip_encoder import FEATURES, EncoderConfig, encoder_hints, load_clip_encoder
    from cyberhost_model.lab.training.encode import Part, encode_dataset

    check_choice("--engine", spread.engine, *ENGINES)
    if coding.features is not None:
        check_choice("--features", coding.features, *FEATURES)
    with input_errors_as_usage():
        settings = {field.name: getattr(coding, field.name) for field in fields(coding) if field.name != "frames"}
        config = EncoderConfig(**settings)
        part = Part(source.start, clips, Part.read_shard(spread.shard))
    engine = Engine(spread.engine, spread.workers, spread.address)
    coder = load_clip_encoder(config)
    for line in encoder_hints(config):
        console.warn(line)
    if data is None:
        _encode_made(source, output, coder, part, coding.frames or 32, engine, console)
        return
    split = "held_out" if source.held_out else "train"
    chosen = len(part.of(accepted_rows(data, split)))
    with console.progress("coding clips", chosen, unit="clips", clip=1) as tick:
        report = encode_dataset(
            data,
            output,
            coder,
            frames=coding.frames,
            seed=source.seed,
            split=split,
            part=part,
            engine=engine,
            progress=tick,
            warn=console.warn,
        )
    frames = config.stretch(coding.frames)
    length = f"clips of {frames} frames" if frames else "whole clips"
    console.note(
        f"{output}: {report.coded} coded {length} from {report.clips} clips, {report.kept} of them done before"
    )
    if report.short:
        console.note(f"left out: {report.short} clips of fewer than {frames} frames (--frames)")
    console.data(
        {
            "output": str(output),
            "clips": report.clips,
            "done_before": report.kept,
            "coded": report.coded,
            "short": report.short,
            "split": split,
            "frames": frames,
            "seed": source.seed,
            "broken": [{"clip": clip, "detail": detail} for clip, detail in report.broken],
            "psnr": _tell_fidelity(report, console),
        }
    )


def _tell_fidelity(report: EncodeSummary, console: Console) -> dict[str, float]:
    """Print how well the codec brings back what was coded, and warn where a network would learn its errors."""
    from cyberhost_model.lab.training.fidelity import GOALS

    psnr, low = report.fidelity.psnr(), report.fidelity.too_low()
    if psnr:
        console.note("decoded from what was coded: " + ", ".join(f"{name} {dB:.1f} dB" for name, dB in psnr.items()))
    if low:
        goals = ", ".join(f"{name} {GOALS[name]:.0f}" for name in low)
        console.warn(f"the codec is too poor for these clips (wanted: {goals} dB): train it on their kind (--filmed)")
    return psnr


def _open_source(source: Source, frames: int, coder: ClipEncoder) -> ClipGenerator:
    """Open the source of clips with the speech encoder that they are coded with, where it hears lips."""
    listener = coder.speech if hasattr(coder.speech, "predict_lips") else None
    return source.open(frames, listener)  # type: ignore[arg-type]


def _encode_made(
    source: Source, output: Path, coder: ClipEncoder, part: Part, frames: int, engine: Engine, console: Console
) -> None:
    from cyberhost_model.lab.training.encode import claim, encode_made

    source.open(frames)  # so that this process, not a worker, reports what is missing
    # Clips of other sources may join, of another length or coder not.
    claim(
        output, {**coder.config.facts(), "frames": frames}, {**asdict(source), "gestures": str(source.gestures or "")}
    )
    numbers = part.numbers(MADE)
    with console.progress("coding clips", len(numbers), unit="clips", clip=1) as tick:
        report = encode_made(partial(_open_source, source, frames), output, coder, numbers, engine, tick, console.warn)
    console.note(f"{output}: {len(numbers)} coded clips of {frames} frames")
    psnr = _tell_fidelity(report, console)
    console.data({"output": str(output), "clips": len(numbers), "frames": frames, "seed": source.seed, "psnr": psnr})


app = typer.Typer(help="Make training data.", no_args_is_help=True, rich_markup_mode=None)
for command in (prepare, inspect, synth, encode):
    app.command()(command)

"""`cyberhost live`: a picture speaks what comes from a pipe or a microphone, while it comes."""

from __future__ import annotations

import contextlib
import itertools
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.generate import prepare_imports
from cyberhost_cli.options import BodyMovement, Gestures, Ref, expand_options
from cyberhost_model.config import GenerationConfig, LivePace, RuntimeConfig
from cyberhost_model.marks.marking import Marks
from cyberhost_model.options import option

if TYPE_CHECKING:
    import numpy as np

    from cyberhost_model.media.pcm import PcmFormat
    from cyberhost_model.runtime.live import LiveSession

MICROPHONE_RATE = 16_000  # Hz
PLAYER = ["ffplay", "-v", "error", "-fflags", "nobuffer", "-flags", "low_delay", "-window_title", "cyberhost", "-"]
_TOLD_AFTER = 24  # frames: two clips, for the first of a process takes longer
_BEHIND = 2.0  # seconds of sound that wait, beyond those that must, when the user is told
Blocks = Iterable["np.ndarray"]


@dataclass(frozen=True)
class LiveOptions(LivePace):
    """Where the sound comes from and where the video goes."""

    stdin: bool = option(False, "Take the sound from standard input: WAV, or raw samples with --rate.")
    mic: bool = option(False, "Take the sound from the microphone, until Ctrl-C (extra live).")
    rate: int | None = option(
        None, "Rate of raw samples on standard input, in Hz.", metavar="HZ", min=4_000, max=384_000
    )
    samples: str = option("s16le", "Kind of raw samples.", choices=("s16le", "f32le"))
    channels: int = option(1, "Channels of raw samples.", metavar="N", min=1, max=8)
    window: bool = option(False, "Show the video in a window, by ffplay.")
    raw: bool = option(False, "Write frames as they are, rgb24 without sound; with -o -.")
    overwrite: bool = option(False, "Replace OUT if it exists.")


@expand_options
def live(
    ref: Ref,
    settings: GenerationConfig,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="The video to write (.mp4); - is standard output."),
    ] = None,
    source: LiveOptions,
    body_movement: BodyMovement = None,
    gestures: Gestures = None,
    runtime: RuntimeConfig,
    marks: Marks,
    console: Console,
) -> None:
    """Make the person in the picture REF speak what is being said.

    On standard output the video is an MP4 in fragments, which a player shows as they come.
    """
    console.silence_libraries()
    check_request(ref, output, source, marks, console)

    # Late imports: the parser answers before them, and bad input is named before torch is loaded.
    from cyberhost_model.errors import InputError
    from cyberhost_model.media.image import load_picture

    picture = load_picture(ref)
    with contextlib.ExitStack() as stack:
        form, blocks = stack.enter_context(open_microphone()) if source.mic else open_standard_input(source)
        prepare_imports(runtime)
        from cyberhost_model import CyberHost
        from cyberhost_model.runtime.loading import check_model

        asked: dict[str, Any] = {"body_movement": body_movement, "gestures": gestures}
        check_model(runtime.model, "animate", settings, runtime.allow_untrained, **asked)
        host = CyberHost.from_pretrained(**asdict(runtime))
        session = host.live(
            picture,
            **asked,
            low_delay=source.low_delay,
            look_ahead=source.look_ahead,
            clip=source.clip,
            keep_up=source.keep_up,
            **asdict(settings),
        )
        for line in session.warnings:
            console.warn(line)
        console.note(
            f"ready: {session.size[0]}x{session.size[1]}, {session.fps:g} frames a second in {session.steps} "
            f"step{'s' * (session.steps > 1)}, {session.delay:.2f} s of sound before a clip's first frame"
        )
        add = stack.enter_context(open_output(output, source, marks, session, form, ref))
        count, seconds = show(session, blocks, form.rate, marks, add, console)
        if count == 0:  # in here, so that no file without a frame appears
            where = "the microphone: gave no sound" if source.mic else "standard input: ends before the first sample"
            raise InputError(f"{where}; nothing is written")
    console.note(f"{count} frames, {count / session.fps:.2f} s of video, in {seconds:.1f} s")
    console.data(
        {
            "output": None if output is None else str(output),
            "frames": count,
            "fps": session.fps,
            "steps": session.steps,
            "seconds": seconds,
        }
    )


def check_request(ref: Path, output: Path | None, source: LiveOptions, marks: Marks, console: Console) -> None:
    """Check that the options fit each other, before anything is read. Raises BadParameter, OutputError and others."""
    streams = output == Path("-")
    if source.mic == source.stdin:
        raise typer.BadParameter("give --stdin or --mic: where the sound comes from")
    if (output is None) != source.window:
        raise typer.BadParameter("give either -o, where the video goes, or --window")
    if source.stdin and ref == Path("-"):
        raise typer.BadParameter("- is standard input, which is the sound here")
    if source.raw and not streams:
        raise typer.BadParameter("--raw writes to standard output: give -o -")
    if streams and console.as_json:
        raise typer.BadParameter("-o - and --json would both write to standard output")
    if (streams or source.window) and marks.c2pa:
        raise typer.BadParameter("a stream cannot be signed: leave out --c2pa, or give -o a file")
    if source.mic and source.rate is not None:
        raise typer.BadParameter("--rate is for --stdin")
    if output is not None and not streams:
        from cyberhost_model.media.files import check_target
        from cyberhost_model.media.live_writer import SUFFIXES

        check_target(output, SUFFIXES, source.overwrite)
        marks.signing(output.name)


def open_standard_input(source: LiveOptions) -> tuple[PcmFormat, Blocks]:
    """Read how samples lie on standard input -> that, and blocks as they come. Raises InputError."""
    from cyberhost_model.errors import InputError
    from cyberhost_model.media.pcm import PcmFormat, read_wav_header

    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise InputError("standard input: nothing is given; pipe a sound into it")
    stream = sys.stdin.buffer
    if source.rate is None:
        form = read_wav_header(stream)
    else:
        form = PcmFormat(source.rate, source.channels, source.samples)
    return form, form.blocks(stream)


@contextlib.contextmanager
def open_microphone() -> Iterator[tuple[PcmFormat, Blocks]]:
    """Record from the default microphone until Ctrl-C; a second one stops the command. Raises ResourceError."""
    from cyberhost_model.errors import ResourceError, need
    from cyberhost_model.media.pcm import PcmFormat

    try:
        sounddevice = need("sounddevice", "live")
    except OSError as error:  # the library without PortAudio
        raise ResourceError(f"the microphone cannot be used: {error}; install PortAudio") from None
    waiting: queue.Queue[np.ndarray | None] = queue.Queue()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        waiting.put(None)

    def keep(data: Any, *_: Any) -> None:
        waiting.put(data.copy())

    def blocks() -> Iterator[np.ndarray]:
        while (block := waiting.get()) is not None:
            yield block

    before = signal.signal(signal.SIGINT, stop)
    try:
        with sounddevice.InputStream(MICROPHONE_RATE, channels=1, dtype="float32", callback=keep):
            yield PcmFormat(MICROPHONE_RATE, 1, "f32le"), blocks()
    except sounddevice.PortAudioError as error:
        raise ResourceError(f"the microphone cannot be used: {error}") from None
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def open_output(
    output: Path | None, source: LiveOptions, marks: Marks, session: LiveSession, form: PcmFormat, ref: Path
) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
    """Open what the video goes to; yields a function that takes frames with their sound."""
    from cyberhost_model.media.live_writer import LiveWriter

    if source.raw:
        yield lambda frame, sound: write_raw(frame)
        return
    with contextlib.ExitStack() as stack:
        streams = output is None or output == Path("-")
        target: Any = output
        if output is None:
            target = stack.enter_context(open_player())
        elif streams:
            target = sys.stdout.buffer
        inputs = (ref,) if ref.is_file() else ()
        finish = None if streams or output is None else marks.signing(output.name, inputs)
        writer = stack.enter_context(
            LiveWriter(
                target,
                session.size,
                session.fps,
                form.rate,
                form.channels,
                marks.tags(inputs),
                source.overwrite,
                finish,
            )
        )
        yield writer.add


@contextlib.contextmanager
def open_player() -> Iterator[Any]:
    """Start ffplay; yields the stream that it shows. Raises ResourceError where there is none."""
    from cyberhost_model.errors import ResourceError

    try:
        player = subprocess.Popen(PLAYER, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    except OSError as error:
        raise ResourceError(f"ffplay cannot be started ({error.strerror}); install ffmpeg, or give -o -") from None
    assert player.stdin is not None
    try:
        yield player.stdin
        player.stdin.close()
        player.wait()
    finally:
        player.kill()
        player.wait()


def write_raw(frame: np.ndarray) -> None:
    """Write a frame to standard output."""
    sys.stdout.buffer.write(frame.tobytes())
    sys.stdout.buffer.flush()


def show(
    session: LiveSession,
    blocks: Blocks,
    rate: int,
    marks: Marks,
    add: Callable[[np.ndarray, np.ndarray], None],
    console: Console,
) -> tuple[int, float]:
    """Speak the blocks and hand on each frame, marked, with its sound -> (frames, seconds since the first block)."""
    from cyberhost_model.runtime.live import speak

    stream = iter(blocks)
    first = list(itertools.islice(stream, 1))  # a pipe may stay silent for long before
    began, told, count = time.monotonic(), False, 0
    for frame, sound, seconds in speak(session, itertools.chain(first, stream), rate):
        add(next(iter(marks.frames([frame]))), sound)
        count += 1
        elapsed = time.monotonic() - began
        behind = elapsed - seconds - session.delay
        if behind > _BEHIND and count >= _TOLD_AFTER and not told:
            told = True
            console.warn(
                f"the video is {behind:.1f} s behind the sound: {count / elapsed:.1f} frames a second are made here; "
                "give --keep-up, or a lower --fps, --size or --steps"
            )
    return count, time.monotonic() - began

"""`cyberhost doctor`: what can be made on this machine, and what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.options import Device, Precision, expand_options

if TYPE_CHECKING:
    from cyberhost_model.doctor.costs import CountedEstimate, Estimate
    from cyberhost_model.doctor.examination import Examination
    from cyberhost_model.doctor.machine import Machine
    from cyberhost_model.doctor.plan import Plan

# What `cyberhost doctor` and `--plan` say in words.


def doctor_lines(found: Examination) -> Iterator[str]:
    """An examination, a line for each subject."""
    from cyberhost_model.hub.progress import format_size

    if found.machine is not None:
        yield from _machine_lines(found.machine)
    yield from _around_lines(found)
    for extra in found.extras:
        modules = ", ".join(f"{name} {version}" if version else f"no {name}" for name, version in extra.modules.items())
        install = "" if extra.here else f"; pip install 'cyberhost[{extra.name}]'"
        yield _line("extra", f"{extra.name} ({modules}): {extra.what}{install}")
    for fetch in found.downloads:
        size = format_size(fetch.size) if fetch.size else "nothing"
        names = f" ({', '.join(entry.name for entry in fetch.missing)})" if fetch.missing else ""
        yield _line(
            "fetches", f"{fetch.command}: {size}{names}" + (f", {fetch.note}" if fetch.note and fetch.size else "")
        )
    if found.counted is not None:
        yield _line("a minute", _counted(found.counted))
    if found.minute is not None:
        yield _line("a minute", f"{_estimate(found.minute)}, and {found.load_seconds:.1f} s to load the model")
        for line in found.minute.costs.spared:
            yield _line("warning", line)


def verdict(found: Examination) -> str:
    """One line."""
    from cyberhost_model.hub.progress import format_size

    if found.problems:
        return "cannot make videos here: " + "; ".join(problem.what for problem in found.problems)
    fetch = found.downloads[0]
    if any(not entry.spare for entry in fetch.missing):
        size = f"{format_size(fetch.size)} are fetched" if fetch.size else "it is converted"
        return f"can make videos here with {found.model} once {size}"
    if found.minute is None:
        return f"can make videos here with {found.model}"
    return f"can make videos here with {found.model}: {_estimate(found.minute)} for a minute of video"


def plan_lines(plan: Plan) -> Iterator[str]:
    """A plan, a line for each subject; warnings are the caller's."""
    from cyberhost_model.hub.progress import format_size

    picture, sound = plan.picture, plan.sound
    yield _line(
        "face",
        f"{picture.face:.0%} of the picture's height, {picture.face_pixels} pixels in the video, mouth "
        f"{picture.mouth_cells:.1f} cells wide",
    )
    yield _line("turned", f"{abs(picture.turn):.0%} to the side, {picture.tilt:+.0f} degrees off the level")
    sharp = f", sharpness {picture.hand_sharpness:.2f}" if picture.hand_sharpness is not None else ""
    yield _line("hands", (" and ".join(picture.hands) if picture.hands else "none seen") + sharp)
    yield _line("body", ", ".join(picture.body) if picture.body else "no shoulders or arms seen")
    if picture.head_alone:
        yield _line("setting", "a talking head; hands are left out")
    if sound is not None:
        level = (
            "silence"
            if sound.level is None
            else f"speech in {sound.speech:.0%} of the first minute, at {sound.level:.0f} dB"
        )
        yield _line("sound", f"{sound.seconds:.2f} s, {level}")
    clips = "" if plan.clips is None else f" in {plan.clips} clips"
    size = "" if plan.size is None else f" of {plan.size[0]}x{plan.size[1]}"
    yield _line("video", f"{plan.frames} frames{size} at {plan.fps:g} a second{clips}")
    if plan.steps is not None:
        yield _line(
            "sampler",
            f"{plan.steps} steps, {plan.branches} {'branch' if plan.branches == 1 else 'branches'} of guidance",
        )
    yield from _machine_lines(plan.machine)
    yield from _around_lines(plan)
    for entry in plan.missing:
        yield _line(
            "fetches",
            f"{entry.name}: {format_size(entry.size)}"
            + (f" [{entry.licence}]" if entry.licence else "")
            + ("; does without" if entry.spare else ""),
        )
    if plan.estimate is not None:
        yield _line("takes", _estimate(plan.estimate))
    if plan.counted is not None:
        yield _line("takes", _counted(plan.counted))


def _machine_lines(machine: Machine) -> Iterator[str]:
    from cyberhost_model.hub.progress import format_size

    driver = f", driver {machine.driver}" if machine.driver else ""
    runtime = f", torch for {machine.runtime}" if machine.runtime else ""
    cores = f", {machine.cores} cores" if machine.device == "cpu" else ""
    yield _line(
        "device",
        f"{machine.device}: {machine.name}{cores}{driver}{runtime}; {format_size(machine.free)} of "
        f"{format_size(machine.memory)} free",
    )
    yield _line("precision", f"{machine.precision}: {machine.why}")
    if machine.hint:
        yield _line("hint", machine.hint)


def _around_lines(found: Examination | Plan) -> Iterator[str]:
    """What a job needs beside the device."""
    from cyberhost_model.hub.progress import format_size

    if found.ffmpeg is not None:
        yield _line("ffmpeg", f"{found.ffmpeg.version} with {', '.join(found.ffmpeg.encoders)}: {found.ffmpeg.path}")
    yield _line("cache", f"{found.cache.folder}: {format_size(found.cache.free)} free")
    if (hub := found.hub) is not None:
        answer = f"answers in {hub.seconds:.2f} s" if hub.seconds is not None else f"not reachable: {hub.why}"
        through = "".join(f", {scheme} through {host}" for scheme, host in hub.proxies.items())
        yield _line("hub", f"{hub.endpoint}: {answer}{through}")


def _estimate(estimate: Estimate) -> str:
    from cyberhost_model.hub.progress import format_size

    memory = "" if estimate.memory is None else f" and {format_size(estimate.memory)} of memory"
    rough = "" if estimate.costs.whole else " (from a step of one frame)"
    return f"about {_duration(estimate.seconds)}{memory}{rough}"


def _counted(counted: CountedEstimate) -> str:
    from cyberhost_model.hub.progress import format_size

    return (
        f"roughly {_duration(counted.seconds)} and {format_size(counted.memory)} of memory, by its {counted.tflop:.1f} "
        "TFLOP a step, once it is here"
    )


def _duration(seconds: float) -> str:
    """ "0.8 s", "42 s", "2 min 50 s", "3 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _line(name: str, text: str) -> str:
    return f"{name:<10} {text}"


@expand_options
def doctor(
    *,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="'tiny', a folder with a model, a published one or a Hub id.")
    ] = "tiny",
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    precision: Annotated[Precision, typer.Option(help="Numbers to compute with.")] = Precision.auto,
    sink: Console,
) -> None:
    """Tell whether videos can be made here: device, ffmpeg, weights, network; and measure what a minute of video
    takes.

    The exit code is 0 when they can, else the code of what stands in the way. Nothing is fetched and nothing is
    written.
    """
    sink.silence_libraries()
    from cyberhost_model.doctor.examination import examine

    found = examine(model, device.value, precision.value)
    sink.data({**asdict(found), "verdict": verdict(found), "exit_code": found.exit_code})
    if not sink.as_json and not sink.quiet:
        for line in doctor_lines(found):
            print(line)
    if not sink.as_json and (found.problems or not sink.quiet):
        print(verdict(found))
    raise typer.Exit(found.exit_code)

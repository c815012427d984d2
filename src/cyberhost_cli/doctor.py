"""`cyberhost doctor`: what can be made on this machine, in what time and memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.options import expand_options
from cyberhost_model.config import DeviceConfig
from cyberhost_model.errors import printable
from cyberhost_model.hub.capabilities import describe_capabilities
from cyberhost_model.hub.progress import format_size

if TYPE_CHECKING:
    from cyberhost_model.doctor.costs import CountedEstimate, Estimate
    from cyberhost_model.doctor.examination import Examination
    from cyberhost_model.doctor.machine import Machine
    from cyberhost_model.doctor.plan import Plan


@expand_options
def doctor(*, runtime: DeviceConfig, console: Console) -> None:
    """Check whether videos can be made here, and measure what a minute of video takes.

    Device, ffmpeg, weights and network are checked. The exit code is 0 when videos can be made, else that of the first
    problem. Nothing is fetched and nothing is written.
    """
    console.silence_libraries()
    from cyberhost_model.doctor.examination import examine

    found = examine(runtime.model, runtime.device, runtime.precision)
    console.data({**asdict(found), "verdict": verdict(found), "exit_code": found.exit_code})
    console.text(doctor_lines(found))
    if not console.as_json and (found.problems or not console.quiet):
        print(printable(verdict(found)))
    raise typer.Exit(found.exit_code)


# The lines that `cyberhost doctor` and `--plan` print.


def doctor_lines(found: Examination) -> Iterator[str]:
    """Describe an examination, a line for each subject."""
    if found.machine is not None:
        yield from _machine_lines(found.machine)
    yield from _model_lines(found)
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
    """Sum an examination up in one line."""
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
    """Describe a plan, a line for each subject; its warnings are printed by the caller."""
    picture, sound = plan.picture, plan.sound
    yield _line(
        "face",
        f"{picture.face:.0%} of the picture's height, {picture.face_pixels} pixels in the video, mouth "
        f"{picture.mouth_cells:.1f} cells wide",
    )
    yield _line("turned", f"{abs(picture.turn):.0%} to the side, {picture.tilt:+.0f} degrees off the level")
    sharp = f", sharpness {picture.hand_sharpness:.2f}" if picture.hand_sharpness is not None else ""
    yield _line("hands", (" and ".join(picture.hands) if picture.hands else "none visible") + sharp)
    yield _line("body", ", ".join(picture.body) if picture.body else "no shoulders or arms visible")
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
            "denoising",
            f"{plan.steps} steps, {plan.branches} {'branch' if plan.branches == 1 else 'branches'} of guidance",
        )
    yield from _machine_lines(plan.machine)
    yield from _model_lines(plan)
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


def _model_lines(found: Examination | Plan) -> Iterator[str]:
    """Describe what the model can do, as `weights list` does."""
    if found.can is not None:
        yield _line("model", f"{found.model}: {describe_capabilities(found.can)}")


def _around_lines(found: Examination | Plan) -> Iterator[str]:
    """Describe what a job needs beside the device: ffmpeg, the cache, the Hub."""
    if found.ffmpeg is not None:
        yield _line("ffmpeg", f"{found.ffmpeg.version} with {', '.join(found.ffmpeg.encoders)}: {found.ffmpeg.path}")
    yield _line("cache", f"{found.cache.folder}: {format_size(found.cache.free)} free")
    if (hub := found.hub) is not None:
        answer = f"answers in {hub.seconds:.2f} s" if hub.seconds is not None else f"not reachable: {hub.why}"
        through = "".join(f", {scheme} through {host}" for scheme, host in hub.proxies.items())
        yield _line("hub", f"{hub.endpoint}: {answer}{through}")


def _estimate(estimate: Estimate) -> str:
    memory = "" if estimate.memory is None else f" and {format_size(estimate.memory)} of memory"
    rough = "" if estimate.costs.whole else " (from a step of one frame)"
    return f"about {_duration(estimate.seconds)}{memory}{rough}"


def _counted(counted: CountedEstimate) -> str:
    return (
        f"roughly {_duration(counted.seconds)} and {format_size(counted.memory)} of memory, by its {counted.tflop:.1f} "
        "TFLOP a step, once it is fetched"
    )


def _duration(seconds: float) -> str:
    """Write seconds as "0.8 s", "42 s", "2 min 50 s" or "3 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _line(name: str, text: str) -> str:
    return f"{name:<10} {text}"

"""One job examined before it starts: whether it can work, and what it would take.

Nothing is made and nothing fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from cyberhost_model.config import EMBEDDED
from cyberhost_model.device import choose_device
from cyberhost_model.doctor.checks import PictureCheck, SoundCheck, check_picture, check_sound
from cyberhost_model.doctor.costs import CountedEstimate, Estimate, count_estimate, count_windows, estimate
from cyberhost_model.doctor.downloads import check_fetch
from cyberhost_model.doctor.machine import Ffmpeg, Machine, describe_machine, find_ffmpeg
from cyberhost_model.doctor.network import PATIENCE, Cache, Hub, ask_hub, find_cache, within
from cyberhost_model.hub.capabilities import Capabilities, check_trained
from cyberhost_model.hub.inventory import MissingWeights
from cyberhost_model.media.output_form import OutputForm
from cyberhost_model.runtime.loading import missing_model, model_capabilities
from cyberhost_model.runtime.pipeline import Animation, CyberHost
from cyberhost_model.runtime.render import Job
from cyberhost_model.sampler.onnx_steps import check_onnx
from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

STAND_IN = "tiny"
"""Checks the picture where the model is not on this machine."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a job would do. What depends on a model that is not on this machine is None."""

    picture: PictureCheck
    sound: SoundCheck | None
    frames: int
    fps: float
    clips: int | None = None
    size: tuple[int, int] | None = None
    """(W, H) of the video."""
    steps: int | None = None
    """Denoising steps of a clip."""
    branches: int | None = None
    """Branches of guidance in a step."""
    model: str
    can: Capabilities | None
    """What the model can do; None of one on the Hub that is not on this machine."""
    machine: Machine
    missing: list[MissingWeights]
    """What is fetched first."""
    ffmpeg: Ffmpeg
    cache: Cache
    hub: Hub | None = None
    """None: nothing has to be fetched, and it was not asked."""
    estimate: Estimate | None = None
    counted: CountedEstimate | None = None
    """The same roughly, of a published model that is not here."""
    warnings: list[str]


def plan(
    start: Callable[[CyberHost], Animation],
    model: str = "tiny",
    device: str = "auto",
    precision: str = "auto",
    allow_untrained: bool = False,
    form: OutputForm | None = None,
    onnx: bool = False,
) -> Plan:
    """Examine the job that `start` begins, such as `lambda host: host.animate(picture, sound)`.

    form: that its video is to have; cutting the person out takes time. onnx: as in `CyberHost.from_pretrained`.

    Raises what the job itself would: InputError and NoFaceError for inputs that cannot work, ModelError, NetworkError
    and OutputError for a model that is not here and cannot come, ResourceError for a device that is not there or too
    small and for an ffmpeg that does not run.
    """
    if (can := model_capabilities(model, ask=False)) is not None and not allow_untrained:
        check_trained(model, can.untrained)
    place, dtype = choose_device(device, precision)
    if onnx:
        check_onnx(place, dtype)
    ffmpeg, cache = find_ffmpeg(), find_cache()
    missing = within(PATIENCE, lambda: missing_model(model, PATIENCE), model)
    away = any(not entry.spare for entry in missing)
    hub = ask_hub() if away else None
    if hub is not None:
        check_fetch(model, missing, hub)
        host = CyberHost.from_pretrained(STAND_IN, "cpu")
    else:
        host = CyberHost.from_pretrained(
            model, device, precision, allow_untrained=allow_untrained, download_named=False, onnx=onnx
        )
        place, dtype = host.device, host.dtype
    animation = start(host)
    job = animation.job
    assert job is not None
    picture, notes = check_picture(job, host.model.network.preset)
    sound, sound_notes = None, list[str]()
    if animation.sound is not None:
        sound, sound_notes = check_sound(
            animation.sound, Wav2Vec2Encoder.from_pretrained(EMBEDDED / STAND_IN / "speech")
        )
    found = Plan(
        picture=picture,
        sound=sound,
        frames=animation.n_frames,
        fps=animation.fps,
        model=model,
        can=can,
        machine=describe_machine(place, dtype, precision),
        missing=missing,
        ffmpeg=ffmpeg,
        cache=cache,
        hub=hub,
        warnings=[*animation.warnings, *notes, *sound_notes],
    )
    form = form or OutputForm()
    if away:
        return _with_counted(found, job, place, dtype, form.cuts_out, onnx)
    return _with_measured(found, host, animation, form)


def _with_counted(found: Plan, job: Job, device: torch.device, dtype: torch.dtype, cuts_out: bool, onnx: bool) -> Plan:
    """The plan with what can be said of a model that is not on this machine."""
    line = (
        f"{found.model} is not on this machine: size, steps, time and memory are not known exactly before it is fetched"
    )
    if cuts_out:
        line += "; cutting the person out is not in the time"
    if onnx:
        line += "; nor is what onnxruntime gains"
    counted = count_estimate(found.model, job.config, found.frames, device, dtype)
    return replace(found, counted=counted, warnings=[*found.warnings, line])


def _with_measured(found: Plan, host: CyberHost, animation: Animation, form: OutputForm) -> Plan:
    """The plan with what the model on this machine would do and take."""
    job, preset = animation.job, host.model.network.preset
    assert job is not None
    measured = estimate(host, job, form=form)
    return replace(
        found,
        clips=count_windows(preset, found.frames),
        size=animation.size,
        steps=job.config.steps or preset.sampling.steps,
        branches=job.guidance.branches,
        estimate=measured,
        warnings=[*found.warnings, *measured.costs.spared],
    )

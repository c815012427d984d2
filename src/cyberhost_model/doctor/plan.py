"""One job looked at before it starts: whether it can work, and what it would take.

Nothing is made and nothing fetched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from cyberhost_model.config import EMBEDDED
from cyberhost_model.device import choose_device
from cyberhost_model.doctor.checks import PictureCheck, SoundCheck, check_picture, check_sound
from cyberhost_model.doctor.counted import Counted, counted
from cyberhost_model.doctor.downloads import check_fetch
from cyberhost_model.doctor.machine import Ffmpeg, Machine, find_ffmpeg, machine
from cyberhost_model.doctor.network import PATIENCE, Cache, Hub, ask_hub, find_cache, within
from cyberhost_model.doctor.trial import Estimate, estimate
from cyberhost_model.hub.inventory import Missing
from cyberhost_model.runtime.loading import missing_model
from cyberhost_model.runtime.pipeline import Animation, CyberHost
from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

STAND_IN = "tiny"
"""Looks at the picture where the model is not on this machine."""


@dataclass(frozen=True)
class Plan:
    """What a job would do. What depends on a model that is not on this machine is None."""

    picture: PictureCheck
    sound: SoundCheck | None
    frames: int
    fps: float
    clips: int | None
    size: tuple[int, int] | None
    """(W, H) of the video."""
    steps: int | None
    """Of denoising, a clip."""
    branches: int | None
    """Of guidance, a step."""
    model: str
    machine: Machine
    missing: list[Missing]
    """What is fetched first."""
    ffmpeg: Ffmpeg
    cache: Cache
    hub: Hub | None
    """None: nothing has to be fetched, and it was not asked."""
    estimate: Estimate | None
    counted: Counted | None
    """The same roughly, of a published model that is not here."""
    warnings: list[str]


def plan(
    start: Callable[[CyberHost], Animation], model: str = "tiny", device: str = "auto", precision: str = "auto"
) -> Plan:
    """Look at the job that `start` begins, such as `lambda host: host.animate(picture, sound)`.

    Raises what the job itself would: InputError and NoFaceError for inputs that cannot work, ModelError, NetworkError
    and OutputError for a model that is not here and cannot come, ResourceError for a device that is not there or too
    small and for an ffmpeg that does not run.
    """
    place, dtype = choose_device(device, precision)
    ffmpeg, cache = find_ffmpeg(), find_cache()
    missing = within(PATIENCE, lambda: missing_model(model, PATIENCE), model)
    away = any(not entry.spare for entry in missing)
    hub = None
    if away:
        hub = ask_hub()
        check_fetch(model, missing, hub)
        host = CyberHost.from_pretrained(STAND_IN, "cpu")
    else:
        host = CyberHost.from_pretrained(model, device, precision, download_named=False)
        place, dtype = host.device, host.dtype
    animation = start(host)
    job, preset = animation.job, host.model.network.preset
    assert job is not None
    picture, notes = check_picture(job, preset)
    sound, heard = None, list[str]()
    if animation.sound is not None:
        sound, heard = check_sound(animation.sound, Wav2Vec2Encoder.from_pretrained(EMBEDDED / STAND_IN / "speech"))
    warnings = [*animation.warnings, *notes, *heard]
    if away:
        warnings.append(
            f"{model} is not on this machine: size, steps, time and memory are not known exactly before it is fetched"
        )
        rough, here = counted(model, job.config, animation.n_frames, place, dtype), machine(place, dtype, precision)
        return Plan(
            picture,
            sound,
            animation.n_frames,
            animation.fps,
            None,
            None,
            None,
            None,
            model,
            here,
            missing,
            ffmpeg,
            cache,
            hub,
            None,
            rough,
            warnings,
        )
    found = estimate(host, job)
    return Plan(
        picture,
        sound,
        animation.n_frames,
        animation.fps,
        math.ceil(animation.n_frames / preset.frames),
        animation.size,
        job.config.steps or preset.sampling.steps,
        job.guidance.branches,
        model,
        machine(place, dtype, precision),
        missing,
        ffmpeg,
        cache,
        hub,
        found,
        None,
        [*warnings, *found.costs.spared],
    )

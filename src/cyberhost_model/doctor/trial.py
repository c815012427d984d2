"""How long a job would take and how much memory it would hold, measured: a denoising step and a decoded clip of the
model itself, on the device itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from cyberhost_model.config import GenerationConfig
from cyberhost_model.doctor.machine import peak_memory, reset_peak
from cyberhost_model.driving.template import load_template
from cyberhost_model.media.audio import SPEECH_RATE, Sound
from cyberhost_model.runtime.memory import MemoryFallback
from cyberhost_model.runtime.pipeline import CyberHost
from cyberhost_model.runtime.prepare import prepare_reference
from cyberhost_model.runtime.render import Job
from cyberhost_model.sampler.cuda_graphs import RecordedNetwork
from cyberhost_model.sampler.denoise import denoise_clip
from cyberhost_model.sampler.schedule import Schedule

PATIENT = 10.0
"""Seconds a whole step may take; above, a step of one frame and one branch stands for it."""
_HEARD = 4  # seconds of noise the speech encoder is timed with


@dataclass(frozen=True)
class Costs:
    """Seconds on this device. A clip: its conditions, `steps` steps, and decoding."""

    step: float
    """With all branches of guidance."""
    plain_step: float
    """Outside the guidance interval."""
    conditions: float
    decode: float
    listen: float
    """A second of sound."""
    memory: int | None
    """Peak in bytes, on a GPU of the device, else of this process; None: only a part was computed."""
    whole: bool
    """False: a step of one frame and one branch was timed and multiplied."""
    spared: tuple[str, ...] = ()
    """What was given up for want of memory (`MemoryFallback`), as lines for the user."""

    def clip(self, guided: int, plain: int) -> float:
        """Seconds of a clip with so many steps of both kinds."""
        return self.conditions + guided * self.step + plain * self.plain_step + self.decode


@dataclass(frozen=True)
class Estimate:
    """What a job would take here. Seconds are those of making the frames; memory as in `Costs`."""

    seconds: float
    memory: int | None
    costs: Costs


def estimate(host: CyberHost, job: Job, total: int | None = None) -> Estimate:
    """Of `job`, or of the same with `total` frames. Raises ResourceError where the memory is too little."""
    preset = host.model.network.preset
    costs = trial(host, job)
    timesteps = Schedule(preset.diffusion, preset.sampling, None, job.config.steps).timesteps
    guided = sum(job.guidance.acts_at(float(t)) for t in timesteps)
    total = job.total if total is None else total
    clips = math.ceil(total / preset.frames)
    heard = 0.0 if job.sound is None else costs.listen * total / job.config.fps
    return Estimate(clips * costs.clip(guided, len(timesteps) - guided) + heard, costs.memory, costs)


def blank_job(host: CyberHost) -> Job:
    """A job to measure with where nobody gave a picture: someone at rest before a grey wall, in the model's usual
    size.
    """
    h, w = host.model.network.preset.size
    picture = np.full((2 * h, 2 * w, 3), 128, np.uint8)
    noise = np.random.default_rng(0).standard_normal(SPEECH_RATE).astype(np.float32)
    reference = prepare_reference(host.model, picture, load_template("rest").frame(0), None, False)
    job = host.animate_reference(reference, GenerationConfig(), Sound.from_samples(0.1 * noise, SPEECH_RATE)).job
    assert job is not None
    return job


@torch.inference_mode()
def trial(host: CyberHost, job: Job) -> Costs:
    """Time the parts of a clip that has a clip before it. Raises ResourceError where the memory is too little."""
    with host.model.network.denoising_unet.fixed_weights():  # as jobs have it: what it computes is no part of a step
        return _trial(host, job)


def _trial(host: CyberHost, job: Job) -> Costs:
    network, preset = host.model.network, host.model.network.preset
    hears = job.sound is not None and preset.uses_audio
    frames, latent = preset.frames, job.reference.latent.shape[-2:]

    def zeros(count: int) -> torch.Tensor:
        return torch.zeros(1, count, preset.latent_channels, *latent, device=host.device, dtype=host.dtype)

    def heard(count: int) -> torch.Tensor | None:
        shape = (1, count, preset.audio.tokens, host.model.speech.layers, host.model.speech.dim)
        return torch.zeros(shape, device=host.device, dtype=host.dtype) if hears else None

    def conditions(count: int):
        return host.renderer.clip_conditions(
            job,
            job.pose_source(0, count),
            count,
            heard(count),
            zeros(preset.motion_frames) if preset.motion_frames else None,
        )

    told = list[str]()
    recorded = (
        RecordedNetwork(network, told.append, lambda: None) if host.cuda_graphs else None
    )  # the second of three steps is
    thrift = MemoryFallback(host.model, host.device, job.guidance.branches, recorded=recorded)

    def step(count: int, interval: tuple[float, float]) -> Callable[[], object]:
        given = thrift.attempt("network", lambda: conditions(count), told.append)

        def denoised() -> torch.Tensor:
            guidance = replace(job.guidance, interval=interval, one_by_one=thrift.one_by_one)
            return denoise_clip(
                network,
                given,
                zeros(count).shape,
                steps=1,
                guidance=guidance,
                generator=torch.Generator(),
                predictor=recorded,
            )

        return lambda: thrift.attempt("network", denoised, told.append)

    def decoded(count: int) -> np.ndarray:
        z = zeros(count)
        return thrift.attempt("codec", lambda: host.renderer.decode(job, z, thrift.frames_at_once), told.append)

    everywhere, nowhere = (0.0, 1.0), (2.0, 2.0)
    reset_peak(host.device)
    one = _seconds(host, step(1, nowhere), again=host.device.type != "cpu")
    branches = job.guidance.branches
    if whole := one * frames * branches < PATIENT:
        plain = _seconds(host, step(frames, nowhere))
        guided = plain if branches == 1 else _seconds(host, step(frames, everywhere))
        prepared = _seconds(host, lambda: thrift.attempt("network", lambda: conditions(frames), told.append))
        decode = _seconds(host, lambda: decoded(frames))
    else:
        plain, guided = one * frames, one * frames * branches
        prepared, decode = 0.0, frames * _seconds(host, lambda: decoded(1), again=False)
    listen = 0.0
    if hears:
        noise = 0.1 * np.random.default_rng(0).standard_normal(_HEARD * SPEECH_RATE).astype(np.float32)
        features = host.model.speech.features
        listen = (
            _seconds(host, lambda: thrift.attempt("speech", lambda: features(noise), told.append), again=whole) / _HEARD
        )
    return Costs(
        guided, plain, prepared, decode, listen, peak_memory(host.device) if whole else None, whole, tuple(told)
    )


def _seconds(host: CyberHost, action: Callable[[], object], again: bool = True) -> float:
    """Of `action`, where `again` the quickest of two after a first one, which also loads kernels and fills caches."""
    taken = []
    for _ in range(3 if again else 1):
        _wait(host.device)
        began = time.perf_counter()
        action()
        _wait(host.device)
        taken.append(time.perf_counter() - began)
    return min(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

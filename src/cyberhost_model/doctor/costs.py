"""How long a job would take and how much memory it would hold.

Measured, where the model is on this machine: a denoising step and a decoded clip are computed on the device. Counted,
where a published model is not here: on tensors that have sizes and no memory (`model.cost`), against the measured rate
of matrix products.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from cyberhost_model.codecs.sd_vae import AT_ONCE
from cyberhost_model.config import GenerationConfig, Preset
from cyberhost_model.doctor.machine import peak_memory, reset_peak
from cyberhost_model.driving.template import load_template
from cyberhost_model.hub.registry import ADAPTERS, load_adapter
from cyberhost_model.media.audio import SPEECH_RATE, Sound
from cyberhost_model.media.output_form import OutputForm
from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.cost import CostCounter, raw_conditions
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.runtime.cutout import Cutout
from cyberhost_model.runtime.memory import MemoryFallback
from cyberhost_model.runtime.pipeline import CyberHost, guidance_of
from cyberhost_model.runtime.prepare import prepare_reference
from cyberhost_model.runtime.render import Job
from cyberhost_model.sampler.cuda_graphs import RecordedNetwork
from cyberhost_model.sampler.denoise import denoise_clip
from cyberhost_model.sampler.guidance import Guidance, GuidedConditions
from cyberhost_model.sampler.onnx_steps import ExportedNetwork
from cyberhost_model.sampler.schedule import Schedule
from cyberhost_model.sampler.windows import plan_windows

LONGEST_STEP = 10.0
"""Seconds a whole step may take; above, a step of one frame and one branch is timed and multiplied."""
TRIALS = 3
"""How often a part is timed; the quickest counts: the first one also loads kernels and fills caches."""
_BEFORE_EXPORT = 2  # clips: steps of the third are exported, the second one that has motion frames
_LISTENED = 4  # seconds of noise that the speech encoder is timed with
_MOVED = 0.01  # of its width, by which a picture is shifted to time how the person is cut out of a frame
_ALWAYS, _NEVER = (0.0, 1.0), (2.0, 2.0)  # guidance intervals

SD_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
"""Stable Diffusion's VAE, which all published models have."""
EFFICIENCY = {torch.float32: 0.6, torch.float16: 0.3, torch.bfloat16: 0.3}
"""Part of the rate of large matrix products that steps reach (docs/reference/performance.md): 0.3 in fp16 on an H100;
0.3 - 0.5 in bf16 and 0.6 in fp32 on a CPU.
"""
_OTHER_PARTS = 500_000_000  # bytes: speech encoder and detector in fp32
_MATRIX = {"cpu": 1536, "cuda": 8192}  # side


@dataclass(frozen=True)
class ExportedCosts:
    """Seconds of steps that onnxruntime computes (`sampler.onnx_steps`), with and without guidance, and of exporting.

    Those of `Costs` are the network's, which computes the first clips.
    """

    step: float
    plain_step: float
    export: float
    plain_export: float

    def exporting(self, guided: int, plain: int) -> float:
        """Compute the seconds of exporting the kinds of steps that there are."""
        return (self.export if guided else 0.0) + (self.plain_export if plain else 0.0)


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
    cut_out: float
    """A frame of which the person is cut out; 0 where none is."""
    matte: float
    """The picture's matte, once a video; 0 where none is needed."""
    exported: ExportedCosts | None
    """None where torch computes all steps."""
    memory: int | None
    """Peak in bytes, on a GPU of the device, else of this process; None: only a part was computed."""
    whole: bool
    """False: a step of one frame and one branch was timed and multiplied."""
    spared: tuple[str, ...] = ()
    """What was given up to save memory (`MemoryFallback`), as lines for the user."""

    def by(self, exported: ExportedCosts | None) -> Costs:
        """Take the steps of onnxruntime; None: torch's."""
        return self if exported is None else replace(self, step=exported.step, plain_step=exported.plain_step)

    def clip(self, guided: int, plain: int) -> float:
        """Compute the seconds of a clip with so many steps of both kinds."""
        return self.conditions + guided * self.step + plain * self.plain_step + self.decode

    def window(self, guided: int, plain: int) -> float:
        """Compute the seconds of a window (`sampler.windows`): its conditions are encoded anew at each step."""
        return (guided + plain) * self.conditions + guided * self.step + plain * self.plain_step


@dataclass(frozen=True)
class Estimate:
    """What a job would take here. Seconds are those of making the frames; memory as in `Costs`."""

    seconds: float
    memory: int | None
    costs: Costs


@dataclass(frozen=True)
class CountedEstimate:
    """What a job would take here, right to a factor of two or so.

    tflop: of a step with all branches of guidance; memory: bytes of weights and of what a step or decoding holds.
    """

    seconds: float
    memory: int
    tflop: float


def estimate(host: CyberHost, job: Job, total: int | None = None, form: OutputForm | None = None) -> Estimate:
    """Measure what `job` takes, or the same with `total` frames, in the form that its video is to have.

    Raises ResourceError where the memory is too little, InputError for a background that cannot be read.
    """
    preset = host.model.network.preset
    costs = measure_costs(host, job, form)
    guided, plain = _steps(preset, job.guidance, job.config.steps)
    total = job.total if total is None else total
    clips, windows = math.ceil(total / preset.frames), count_windows(preset, total)
    listening = 0.0 if job.sound is None else costs.listen * total / job.config.fps
    overlap = preset.sampling.overlap
    making = clips * costs.decode if overlap else 0.0
    exported = costs.exported if windows > _BEFORE_EXPORT else None
    for count, own in ((min(windows, _BEFORE_EXPORT), costs), (max(windows - _BEFORE_EXPORT, 0), costs.by(exported))):
        making += count * (own.window(guided, plain) if overlap else own.clip(guided, plain))
    making += 0.0 if exported is None else exported.exporting(guided, plain)
    cutting = costs.matte + total * costs.cut_out
    return Estimate(making + listening + cutting, costs.memory, costs)


def count_windows(preset: Preset, total: int) -> int:
    """Count the clips of a video of `total` frames, or the windows that overlap."""
    if preset.sampling.overlap:
        return len(plan_windows(total, preset.frames, preset.sampling.overlap))
    return math.ceil(total / preset.frames)


def count_estimate(
    model: str, look: GenerationConfig, total: int, device: torch.device, dtype: torch.dtype
) -> CountedEstimate | None:
    """Count what a video of `total` frames by a published model takes, at the model's own size.

    None for a model of which nothing is known before it is fetched, and where counting fails: no job depends on it.
    """
    if model not in ADAPTERS:
        return None
    try:
        return _count(load_adapter(model).full_size(), look, total, device, dtype)
    except (RuntimeError, MemoryError):
        return None


def _steps(preset: Preset, guidance: Guidance, steps: int | None) -> tuple[int, int]:
    """How many denoising steps of a clip are guided, and how many are not."""
    timesteps = Schedule(preset.diffusion, preset.sampling, None, steps).timesteps
    guided = sum(guidance.acts_at(float(t)) for t in timesteps)
    return guided, len(timesteps) - guided


def blank_job(host: CyberHost) -> Job:
    """Make a job to measure with where there is no picture: someone at rest before a grey wall.

    It has the model's usual size, and a second of noise.
    """
    h, w = host.model.network.preset.size
    picture = np.full((2 * h, 2 * w, 3), 128, np.uint8)
    noise = np.random.default_rng(0).standard_normal(SPEECH_RATE).astype(np.float32)
    reference = prepare_reference(host.model, picture, load_template("rest").frame(0), None, False)
    job = host.animate_reference(reference, GenerationConfig(), Sound.from_samples(0.1 * noise, SPEECH_RATE)).job
    assert job is not None
    return job


@torch.inference_mode()
def measure_costs(host: CyberHost, job: Job, form: OutputForm | None = None) -> Costs:
    """Time the parts of a clip that has a clip before it, and of cutting the person out where `form` does.

    Raises ResourceError where the memory is too little, InputError for a background that cannot be read.
    """
    # Jobs run with fixed weights: computing the codebooks from them is no part of a step.
    with host.model.network.denoising_unet.fixed_weights():
        return _Measurement(host, job, form or OutputForm()).costs()


class _Measurement:
    """Runs the parts of a clip on blank latents, with what `MemoryFallback` does where memory is too little."""

    def __init__(self, host: CyberHost, job: Job, form: OutputForm) -> None:
        self.host, self.job, self.form = host, job, form
        self.network, self.preset = host.model.network, host.model.network.preset
        self.lines: list[str] = []
        # A network is recorded in the second of the three steps that are timed.
        self.recorded = RecordedNetwork(self.network, self.lines.append, lambda: None) if host.cuda_graphs else None
        self.fallback = MemoryFallback(host.model, host.device, job.guidance.branches, recorded=self.recorded)

    def costs(self) -> Costs:
        """Time all parts."""
        on_cpu, frames, branches = self.host.device.type == "cpu", self.preset.frames, self.job.guidance.branches
        reset_peak(self.host.device)
        one, exported = self.seconds(self.step(1, _NEVER), again=not on_cpu), None
        if whole := one * frames * branches < LONGEST_STEP:
            plain = self.seconds(self.step(frames, _NEVER))
            guided = plain if branches == 1 else self.seconds(self.step(frames, _ALWAYS))
            prepared = self.seconds(lambda: self.attempt("network", lambda: self.conditions(frames)))
            decode = self.seconds(lambda: self.decode(frames))
            exported = None if self.host.exported is None else self.exported(frames, branches)
        else:
            plain, guided = one * frames, one * frames * branches
            prepared, decode = 0.0, frames * self.seconds(lambda: self.decode(1), again=False)
            if self.host.exported is not None:
                self.lines.append("what onnxruntime gains is not in the time, because only a part was computed")
        listen = self.listen(again=whole) if self.listens else 0.0
        matte, cut_out = self.cut_out() if self.form.cuts_out else (0.0, 0.0)
        peak = peak_memory(self.host.device) if whole else None
        return Costs(guided, plain, prepared, decode, listen, cut_out, matte, exported, peak, whole, tuple(self.lines))

    @property
    def listens(self) -> bool:
        """Whether sound moves the picture."""
        return self.job.sound is not None and self.preset.uses_audio

    def attempt(self, part: str, action: Callable[[], object]) -> object:
        """Run `action` of a part of the model, with less memory where it does not fit."""
        return self.fallback.attempt(part, action, self.lines.append)

    def zeros(self, count: int) -> Tensor:
        """Latents of `count` frames."""
        shape = (1, count, self.preset.latent_channels, *self.job.reference.latent.shape[-2:])
        return torch.zeros(shape, device=self.host.device, dtype=self.host.dtype)

    def speech_windows(self, count: int) -> Tensor | None:
        """Speech features of `count` frames."""
        if not self.listens:
            return None
        speech = self.host.model.speech
        shape = (1, count, self.preset.audio.tokens, speech.layers, speech.dim)
        return torch.zeros(shape, device=self.host.device, dtype=self.host.dtype)

    def conditions(self, count: int) -> Conditions:
        """The conditions of a clip of `count` frames."""
        motion = self.zeros(self.preset.motion_frames) if self.preset.motion_frames else None
        driver = self.job.pose_source(0, count)
        return self.host.renderer.clip_conditions(self.job, driver, count, self.speech_windows(count), motion)

    def step(
        self, count: int, interval: tuple[float, float], exported: ExportedNetwork | None = None
    ) -> Callable[[], object]:
        """A denoising step of `count` frames, guided in `interval`; exported: predicts it."""
        given = self.fallback.attempt("network", lambda: self.conditions(count), self.lines.append)

        def denoised() -> Tensor:
            guidance = replace(self.job.guidance, interval=interval, one_by_one=self.fallback.one_by_one)
            return denoise_clip(
                self.network,
                given,
                self.zeros(count).shape,
                steps=1,
                guidance=guidance,
                generator=torch.Generator(),
                predictor=exported or self.recorded,
            )

        return lambda: self.attempt("network", denoised)

    def exported(self, count: int, branches: int) -> ExportedCosts:
        """Export the steps of `count` frames, and time that and them."""

        def timed(interval: tuple[float, float]) -> tuple[float, float]:
            network = ExportedNetwork(self.network, self.lines.append)
            first, second = (self.step(count, interval, network) for _ in range(2))  # conditions of two clips
            first()
            export = self.seconds(second, again=False)
            return export, self.seconds(second)

        plain_export, plain = timed(_NEVER)
        export, guided = (plain_export, plain) if branches == 1 else timed(_ALWAYS)
        return ExportedCosts(guided, plain, export, plain_export)

    def decode(self, count: int) -> object:
        """Decode `count` frames."""
        z = self.zeros(count)
        return self.attempt("codec", lambda: self.host.renderer.decode(self.job, z, self.fallback.frames_at_once))

    def listen(self, again: bool) -> float:
        """Seconds that the speech encoder takes for a second of sound."""
        noise = 0.1 * np.random.default_rng(0).standard_normal(_LISTENED * SPEECH_RATE).astype(np.float32)
        features = self.host.model.speech.features
        return self.seconds(lambda: self.attempt("speech", lambda: features(noise)), again) / _LISTENED

    def cut_out(self) -> tuple[float, float]:
        """Seconds that the picture's matte takes, and those of a frame that has moved against the picture."""
        background, made = self.form.open_background(), list[Cutout]()
        matte = self.seconds(lambda: made.append(Cutout(background, self.job.reference, self.job.arms)), again=False)
        moved = np.roll(made[0].picture, round(_MOVED * made[0].picture.shape[1]), axis=1)
        frames = made[0].frames(itertools.repeat(moved))
        return matte, self.seconds(lambda: next(frames))

    def seconds(self, action: Callable[[], object], again: bool = True) -> float:
        """Time `action`; where `again`, the quickest of `TRIALS`."""
        taken = []
        for _ in range(TRIALS if again else 1):
            _synchronize(self.host.device)
            began = time.perf_counter()
            action()
            _synchronize(self.host.device)
            taken.append(time.perf_counter() - began)
        return min(taken)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _count(
    preset: Preset, look: GenerationConfig, total: int, device: torch.device, dtype: torch.dtype
) -> CountedEstimate:
    step, step_peak, weights = _count_step(preset, look, dtype)
    decoding, decoding_peak, vae = _count_decoding(preset, dtype)
    guidance = guidance_of(look, preset.sampling)
    guided, plain = _steps(preset, guidance, look.steps)
    steps = guided + plain / guidance.branches
    work = count_windows(preset, total) * steps * step + math.ceil(total / preset.frames) * preset.frames * decoding
    seconds = work / (EFFICIENCY[dtype] * matrix_rate(device, dtype))
    memory = weights + vae + _OTHER_PARTS + max(step_peak, decoding_peak)
    return CountedEstimate(seconds, int(memory), step / 1e12)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the FLOP/s of products of large matrices, the best of three."""
    side = _MATRIX.get(device.type, 4096)
    matrix, taken = torch.randn(side, side, device=device, dtype=dtype), []
    for _ in range(4):
        began = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # which waits for it
        taken.append(time.perf_counter() - began)
    return 2 * side**3 / min(taken[1:])


def _count_step(preset: Preset, look: GenerationConfig, dtype: torch.dtype) -> tuple[float, float, float]:
    """(FLOPs, peak bytes beyond the weights, bytes of the weights) of a step with all branches."""
    with FakeTensorMode(), torch.no_grad(), _default_dtype(dtype):
        network = CyberHostNetwork(preset)
        raw: dict[str, Tensor | None] = raw_conditions(preset, 1, preset.frames, preset.motion_frames > 0)
        given = GuidedConditions(network.conditions(**raw), guidance_of(look, preset.sampling))  # type: ignore[arg-type]
        noisy = torch.empty(
            1, preset.frames, preset.latent_channels, *(side // preset.latent_factor for side in preset.size)
        )
        with CostCounter() as cost:
            given.predict(network, noisy, torch.empty(1))
        return cost.flops, float(cost.peak), _bytes(network)


def _count_decoding(preset: Preset, dtype: torch.dtype) -> tuple[float, float, float]:
    """(FLOPs of a frame, peak bytes beyond the weights, bytes of the weights)."""
    with FakeTensorMode(), torch.no_grad(), _default_dtype(dtype):
        vae = AutoencoderKL(**SD_VAE)
        latent = torch.empty(AT_ONCE, 4, *(side // preset.latent_factor for side in preset.size))
        with CostCounter() as cost:
            vae.decode(latent)
        return cost.flops / AT_ONCE, float(cost.peak), _bytes(vae)


def _bytes(module: torch.nn.Module) -> float:
    return float(sum(weights.numel() * weights.element_size() for weights in module.parameters()))


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Tensors made inside are of this precision: fake ones cannot be moved to another."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)

"""Noise schedules and samplers: diffusers' schedulers behind one small interface, for four kinds of prediction.

A noisy latent is z_t = a(t) z + s(t) noise with t in 0..1000. "epsilon" predicts the noise (eq. 1), "v" predicts a
noise - s z, "flow" predicts noise - z along the straight line a = 1 - t / 1000, s = t / 1000.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler
from torch import Tensor

from cyberhost_model.config import DiffusionConfig, SamplingConfig
from cyberhost_model.errors import ModelError

TRAIN_STEPS = 1000  # t of pure noise
LCM_STEPS = 50  # grid of latent consistency models (arXiv 2310.04378), from which fewer steps are taken
_DIFFUSERS_NAME = {"epsilon": "epsilon", "v": "v_prediction", "flow": "flow_prediction", "x0": "sample"}
_STRAIGHT = ("flow", "x0")


class Steps(Protocol):
    """Steps of one sampler from noise to a latent. It may hold state: one is made for each clip."""

    @property
    def timesteps(self) -> Tensor:
        """Time steps (steps,), one for each prediction: strictly falling, the first in 990..1000; on the CPU."""

    def step(self, prediction: Tensor, timestep: Tensor, noisy: Tensor, noise: Callable[[], Tensor] | None) -> Tensor:
        """See `Schedule.step`."""


@dataclass(frozen=True)
class Sampler:
    """An entry of `SAMPLERS`."""

    make: Callable[[DiffusionConfig, SamplingConfig, int], Steps]
    """Chooses so many steps for a network's prediction and a model's settings."""
    predictions: tuple[str, ...] = tuple(_DIFFUSERS_NAME)
    """Those it can use, of "epsilon", "v", "flow" and "x0"."""
    max_steps: int = TRAIN_STEPS
    memoryless: bool = False
    """Whether a step depends on prediction, time step and latent alone, so that one may begin before any step."""
    by_frames: bool = False
    """Whether frames may take a step one after the other: it counts no steps, keeps nothing and draws nothing."""


class Schedule:
    """Steps from noise to a latent. Holds the state of multistep samplers: make a new one for each clip."""

    def __init__(
        self, config: DiffusionConfig, sampling: SamplingConfig, sampler: str | None = None, steps: int | None = None
    ) -> None:
        """Choose the steps; `sampler` and `steps` default to those of `sampling`.

        Raises ModelError for an unknown sampler, one that cannot use this prediction, or fewer than 1 or more than
        1000 steps (50 of "lcm").
        """
        sampler, steps = sampler or sampling.sampler, sampling.steps if steps is None else steps
        if sampler not in SAMPLERS:
            raise ModelError(f"there is no sampler {sampler!r}; choose one of {', '.join(SAMPLERS)}")
        entry = SAMPLERS[sampler]
        if config.prediction not in entry.predictions:
            usable = ", ".join(name for name, other in SAMPLERS.items() if config.prediction in other.predictions)
            raise ModelError(
                f"sampler {sampler!r} cannot use this model's {config.prediction!r} prediction; choose one of {usable}"
            )
        if not 1 <= steps <= entry.max_steps:
            raise ModelError(f"steps must be between 1 and {entry.max_steps} with sampler {sampler!r}, not {steps}")
        self._steps = entry.make(config, sampling, steps)
        self.memoryless, self.by_frames = entry.memoryless, entry.by_frames

    @property
    def timesteps(self) -> Tensor:
        """Time steps (steps,), from noise to picture, on the CPU."""
        return self._steps.timesteps

    def step(
        self, prediction: Tensor, timestep: Tensor, noisy: Tensor, noise: Callable[[], Tensor] | None = None
    ) -> Tensor:
        """Take one step towards the latent.

        prediction, noisy and the result have the same shape, the result the precision of `noisy`; timestep: the entry
        of `timesteps` of the prediction.
        noise: draws noise like that of the first step, which "lcm" needs (diffusers' classes draw independent noise).
        """
        return self._steps.step(prediction.to(noisy.dtype), timestep, noisy, noise)


def add_noise(config: DiffusionConfig, z: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """Compute z_t = a z + s noise. z, noise (B, ...); timestep (B,) in 0..1000 (0..999 unless flow)."""
    a, s = _levels(config, timestep, z)
    return a * z + s * noise


def training_target(config: DiffusionConfig, z: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """Compute the target of the network's prediction at `timestep`; arguments as in `add_noise`."""
    if config.prediction == "epsilon":
        return noise
    if config.prediction in _STRAIGHT:
        return noise - z if config.prediction == "flow" else z
    a, s = _levels(config, timestep, z)
    return a * noise - s * z


def predicted_latent(config: DiffusionConfig, prediction: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
    """Compute the clean latent from a prediction: the inverse of `training_target`."""
    a, s = _levels(config, timestep, noisy)
    if config.prediction == "x0":
        return prediction
    if config.prediction == "epsilon":
        return (noisy - s * prediction) / a
    return noisy - s * prediction if config.prediction == "flow" else a * noisy - s * prediction


def consistent_latent(config: DiffusionConfig, prediction: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
    """Compute the clean latent of a consistency model: c_skip z_t + c_out times the predicted latent.

    c_skip(0) = 1 and c_out(0) = 0, so that a latent without noise stays as it is (arXiv 2303.01469, eq. 5; the widths
    are those of arXiv 2310.04378). Arguments as in `predicted_latent`.
    """
    scaled = (timestep.to(noisy.device, torch.float32) * 10).view(-1, *[1] * (noisy.ndim - 1))
    skip, out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25).sqrt()
    return skip.to(noisy.dtype) * noisy + out.to(noisy.dtype) * predicted_latent(config, prediction, noisy, timestep)


def solver_step(config: DiffusionConfig, prediction: Tensor, noisy: Tensor, timestep: Tensor, nearer: Tensor) -> Tensor:
    """Take one step of DDIM (on the straight line, Euler's) from `timestep` to the less noisy `nearer`, both (B,)."""
    z = predicted_latent(config, prediction, noisy, timestep)
    a, s = _levels(config, timestep, noisy)
    return add_noise(config, z, (noisy - a * z) / s, nearer)


def _levels(config: DiffusionConfig, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Compute a(t) and s(t), shaped to multiply `like` (B, ...)."""
    if config.prediction in _STRAIGHT:
        s = timestep.to(like.device, like.dtype) / TRAIN_STEPS
        a = 1 - s
    else:
        signal = alphas_cumprod(config).to(like.device)[timestep.long()]
        a, s = signal.sqrt().to(like.dtype), (1 - signal).sqrt().to(like.dtype)
    shape = (-1, *[1] * (like.ndim - 1))
    return a.view(shape), s.view(shape)


@lru_cache(maxsize=8)
def alphas_cumprod(config: DiffusionConfig) -> Tensor:
    """a(t) squared at t = 0..999, of the epsilon and v schedules."""
    return _multistep(config, 1).alphas_cumprod


def _betas(config: DiffusionConfig) -> dict[str, Any]:
    """Give the noise schedule of the weights as diffusers' arguments."""
    return {
        "num_train_timesteps": TRAIN_STEPS,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": config.beta_schedule,
        "prediction_type": _DIFFUSERS_NAME[config.prediction],
        "rescale_betas_zero_snr": config.zero_terminal_snr,
    }


def _multistep(config: DiffusionConfig, order: int, flow_shift: float = 1.0) -> DPMSolverMultistepScheduler:
    """Make the scheduler of DPM-Solver++; order 1 is DDIM (arXiv 2211.01095).

    diffusers' DDIMScheduler is exact only for numbers of steps that divide 1000.
    """
    flow = {"use_flow_sigmas": True, "flow_shift": flow_shift} if config.prediction in _STRAIGHT else {}
    return DPMSolverMultistepScheduler(
        **_betas(config),
        timestep_spacing="trailing",  # so that few steps begin at pure noise too
        algorithm_type="dpmsolver++",
        solver_order=order,
        **flow,
    )


def _euler(flow_shift: float, steps: int) -> FlowMatchEulerDiscreteScheduler:
    """Make the scheduler of the straight line with even steps, but for the shift, down to 0 after the last.

    diffusers' own spacing would spend that step on t = 1.
    """
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=TRAIN_STEPS, shift=flow_shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps))
    return scheduler


class DiffusersSteps:
    """`Steps` of a scheduler of diffusers whose time steps are set."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler, self.timesteps = scheduler, scheduler.timesteps

    def step(self, prediction: Tensor, timestep: Tensor, noisy: Tensor, noise: Callable[[], Tensor] | None) -> Tensor:
        """Let diffusers take the step; it draws no noise."""
        return self.scheduler.step(prediction, timestep, noisy, return_dict=False)[0]


class EulerSteps(DiffusersSteps):
    """Euler's steps along the straight line; a predicted latent is turned into the flow towards it."""

    def __init__(self, config: DiffusionConfig, sampling: SamplingConfig, steps: int) -> None:
        super().__init__(_euler(sampling.flow_shift, steps))
        self.to_flow = config.prediction == "x0"

    def step(self, prediction: Tensor, timestep: Tensor, noisy: Tensor, noise: Callable[[], Tensor] | None) -> Tensor:
        """Take Euler's step."""
        if self.to_flow:
            prediction = (noisy - prediction) * (TRAIN_STEPS / float(timestep))
        return super().step(prediction, timestep, noisy, noise)


class ConsistencySteps:
    """Steps of a distilled network: each predicts a clean latent and adds fresh noise to it."""

    def __init__(self, config: DiffusionConfig, sampling: SamplingConfig, steps: int) -> None:
        self.config = config
        if config.prediction in _STRAIGHT:
            self.timesteps = _euler(sampling.flow_shift, steps).timesteps
        else:
            grid = LCMScheduler(**_betas(config), original_inference_steps=LCM_STEPS)
            grid.set_timesteps(steps)
            self.timesteps = grid.timesteps

    def step(self, prediction: Tensor, timestep: Tensor, noisy: Tensor, noise: Callable[[], Tensor] | None) -> Tensor:
        """Compute the clean latent, and add the noise of the next step's time."""
        z = consistent_latent(self.config, prediction, noisy, timestep.expand(len(noisy)))
        later = self.timesteps[self.timesteps < timestep]
        if not len(later):
            return z
        fresh = torch.randn(z.shape) if noise is None else noise()
        return add_noise(self.config, z, fresh.to(z), later[:1].to(z.device))


def _ddim_steps(config: DiffusionConfig, sampling: SamplingConfig, steps: int) -> Steps:
    """Make the steps of diffusers' DDIMScheduler as AnimateAnyone and its descendants set it.

    Where `steps` does not divide 1000 it goes a little beside its own times, and a little noise may stay (2.9% after 6
    steps); what it makes is then what their programs make.
    """
    scheduler = DDIMScheduler(**_betas(config), clip_sample=False, steps_offset=1, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    return DiffusersSteps(scheduler)


def _multistep_steps(order: int) -> Callable[[DiffusionConfig, SamplingConfig, int], Steps]:
    """Give what makes the `Steps` of `_multistep`."""

    def make(config: DiffusionConfig, sampling: SamplingConfig, steps: int) -> Steps:
        scheduler = _multistep(config, order, sampling.flow_shift)
        scheduler.set_timesteps(steps)
        return DiffusersSteps(scheduler)

    return make


SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler(_multistep_steps(1), memoryless=True),
    "dpm++": Sampler(_multistep_steps(2)),
    "flow": Sampler(EulerSteps, _STRAIGHT, memoryless=True),
    "lcm": Sampler(ConsistencySteps, max_steps=LCM_STEPS),
    "diffusers-ddim": Sampler(_ddim_steps, ("epsilon", "v"), memoryless=True, by_frames=True),
}
"""Samplers by the name that `SamplingConfig.sampler` holds. A new one is an entry here (or a call of
`register_sampler`).
"""


def register_sampler(name: str, sampler: Sampler) -> None:
    """Make a sampler known, from outside the package too. Raises ValueError for a name that is taken."""
    if name in SAMPLERS:
        raise ValueError(f"there is a sampler {name!r} already")
    SAMPLERS[name] = sampler

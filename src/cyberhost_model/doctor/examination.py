"""Whether videos can be made on this machine, what is missing where they cannot, and what a minute of video takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cyberhost_model.config import FPS, GenerationConfig
from cyberhost_model.device import choose_device
from cyberhost_model.doctor.costs import CountedEstimate, Estimate, blank_job, count_estimate, estimate
from cyberhost_model.doctor.downloads import Downloads, Extra, check_fetch, downloads, extras
from cyberhost_model.doctor.machine import Ffmpeg, Machine, describe_machine, find_ffmpeg
from cyberhost_model.doctor.network import PATIENCE, Cache, Hub, ask_hub, find_cache, within
from cyberhost_model.errors import CyberHostError, ResourceError, lacks_memory
from cyberhost_model.hub.capabilities import Capabilities, check_trained
from cyberhost_model.runtime.loading import missing_model, model_capabilities
from cyberhost_model.runtime.pipeline import CyberHost

MINUTE = 60  # seconds of the video that is estimated
T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """Why it does not work, with what to do, and the exit code of its kind (docs/user/errors.md)."""

    what: str
    exit_code: int


@dataclass(frozen=True)
class Examination:
    """Everything that was found; None is what could not be found out."""

    model: str
    can: Capabilities | None
    """What the model can do; None of one that does not exist, or that is on the Hub alone."""
    machine: Machine | None
    ffmpeg: Ffmpeg | None
    cache: Cache
    hub: Hub
    extras: list[Extra]
    downloads: list[Downloads]
    load_seconds: float | None
    """Loading the model."""
    minute: Estimate | None
    """A minute of video with the model's defaults; None where its weights are not here."""
    counted: CountedEstimate | None
    """The same roughly, of a published model whose weights are not here."""
    problems: list[Problem]
    """Why no video can be made here; none: it can, if need be after `downloads`."""

    @property
    def exit_code(self) -> int:
        """0 when a video can be made, else that of the first problem."""
        return self.problems[0].exit_code if self.problems else 0


class _Problems(list[Problem]):
    """The problems that came up, in order."""

    def collect(self, action: Callable[[], T]) -> T | None:
        """Run `action`; what a user can cause, and too little memory, is added here and gives None."""
        try:
            return action()
        except CyberHostError as error:
            self.append(Problem(" ".join(str(error).split()), error.exit_code))
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            said = " ".join(str(error).split())
            what = f"not enough memory for the model{said and f' ({said})'}: end other programs, or give --device cpu"
            self.append(Problem(what, ResourceError.exit_code))
        return None


def examine(model: str = "tiny", device: str = "auto", precision: str = "auto") -> Examination:
    """Examine everything that a job with `model` needs, and measure the model where its weights are here.

    What a user can cause is in `problems`.
    """
    problems = _Problems()
    place = problems.collect(lambda: choose_device(device, precision))
    ffmpeg, cache, hub = problems.collect(find_ffmpeg), find_cache(), ask_hub()
    missing = problems.collect(lambda: within(PATIENCE, lambda: missing_model(model, PATIENCE), model))
    can, load_seconds, minute, counted = None, None, None, None
    if missing is not None:
        before = len(problems)
        can = problems.collect(lambda: model_capabilities(model, ask=False))
        missing = None if len(problems) > before else missing
    if missing and any(not entry.spare for entry in missing):
        problems.collect(lambda: check_fetch(model, missing, hub))
        counted = None if place is None else count_estimate(model, GenerationConfig(), round(MINUTE * FPS), *place)
    elif missing is not None and place is not None:
        began = time.perf_counter()
        host = problems.collect(lambda: _load(model, device, precision))
        load_seconds = time.perf_counter() - began
        if host is not None:
            place = host.device, host.dtype
            minute = problems.collect(lambda: _minute(host))
    if can is not None:
        problems.collect(lambda: check_trained(model, can.untrained))
    return Examination(
        model=model,
        can=can,
        machine=None if place is None else describe_machine(*place, precision),
        ffmpeg=ffmpeg,
        cache=cache,
        hub=hub,
        extras=extras(),
        downloads=downloads(missing or []),
        load_seconds=load_seconds,
        minute=minute,
        counted=counted,
        problems=list(problems),
    )


def _load(model: str, device: str, precision: str) -> CyberHost:
    """Load what is here, to measure it, trained or not."""
    return CyberHost.from_pretrained(model, device, precision, allow_untrained=True, download_named=False)


def _minute(host: CyberHost) -> Estimate:
    job = blank_job(host)
    return estimate(host, job, round(MINUTE * job.config.fps))

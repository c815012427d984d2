"""Whether videos can be made here, what is missing where they cannot, and what a minute of video takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cyberhost_model.config import FPS, GenerationConfig
from cyberhost_model.device import choose_device
from cyberhost_model.doctor.counted import Counted, counted
from cyberhost_model.doctor.downloads import Downloads, Extra, check_fetch, downloads, extras
from cyberhost_model.doctor.machine import Ffmpeg, Machine, find_ffmpeg, machine
from cyberhost_model.doctor.network import PATIENCE, Cache, Hub, ask_hub, find_cache, within
from cyberhost_model.doctor.trial import Estimate, blank_job, estimate
from cyberhost_model.errors import CyberHostError, ResourceError
from cyberhost_model.runtime.loading import missing_model
from cyberhost_model.runtime.memory import is_out_of_memory
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
    """All that was found; None is what could not be found out."""

    model: str
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
    counted: Counted | None
    """The same roughly, of a published model whose weights are not here."""
    problems: list[Problem]
    """Why no video can be made here; none: it can, if need be after `downloads`."""

    @property
    def exit_code(self) -> int:
        """0 when a video can be made, else that of the first problem."""
        return self.problems[0].exit_code if self.problems else 0


def examine(model: str = "tiny", device: str = "auto", precision: str = "auto") -> Examination:
    """Look at all that a job with `model` needs, and measure the model where its weights are here.

    What a user can cause is in `problems`.
    """
    problems: list[Problem] = []

    def tried(action: Callable[[], T]) -> T | None:
        try:
            return action()
        except CyberHostError as error:
            problems.append(Problem(" ".join(str(error).split()), error.exit_code))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            said = " ".join(str(error).split())
            problems.append(
                Problem(
                    f"not enough memory for the model{said and f' ({said})'}: end other programs, or give --device cpu",
                    ResourceError.exit_code,
                )
            )
        return None

    place = tried(lambda: choose_device(device, precision))
    binary, cache, hub = tried(find_ffmpeg), find_cache(), ask_hub()
    missing = tried(lambda: within(PATIENCE, lambda: missing_model(model, PATIENCE), model))
    load = minute = rough = None
    if missing and any(not entry.spare for entry in missing):
        tried(lambda: check_fetch(model, missing, hub))
        rough = None if place is None else counted(model, GenerationConfig(), round(MINUTE * FPS), *place)
    elif missing is not None and place is not None:
        began = time.perf_counter()
        host = tried(lambda: CyberHost.from_pretrained(model, device, precision, download_named=False))
        load = time.perf_counter() - began
        if host is not None:
            place = host.device, host.dtype
            minute = tried(lambda: _minute(host))
    found = None if place is None else machine(*place, precision)
    return Examination(
        model, found, binary, cache, hub, extras(), downloads(missing or []), load, minute, rough, problems
    )


def _minute(host: CyberHost) -> Estimate:
    job = blank_job(host)
    return estimate(host, job, round(MINUTE * job.config.fps))

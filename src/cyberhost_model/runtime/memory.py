"""Fallbacks for too little memory: a clip is tried again with one more saving, until none is left.

`MemoryFallback` holds the savings of one video and their order (docs/reference/performance.md).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from cyberhost_model.errors import ResourceError, lacks_memory
from cyberhost_model.runtime.loading import Model
from cyberhost_model.sampler.cuda_graphs import RecordedNetwork

T = TypeVar("T")
_WINDOW_MEMORY = 12_000_000_000
"""Free bytes for each window of a batch: a step of 12 frames at 640x384 with two branches takes 2 GB, one of 12 at
768x768 five, one of 24 at 768x512 six, and each recording (`sampler.cuda_graphs`) as much again.
"""
_CPU = torch.device("cpu")


@contextmanager
def enough_memory(device: torch.device, purpose: str) -> Iterator[None]:
    """Raise ResourceError where the block, which is not tried again, has too little memory.

    purpose: for the message, such as "load the model".
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        raise ResourceError(
            f"not enough memory on {device.type} to {purpose}: end other programs "
            f"there{'' if device.type == 'cpu' else ', or give --device cpu'}"
        ) from error


def _windows_at_once(model: Model, device: torch.device) -> int:
    """Choose how many windows to begin with: as many as fit into the free memory, by a rough rule, and at most 4.

    1 on a CPU, where a batch is not faster.
    """
    if device.type != "cuda" or not model.network.preset.sampling.overlap:
        return 1
    free = torch.cuda.mem_get_info(device)[0]
    most = 4
    while most > 1 and free < most * _WINDOW_MEMORY:
        most //= 2
    return most


class MemoryFallback:
    """Savings of memory that one video has come to, in the order in which they are taken (`_next_saving`).

    All but the last leave the frames as they are.
    """

    overlapped: bool
    """A clip is decoded in a thread while the next one is denoised."""
    recorded: RecordedNetwork | None
    """Recorded steps, which hold memory of their own."""
    one_by_one: bool
    """Guidance branches are computed one after the other."""
    windows_at_once: int
    """Overlapping windows that are denoised as one batch (`sampler.windows`)."""
    frames_at_once: int
    """Frames that are decoded together."""
    offloaded: bool
    """Only the part that computes is on the device; speech encoder, detector and image encoder are on the CPU."""
    tiled: bool
    """The codec decodes a frame in tiles, where it can."""

    def __init__(
        self,
        model: Model,
        device: torch.device,
        branches: int,
        overlapped: bool = False,
        wait_for_worker: Callable[[], None] = lambda: None,
        recorded: RecordedNetwork | None = None,
    ) -> None:
        """Start without any saving.

        branches: of guidance. wait_for_worker: waits for the thread that decodes, which uses memory too.
        """
        self.model, self.device, self.branches = model, device, branches
        self.overlapped, self.recorded = overlapped, recorded
        self.one_by_one = self.offloaded = self.tiled = False
        self.windows_at_once = _windows_at_once(model, device)
        # At most the codec's own limit, so that halving it saves memory.
        self.frames_at_once = min(model.network.preset.frames, model.codec.frames_at_once)
        self._wait_for_worker = wait_for_worker
        if model.codec.can_tile:
            model.codec.tile(False)  # an earlier video may have switched it on

    def attempt(self, part: str, action: Callable[[], T], warn: Callable[[str], None]) -> T:
        """Call `action` until it has enough memory, with one more saving each time, and return its result.

        part: what computes, "network", "codec" or "speech". The action must be repeatable. warn: called with a line for
        each saving. Raises ResourceError when no saving is left.
        """
        while True:
            self._place_parts(part)
            try:
                return action()
            except (RuntimeError, MemoryError) as error:
                if not lacks_memory(error):
                    raise
            # After the except clause: before its end the exception holds on to the tensors of the attempt.
            self._free_memory()
            saving = self._next_saving(part)
            if saving is None:
                raise ResourceError(
                    f"not enough memory on {self.device.type} for a clip, after every saving: end other programs "
                    "there, or give --device cpu"
                )
            self._report(saving, warn)

    def stop_overlap(self, warn: Callable[[str], None]) -> None:
        """Decode each clip before the next one is denoised, from now on."""
        if self.overlapped:
            self._report(self._stop_overlap(), warn)

    def _report(self, saving: str, warn: Callable[[str], None]) -> None:
        warn(f"too little memory on {self.device.type}: {saving}")

    def _stop_overlap(self) -> str:
        self.overlapped = False
        return "a clip is decoded before the next one is begun"

    def _free_memory(self) -> None:
        """Return the memory of a failed attempt to the device."""
        self._wait_for_worker()
        gc.collect()
        if self.device.type in ("cuda", "mps"):
            getattr(torch, self.device.type).empty_cache()

    def _next_saving(self, part: str) -> str | None:
        """Take the next saving for `part`, and describe it; None where there is none left."""
        if self.overlapped:
            return self._stop_overlap()
        if part == "network" and self.windows_at_once > 1:
            self.windows_at_once //= 2
            return f"{self.windows_at_once} windows are denoised at a time"
        if self.recorded is not None and self.recorded.drop():
            return "steps are computed without CUDA graphs"
        if part == "network" and self.branches > 1 and not self.one_by_one:
            self.one_by_one = True
            return "the branches of guidance are computed one after the other"
        if part == "codec" and self.frames_at_once > 1:
            self.frames_at_once = (self.frames_at_once + 1) // 2
            if self.frames_at_once == 1:
                return "frames are decoded one by one"
            return f"frames are decoded {self.frames_at_once} at a time"
        if not self.offloaded and self.device != _CPU:
            self.offloaded = True
            return "parts of the model that do not compute wait in the machine's memory"
        if part == "codec" and self.model.codec.can_tile and not self.tiled:
            self.tiled = True
            self.model.codec.tile(True)
            return "frames are decoded in tiles, whose seams may be visible"
        return None

    def _place_parts(self, part: str) -> None:
        """Keep only the part that computes on the device, once parts are offloaded."""
        if not self.offloaded:
            return
        model = self.model
        for module in (model.speech, model.detector, model.image, model.face):
            if module is not None and hasattr(module, "to"):
                module.to(_CPU)
        for name, module in (("network", model.network), ("codec", model.codec)):
            if name != part:
                module.to(_CPU)
        if part in ("network", "codec"):
            getattr(model, part).to(self.device)

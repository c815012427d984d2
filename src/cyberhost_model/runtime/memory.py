"""Too little memory on the device: a clip is tried again with less, step by step, before a job is given up."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from cyberhost_model.errors import ResourceError
from cyberhost_model.runtime.loading import Model
from cyberhost_model.sampler.cuda_graphs import RecordedNetwork

T = TypeVar("T")
_CPU = torch.device("cpu")
_WORDS = (
    "can't allocate memory",
    "out of memory",
    # CUDA's libraries, which say so in words of their own; cuBLAS is not initialized and cuDNN finds no engine where
    # their workspace does not fit.
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or the machine, has too little memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


@contextmanager
def enough_memory(device: torch.device, what: str) -> Iterator[None]:
    """For what is not tried again with less: too little memory for it is a ResourceError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"not enough memory on {device.type} to {what}: end other programs "
            f"there{'' if device.type == 'cpu' else ', or give --device cpu'}"
        ) from error


class MemoryFallback:
    """What one video has given up so far for want of memory.

    All but the last step leave the frames what they would be.

    overlapped: a clip is decoded in a thread while the next one is denoised; `settle` waits for that thread. recorded:
    steps that are played back, which holds their memory. one_by_one: guidance branches are computed one after the
    other. at_once: frames that are decoded together. offloaded: only the part that computes is on the device; speech
    encoder, detector and image encoder compute on the CPU. tiled: Stable Diffusion's VAE decodes a frame in pieces.
    """

    def __init__(
        self,
        model: Model,
        device: torch.device,
        branches: int,
        overlapped: bool = False,
        settle: Callable[[], None] = lambda: None,
        recorded: RecordedNetwork | None = None,
    ) -> None:
        self.model, self.device = model, device
        self.overlapped, self.settle, self.recorded = overlapped, settle, recorded
        self.branches, self.at_once = branches, model.network.preset.frames
        self.one_by_one = self.offloaded = self.tiled = False
        if model.codec.can_tile:
            model.codec.tile(False)  # another video may have left it so
        # No more than the codec decodes together by itself, so that what is spared is less than that.
        self.at_once = min(self.at_once, model.codec.frames_at_once)

    def attempt(self, part: str, action: Callable[[], T], tell: Callable[[str], None]) -> T:
        """What `action`, which computes with `part` of the model ("network", "codec" or "speech"), returns.

        It is called again after each saving, so it must begin anew. Raises ResourceError when nothing is left to save.
        """
        while True:
            self._make_room(part)
            try:
                return action()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self.settle()
            # Only here, behind the except clause, is what the attempt had computed free.
            gc.collect()
            if self.device.type in ("cuda", "mps"):
                getattr(torch, self.device.type).empty_cache()
            saving = self._save(part)
            if saving is None:
                raise ResourceError(
                    f"not enough memory on {self.device.type} for a clip, whatever is spared: end other programs "
                    "there, or give --device cpu"
                )
            tell(f"too little memory on {self.device.type}: {saving}")

    def apart(self, tell: Callable[[str], None]) -> None:
        """A clip that was decoded beside the next one did not fit: no other is."""
        if self.overlapped:
            tell(f"too little memory on {self.device.type}: {self._apart()}")

    def _apart(self) -> str:
        self.overlapped = False
        return "a clip is decoded before the next one is begun"

    def _save(self, part: str) -> str | None:
        """The next step for `part`, in words; None where there is none."""
        if self.overlapped:
            return self._apart()
        if self.recorded is not None and self.recorded.drop():
            return "steps are computed without CUDA graphs"
        if part == "network" and self.branches > 1 and not self.one_by_one:
            self.one_by_one = True
            return "the branches of guidance are computed one after the other"
        if part == "codec" and self.at_once > 1:
            self.at_once = (self.at_once + 1) // 2
            return (
                f"frames are decoded {self.at_once} at a time" if self.at_once > 1 else "frames are decoded one by one"
            )
        if not self.offloaded and self.device != _CPU:
            self.offloaded = True
            return "what does not compute waits in the machine's memory"
        if part == "codec" and self.model.codec.can_tile and not self.tiled:
            self.tiled = True
            self.model.codec.tile(True)
            return "frames are decoded in tiles, whose seams may be seen"
        return None

    def _make_room(self, part: str) -> None:
        if not self.offloaded:
            return
        model = self.model
        for module in (model.speech, model.detector, model.image):
            if isinstance(module, nn.Module):
                module.to(_CPU)
        for name, module in (("network", model.network), ("codec", model.codec)):
            if name != part:
                module.to(_CPU)
        if part in ("network", "codec"):
            getattr(model, part).to(self.device)

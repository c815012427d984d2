"""Finished clips of a video that is being made, kept in a folder so that the video can be gone on with.

A clip is kept as its latents, from which the codec makes the same frames again, together with the state of what draws
the next clip's noise. Clips whose frames are encoded are dropped, all but the last, so the folder stays small. Of a
video that is denoised as a whole the latents are kept, those after the last step while it is denoised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cyberhost_model.media.files import written_whole

_WHOLE, _STEPS = "latents.safetensors", "steps.safetensors"


@dataclass(frozen=True)
class ClipState:
    """A finished clip, and what the next one depends on beside the job."""

    index: int
    latents: Tensor
    """(1, keep, C, h, w), as sampled; motion frames are taken from its end."""
    generator: Tensor
    """State of the generator of noise after the clip, uint8 (n,)."""
    slow_noise: Tensor | None = None
    """`SlowNoises.white` after the clip, where a body is moved by slow noise."""


@dataclass(frozen=True)
class StepState:
    """A video that is denoised as a whole, between two of its steps."""

    taken: int
    """Steps, 1 or more."""
    latents: Tensor
    """(1, total, C, h, w), after them."""


class ClipStore:
    """Clips in a folder: those before `encoded` are in the video already, those up to `done` are kept as latents."""

    def __init__(self, folder: Path, encoded: int = 0) -> None:
        """Take what the folder holds. encoded: clips whose frames need not be made again."""
        self.folder, self.encoded = folder, encoded
        self.done = encoded
        while self._read(self.done) is not None:
            self.done += 1

    @property
    def last(self) -> ClipState | None:
        """The clip before the next one; None where the video begins. Without it nothing can be gone on with."""
        return self._read(self.done - 1) if self.done else None

    def kept(self) -> Iterator[Tensor]:
        """Read the latents (1, keep, C, h, w) of the clips that are sampled but not encoded."""
        for index in range(self.encoded, self.done):
            state = self._read(index)
            assert state is not None
            yield state.latents

    def keep(self, state: ClipState) -> None:
        """Write a clip, whole or not at all. Raises OutputError."""
        tensors = {"latents": state.latents, "generator": state.generator}
        if state.slow_noise is not None:
            tensors["slow_noise"] = state.slow_noise
        _write(self._path(state.index), tensors)

    def drop(self, encoded: int) -> None:
        """Remove the clips before number `encoded`, all but the last of them."""
        for path in self.folder.glob("clip-*.safetensors"):
            if int(path.stem.partition("-")[2]) < encoded - 1:
                path.unlink(missing_ok=True)

    def keep_whole(self, latents: Tensor) -> None:
        """Write the latents (1, total, C, h, w) of a video that is denoised as a whole. Raises OutputError."""
        _write(self.folder / _WHOLE, {"latents": latents})
        (self.folder / _STEPS).unlink(missing_ok=True)

    def whole(self) -> Tensor | None:
        """Read what `keep_whole` wrote; None where there is none."""
        read = _read(self.folder / _WHOLE)
        return None if read is None else read["latents"]

    def keep_step(self, taken: int, latents: Tensor) -> None:
        """Write the latents (1, total, C, h, w) after `taken` steps, in place of those before. Raises OutputError."""
        _write(self.folder / _STEPS, {"latents": latents, "taken": torch.tensor(taken)})

    def step(self) -> StepState | None:
        """Read what `keep_step` wrote; None where there is none."""
        tensors = _read(self.folder / _STEPS)
        if tensors is None or not {"latents", "taken"} <= set(tensors):
            return None
        return StepState(int(tensors["taken"]), tensors["latents"])

    def _read(self, index: int) -> ClipState | None:
        tensors = _read(self._path(index))
        if tensors is None or not {"latents", "generator"} <= set(tensors):
            return None
        return ClipState(index, tensors["latents"], tensors["generator"], tensors.get("slow_noise"))

    def _path(self, index: int) -> Path:
        return self.folder / f"clip-{index:07d}.safetensors"


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    with written_whole(path) as part:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part)


def _read(path: Path) -> dict[str, Tensor] | None:
    """Read a file of tensors; None where it is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError):
        return None

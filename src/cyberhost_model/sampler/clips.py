"""A video of any length as clips that follow each other: the last latents of one are the motion frames of the next (section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from cyberhost_model.errors import InputError


@dataclass(frozen=True)
class Clip:
    """Frames start .. start + frames of the video; all are made, `keep` of them are shown (fewer only in the last clip)."""

    index: int
    start: int
    frames: int
    keep: int


def plan_clips(total: int, frames: int = 12) -> Iterator[Clip]:
    """The clips of `total` frames, `frames` new ones each. Raises InputError if there is not one frame to make."""
    if total < 1:
        raise InputError("there is no frame to make: the sound is shorter than one video frame")
    for index, start in enumerate(range(0, total, frames)):
        yield Clip(index, start, frames, min(frames, total - start))


def denoise_clips(
    clips: Iterator[Clip], make: Callable[[Clip, Tensor | None], Tensor], motion_frames: int = 4
) -> Iterator[tuple[Clip, Tensor]]:
    """Runs `make(clip, motion)` for each clip in turn and yields (clip, latents (B, keep, C, h, w)).

    `motion` (B, M, C, h, w) is the end of the clip before, None for the first (or when motion_frames is 0). Only that end is kept, so
    memory does not grow with the video.
    """
    motion: Tensor | None = None
    for clip in clips:
        latents = make(clip, motion)
        # a slice would keep the whole clip alive
        motion = latents[:, -motion_frames:].clone() if motion_frames else None
        yield clip, latents[:, : clip.keep]

"""What is measured: network sizes, and one clip's shapes.

Standard library alone, for it is read in the peers' environments too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """widths and heads: of the U-Net's levels; attention: levels that have spatial attention; latent: (h, w); frames:
    of a clip; factor: pixels of a latent cell; context: width of cross attention's tokens; job_frames, job_steps: of
    the whole job, which has the first of `branches`; decoded: frames that one measured decoding has.
    """

    name: str
    widths: tuple[int, ...]
    latent: tuple[int, int]
    frames: int = 12
    factor: int = 8
    context: int = 768
    job_frames: int = 12
    job_steps: int = 2
    decoded: int = 2
    branches: tuple[int, ...] = (2,)

    @property
    def pixels(self) -> tuple[int, int]:
        """(H, W) of the video."""
        return self.latent[0] * self.factor, self.latent[1] * self.factor


SIZES = {
    "tiny": Size(
        "tiny", (64, 96, 160), (16, 16), factor=16, context=128, job_frames=48, job_steps=5, decoded=12, branches=(1, 3)
    ),
    "small": Size("small", (32, 64, 96, 96), (8, 8), context=24, job_frames=48, job_steps=2, branches=(2, 1, 3)),
    "middle": Size("middle", (160, 320, 640, 640), (24, 24), job_frames=48, job_steps=8),
    "wide": Size("wide", (128, 256, 512, 512), (64, 64), frames=4, job_frames=4, job_steps=1, decoded=1),
    "sd15": Size("sd15", (320, 640, 1280, 1280), (16, 16), job_steps=1),
    "full": Size("full", (320, 640, 1280, 1280), (80, 48), job_frames=48, job_steps=25, decoded=12, branches=(2, 1, 3)),
}
"""tiny: the embedded model.

middle, wide (as many tokens as 640x384 has), sd15: what a CPU can do. full: the paper's 640x384, for a GPU. small: to
try the benchmark itself.
"""

"""What the three settings share: how a video is to look and how much work it may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from typing_extensions import TypedDict

FPS = 25.0  # what the model was trained at


if TYPE_CHECKING:

    class Settings(TypedDict, total=False):
        """The fields of `Look`, as keywords."""

        seed: int
        steps: int | None
        fps: float
        size: int | None
        guidance_reference: float | None
        guidance_audio: float | None
        guidance_interval: tuple[float, float] | None
        hand_clarity: float | None
        head: bool | None
        cache_blocks: int


@dataclass(frozen=True)
class Look:
    """What the three settings share; keywords of `animate`, `reenact` and `multimodal`. Raises InputError.

    seed: same seed, same video. steps: of denoising, default the model's. fps: 1..60. size: side in pixels of a square of the video's area (default: the
    picture's own, at most 512); the aspect is the picture's. guidance_reference and guidance_audio: section 4.1, default the model's. guidance_interval:
    noise levels in 0..1 at which guidance acts (arXiv 2404.07724), default all. hand_clarity: 0 blurred .. 1 sharp. head: crop to the face and leave
    hands out (A2V-H, section 4.2); None does so for a picture that shows a head alone.
    cache_blocks: the U-Net's deep blocks are computed at every so many steps alone: quicker, and not quite the same frames (docs/speed.md).
    """

    seed: int = 0
    steps: int | None = None
    fps: float = FPS
    size: int | None = None
    guidance_reference: float | None = None
    guidance_audio: float | None = None
    guidance_interval: tuple[float, float] | None = None
    hand_clarity: float | None = None
    head: bool | None = None
    cache_blocks: int = 1

    def __post_init__(self) -> None:
        if self.cache_blocks < 1:
            raise InputError(f"cache_blocks must be at least 1 (every step), not {self.cache_blocks}")
        if not 1 <= self.fps <= 60:
            raise InputError(f"fps must be between 1 and 60, not {self.fps:g}")
        if self.guidance_interval is not None and not 0 <= self.guidance_interval[0] <= self.guidance_interval[1] <= 1:
            raise InputError(f"the guidance interval must be two rising numbers in 0..1, not {self.guidance_interval}")

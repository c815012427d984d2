"""What becomes of a video's frames outside the model: subtitles beside them, another background, or none."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyberhost_model.errors import InputError
from cyberhost_model.media.file_kinds import KINDS
from cyberhost_model.media.files import hexdigest
from cyberhost_model.media.subtitles import Subtitles, load_subtitles
from cyberhost_model.options import option

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class SubtitleOptions:
    """What every video may have, a dubbed film too."""

    subtitles: Path | None = option(
        None, "Keep the subtitles in FILE (.srt, .vtt, .ass; UTF-8) as a track of the video.", metavar="FILE"
    )


@dataclass(frozen=True)
class OutputForm(SubtitleOptions):
    """The form of a video: keyword `form` of `Animation.save`, and options of the commands that make a video."""

    background: str | None = option(
        None, "Put the person before a colour (green, #00b140) or a picture.", metavar="COLOUR|FILE"
    )
    alpha: bool = option(
        False, "Leave the background out: OUT is .webm (VP9 with alpha) or .mov (ProRes 4444 with alpha)."
    )

    @property
    def cuts_out(self) -> bool:
        """Whether the person is cut out of the frames."""
        return self.alpha or self.background is not None

    @property
    def files(self) -> dict[str, Path]:
        """Files that it names, by the names of the options."""
        found = {} if self.subtitles is None else {"subtitles": self.subtitles}
        if self.background is not None and colour_of(self.background) is None:
            found["background"] = Path(self.background)
        return found

    def check(self, out: Path) -> None:
        """Check that the options go together, and with a file of the name `out`. Raises InputError."""
        if not self.alpha:
            return
        if self.background is not None:
            raise InputError("alpha leaves the background out, and background sets one: give one of them")
        if KINDS[out.suffix.lower()].alpha is None:
            raise InputError(
                f"{out}: {out.suffix} has no alpha that players read; give a name that ends in .webm (VP9) or .mov "
                "(ProRes 4444)"
            )

    def open_subtitles(self) -> Subtitles | None:
        """Read and check the subtitles, None without. Raises InputError."""
        return None if self.subtitles is None else load_subtitles(self.subtitles)

    def open_background(self) -> np.ndarray | None:
        """Read the new background, uint8 (H, W, 3), a colour as one pixel; None without. Raises InputError."""
        if self.background is None:
            return None
        import numpy as np

        if (colour := colour_of(self.background)) is not None:
            return np.array([[colour]], np.uint8)
        if not Path(self.background).exists():
            raise InputError(f"{self.background}: is neither a colour (green, #00b140) nor a picture that is there")
        from cyberhost_model.media.image import load_picture

        return load_picture(self.background)

    def facts(self) -> dict[str, str]:
        """Describe what the written frames depend on, for `runtime.resume`; nothing where they stay as they are.

        Raises OSError for a background that cannot be read again.
        """
        if not self.cuts_out:
            return {}
        picture = self.files.get("background")
        behind = self.background if picture is None else hexdigest(picture, hashlib.sha256())
        return {"background": "alpha" if self.alpha else str(behind)}


def colour_of(text: str) -> tuple[int, int, int] | None:
    """Read a colour as CSS writes it -> red, green and blue, 0..255; None where it is none."""
    from PIL import ImageColor

    try:
        red, green, blue = (min(value, 255) for value in ImageColor.getrgb(text)[:3])
    except ValueError:
        return None
    return red, green, blue

"""What goes with a video's frames and sound into its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cyberhost_model.media.subtitles import Subtitles, load_subtitles
from cyberhost_model.options import option


@dataclass(frozen=True)
class OutputForm:
    """The form of a video: keyword `form` of `Animation.save`, and options of the commands that make a video."""

    subtitles: Path | None = option(
        None, "Keep the subtitles in FILE (.srt, .vtt, .ass; UTF-8) as a track of the video.", metavar="FILE"
    )

    @property
    def files(self) -> dict[str, Path]:
        """Files that it names, by the names of the options."""
        return {} if self.subtitles is None else {"subtitles": self.subtitles}

    def open_subtitles(self) -> Subtitles | None:
        """Read and check the subtitles, None without. Raises InputError."""
        return None if self.subtitles is None else load_subtitles(self.subtitles)

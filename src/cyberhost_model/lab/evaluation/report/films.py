"""Small copies of videos for a page: short, low, and no more of them than the page may hold."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cyberhost_model.media.ffmpeg import end_reason, ffmpeg, input_arguments

HEIGHT = 320
CRF = 30
LIMIT = 24 << 20  # bytes of film on a page, a third more as base64


@dataclass(frozen=True)
class Film:
    """An MP4 (H.264, AAC), or the reason there is none. `start`: seconds of the video that come before it."""

    data: bytes = b""
    start: float = 0.0
    reason: str = ""


@dataclass
class Films:
    """Makes films until `limit` bytes of them are made. `seconds`: of each at most."""

    seconds: float = 8.0
    limit: int = LIMIT
    made: int = field(default=0, init=False)
    left_out: int = field(default=0, init=False)
    """Films that did not fit any more."""

    def make(self, path: Path, start: float = 0.0) -> Film:
        """A copy of up to `seconds` of a video from `start` on.

        A film without data says why it has none; nothing is raised.
        """
        if self.made >= self.limit:
            return self._left_out(start)
        fit = f"scale=w=-2:h='trunc(min({HEIGHT},ih)/2)*2':flags=area"
        command = [
            "-v",
            "error",
            "-ss",
            f"{start:.3f}",
            *input_arguments(path),
            "-t",
            f"{self.seconds:.3f}",
            "-map",
            "0:V:0",
            "-map",
            "0:a:0?",
        ]
        command += [
            "-vf",
            f"{fit},format=yuv420p",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-crf",
            str(CRF),
            "-threads",
            "1",
        ]
        command += ["-c:a", "aac", "-b:a", "64k", "-ac", "1", "-map_metadata", "-1"]
        # A whole file, not a stream: only that can say that picture and sound begin together.
        with tempfile.TemporaryDirectory(prefix="cyberhost-") as folder:
            small = Path(folder) / "film.mp4"
            with ffmpeg([*command, "-movflags", "+faststart", f"file:{small}"]) as encoder:
                code, told = encoder.end()
            data = small.read_bytes() if small.is_file() else b""
        if code or not data:
            return Film(start=start, reason=f"no clip could be made ({end_reason(code, told)})")
        if self.made + len(data) > self.limit:
            return self._left_out(start)
        self.made += len(data)
        return Film(data, start)

    def _left_out(self, start: float) -> Film:
        self.left_out += 1
        return Film(start=start, reason=f"no clip: the page holds {self.limit >> 20} MB of them already")

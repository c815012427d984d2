"""Make small copies of videos for a page: short, low, and no more than the page may hold."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cyberhost_model.media.ffmpeg import end_reason, ffmpeg, input_arguments

LIMIT = 24 << 20  # bytes of copies on a page; base64 adds a third
_HEIGHT = 320
_CRF = 30


@dataclass(frozen=True)
class ClipCopy:
    """Hold an MP4 (H.264, AAC), or the reason why there is none.

    poster: its first frame, a JPEG, which is seen before the film is loaded and where a browser cannot decode it.
    """

    data: bytes = b""
    poster: bytes = b""
    reason: str = ""


@dataclass
class ClipCopies:
    """Make copies until `limit` bytes of them are made, of up to `seconds` each.

    made: bytes so far. left_out: copies that had no room.
    """

    seconds: float = 8.0
    limit: int = LIMIT
    made: int = field(default=0, init=False)
    left_out: int = field(default=0, init=False)

    def make(self, path: Path, start: float = 0.0) -> ClipCopy:
        """Copy up to `seconds` of a video from `start` on.

        Nothing is raised: a copy without data gives the reason.
        """
        if self.made >= self.limit:
            return self._no_room()
        fit = f"scale=w=-2:h='trunc(min({_HEIGHT},ih)/2)*2':flags=area"
        command = ["-v", "error", "-ss", f"{start:.3f}", *input_arguments(path), "-t", f"{self.seconds:.3f}"]
        command += ["-map", "0:V:0", "-map", "0:a:0?", "-map_metadata", "-1"]
        command += ["-vf", f"{fit},format=yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-crf", str(_CRF)]
        command += ["-threads", "1", "-c:a", "aac", "-b:a", "64k", "-ac", "1", "-movflags", "+faststart"]
        # Into a file, not a pipe: only a seekable MP4 can say that picture and sound begin together.
        with tempfile.TemporaryDirectory(prefix="cyberhost-") as folder:
            small = Path(folder) / "copy.mp4"
            with ffmpeg([*command, f"file:{small}"]) as encoder:
                code, log = encoder.end()
            data = small.read_bytes() if small.is_file() else b""
            poster = _first_frame(small) if data else b""
        if code or not data:
            return ClipCopy(reason=f"no clip could be made ({end_reason(code, log)})")
        size = len(data) + len(poster)
        if self.made + size > self.limit:
            return self._no_room()
        self.made += size
        return ClipCopy(data, poster)

    def _no_room(self) -> ClipCopy:
        self.left_out += 1
        return ClipCopy(reason=f"no clip: the page holds {self.limit >> 20} MB of them already")


def _first_frame(film: Path) -> bytes:
    """Return the first frame of a film as JPEG; nothing where it cannot be made."""
    picture = film.with_name("poster.jpg")
    command = ["-v", "error", *input_arguments(film), "-frames:v", "1", "-q:v", "5", f"file:{picture}"]
    with ffmpeg(command) as encoder:
        code, _ = encoder.end()
    return picture.read_bytes() if not code and picture.is_file() else b""

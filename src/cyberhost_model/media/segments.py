"""A video as segments: files of a folder, encoded one after the other and put together at the end.

A segment is a whole file without sound, so a stopped video keeps those that are finished. Where one ends does not
depend on where the work was stopped; so the frames of the video do not either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from cyberhost_model.media.audio import Sound
from cyberhost_model.media.file_kinds import segment_suffix
from cyberhost_model.media.files import written_whole
from cyberhost_model.media.subtitles import Subtitles
from cyberhost_model.media.video_writer import VideoWriter

_LIST = "segments.txt"


def segment_path(folder: Path, index: int, suffix: str = ".mp4") -> Path:
    """Name the file of a segment; suffix: its kind (`file_kinds.segment_suffix`)."""
    return folder / f"segment-{index:06d}{suffix}"


def finished_segments(folder: Path) -> int:
    """Count the segments from the first one on that are finished."""
    finished = {path.stem for path in folder.glob("segment-*.*")}
    count = 0
    while segment_path(folder, count).stem in finished:
        count += 1
    return count


class SegmentWriter:
    """Context manager that encodes frames, uint8 (H, W, 3) RGB, into segments of `frames` frames each.

    first: number of the segment that the first frame belongs to. finished(count): called when there are `count`
    segments. suffix: the kind of their files. alpha: frames are (H, W, 4) RGBA. Raises OutputError and ResourceError
    as `VideoWriter` does.
    """

    def __init__(
        self,
        folder: Path,
        size: tuple[int, int],
        fps: float,
        frames: int,
        first: int = 0,
        finished: Callable[[int], None] = lambda count: None,
        suffix: str = ".mp4",
        alpha: bool = False,
    ) -> None:
        self.suffix, self.alpha = suffix, alpha
        self.folder, self.size, self.fps, self.frames = folder, size, fps, frames
        self.index, self.finished = first, finished
        self._writer: VideoWriter | None = None

    def add(self, frame: np.ndarray) -> None:
        """Append one frame; the one that fills a segment waits until it is written."""
        if self._writer is None:
            out = segment_path(self.folder, self.index, self.suffix)
            self._writer = VideoWriter(out, self.size, self.fps, overwrite=True, alpha=self.alpha).__enter__()
        self._writer.add(frame)
        if self._writer.frames == self.frames:
            self._finish()

    def _finish(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(None, None, None)
            self.index += 1
            self.finished(self.index)

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        elif self._writer is not None:
            self._writer.__exit__(kind, value, trace)


class _Joined(VideoWriter):
    """Writes a video of finished segments, whose frames are copied as they are encoded."""

    def __init__(
        self,
        listed: Path,
        out: Path,
        size: tuple[int, int],
        fps: float,
        sound: Sound | None,
        overwrite: bool,
        sound_seconds: float | None,
        tags: Mapping[str, str] | None,
        finish: Callable[[Path], None] | None,
        subtitles: Subtitles | None,
    ) -> None:
        # Checked before the first frame; what has appeared since then keeps the name (`media.files.atomic_path`).
        super().__init__(
            out, size, fps, sound, True, sound_seconds=sound_seconds, tags=tags, finish=finish, subtitles=subtitles
        )
        self.overwrite, self._listed = overwrite, listed

    def _video_input(self) -> list[str]:
        return ["-protocol_whitelist", "file", "-f", "concat", "-safe", "0", "-i", f"file:{self._listed.absolute()}"]

    def _video_encoding(self) -> list[str]:
        return ["-c:v", "copy"]


def join_segments(
    folder: Path,
    count: int,
    out: Path,
    size: tuple[int, int],
    fps: float,
    sound: Sound | None,
    *,
    overwrite: bool = False,
    sound_seconds: float | None = None,
    tags: Mapping[str, str] | None = None,
    finish: Callable[[Path], None] | None = None,
    subtitles: Subtitles | None = None,
    alpha: bool = False,
) -> Path:
    """Write `count` segments and the sound to `out`; the arguments are those of `VideoWriter`. Returns `out`.

    Raises OutputError and ResourceError.
    """
    listed, suffix = folder / _LIST, segment_suffix(out.suffix.lower(), alpha)
    with written_whole(listed) as part:
        names = (segment_path(folder, i, suffix).name for i in range(count))
        part.write_text("".join(f"file '{name}'\n" for name in names), encoding="utf-8")
    joined = _Joined(listed, out, size, fps, sound, overwrite, sound_seconds, tags, finish, subtitles)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(joined)
        writer.frames = count  # they are copied, not added
    return out

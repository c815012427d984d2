"""Looking for the watermark in a file, a video or a picture, and telling what it says."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.marks.run_code import name_of
from cyberhost_model.marks.watermark import Detection, detect
from cyberhost_model.media.picture_formats import PICTURE_SUFFIXES
from cyberhost_model.media.video_reader import VIDEO_SUFFIXES, stream_frames
from cyberhost_model.reading import is_file


def find_watermark(path: Path) -> Detection | None:
    """Look for the watermark in a file; None where it holds no picture."""
    readers = (stream_frames, _picture)
    for read in readers[::-1] if path.suffix.lower() in PICTURE_SUFFIXES else readers:
        frames: Iterator[np.ndarray] = read(path)
        try:
            first = next(frames, None)
        except InputError:
            continue
        if first is not None:
            return detect(chain([first], frames))
    return None


def said_by_watermark(path: Path) -> str | None:
    """Write what the watermark of an input says; None where it carries none. Files of other kinds are not opened."""
    if path.suffix.lower() not in (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES) or not is_file(path):
        return None
    about = path.stat()
    return _said(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=64)
def _said(path: Path, modified: int, size: int) -> str | None:
    """Look once at a file that tags, manifest and record ask about."""
    found = find_watermark(path)
    if found is None or not found.found:
        return None
    return "watermark of CyberHost" + (f", run {name_of(found.run)}" if found.run is not None else "")


def _picture(path: Path) -> Iterator[np.ndarray]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            yield np.asarray(picture.convert("RGB"))
    except Exception:  # Pillow's readers raise what they like on a damaged file
        return

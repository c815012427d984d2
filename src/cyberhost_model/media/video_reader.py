"""Video files -> frames at a constant rate, streamed through ffmpeg; one frame is in memory at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from cyberhost_model.config import FPS
from cyberhost_model.errors import InputError
from cyberhost_model.media.ffmpeg import check_file, end_reason, ffmpeg, input_arguments, ppm_size

LONGEST = 1280  # pixels of a frame's longer side; larger ones are reduced while they are decoded
TAKEN = "give MP4, MOV, MKV, WebM, AVI or another video"


def stream_frames(
    path: str | os.PathLike[str],
    fps: float = FPS,
    longest: int = LONGEST,
    max_seconds: float | None = None,
    faults: list[str] | None = None,
) -> Iterator[np.ndarray]:
    """Decode a video to uint8 (H, W, 3) RGB frames, upright, with square pixels, at `fps` frames a second.

    Frame i is the one on the screen i / fps seconds after the file's beginning: any rate, also a variable one, is
    brought to `fps` by its time stamps, and a picture that begins after the sound is shown from the start. Raises
    InputError, at the first frame, for a file that is missing, no video or without a picture. Of a damaged file what
    can be decoded is given, and `faults` gets a line.
    """
    path = Path(path)
    check_file(path, "video", "one video file")
    command = ["-v", "error", *input_arguments(path)]
    shrink = f"min(1,{longest}/max(iw*sar,ih))"
    square = f"scale=w='max(2,round(iw*sar*{shrink}))':h='max(2,round(ih*{shrink}))':flags=area"
    # Capital V: a cover picture in a sound file is no video. PPM tells the size of each frame, which is only known once
    # it is turned upright.
    command += ["-map", "0:V:0", "-vf", f"fps={fps:.6f}:start_time=0,{square},setsar=1"]
    if max_seconds is not None:
        command += ["-t", f"{max_seconds:.6f}"]
    command += ["-f", "image2pipe", "-c:v", "ppm", "-"]
    with ffmpeg(command) as decoder:
        given = 0
        while (frame := _read_ppm(decoder.stdout)) is not None:
            given += 1
            yield frame
        code, complaints = decoder.end()
        if not given:
            raise InputError(_why_no_video(path, code, complaints))
        if faults is not None and complaints.strip():
            # Without the name of ffmpeg's part.
            faults.append(re.sub(r"^\[[^\]]*\]\s*", "", end_reason(code, complaints)))


def _read_ppm(pipe: IO[bytes]) -> np.ndarray | None:
    """The next picture of a stream of PPM files; None at its end."""
    size = ppm_size(pipe)
    if size is None:
        return None
    width, height = size
    data = pipe.read(3 * width * height)
    return np.frombuffer(data, np.uint8).reshape(height, width, 3) if len(data) == 3 * width * height else None


def _why_no_video(path: Path, returncode: int, errors: str) -> str:
    if "matches no streams" in errors:
        return f"{path}: holds no picture; {TAKEN}"
    if "Invalid data" in errors or "received no packets" in errors or "Error opening input" in errors:
        return f"{path}: not a video that can be read; {TAKEN}"
    return f"{path}: no frame can be read ({end_reason(returncode, errors)}); {TAKEN}"

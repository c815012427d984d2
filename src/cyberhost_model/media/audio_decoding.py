"""Opening a sound file as a stream of blocks, with libsndfile where it can and ffmpeg elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.media.ffmpeg import end_reason, ffmpeg, input_arguments

Block = np.ndarray
BLOCK_SAMPLES = 1 << 17  # for each channel: about 3 s at 44.1 kHz
MAX_CHANNELS = 64
TAKEN = "give WAV, FLAC, OGG, MP3, M4A or a video with sound"


@contextlib.contextmanager
def open_blocks(path: Path) -> Iterator[tuple[int, int, Iterator[Block]]]:
    """Yield (rate in Hz, channels, iterator of float32 (n, channels) blocks). Raises InputError."""
    import soundfile

    try:
        file = soundfile.SoundFile(str(path))
    except (soundfile.LibsndfileError, RuntimeError, OSError):
        with _open_ffmpeg(path) as opened:  # a format of its own, or no sound at all: ffmpeg decides
            yield opened
        return
    with file:
        _check_layout(path, file.samplerate, file.channels)
        yield file.samplerate, file.channels, _sndfile_blocks(path, file)


def _sndfile_blocks(path: Path, file: Any) -> Iterator[Block]:
    import soundfile

    while True:
        try:
            block = file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise InputError(f"{path}: the sound is damaged ({error}); export it again") from None
        if len(block) == 0:
            return
        yield block


@contextlib.contextmanager
def _open_ffmpeg(path: Path) -> Iterator[tuple[int, int, Iterator[Block]]]:
    # WAV on the pipe, because its header tells rate and channels; float, so that nothing is clipped on the way.
    command = [
        "-v",
        "error",
        *input_arguments(path),
        "-map",
        "0:a:0",
        "-c:a",
        "pcm_f32le",
        "-bitexact",
        "-f",
        "wav",
        "-",
    ]
    with ffmpeg(command) as decoder:
        layout = _read_wav_header(decoder.stdout)
        if layout is None:
            raise InputError(_why_not_sound(path, *decoder.end()))
        rate, channels = layout
        _check_layout(path, rate, channels)
        yield rate, channels, _pipe_blocks(decoder.stdout, channels)


def _why_not_sound(path: Path, returncode: int, errors: str) -> str:
    if "matches no streams" in errors:
        return f"{path}: holds no sound; {TAKEN}"
    reason = end_reason(returncode, errors)
    if "Invalid data" in errors or "received no packets" in errors or "Error opening input" in errors:
        return f"{path}: not a sound file that can be read; {TAKEN}"
    return f"{path}: the sound cannot be read ({reason}); {TAKEN}"


def _read_wav_header(pipe: IO[bytes]) -> tuple[int, int] | None:
    """Read up to the first sample. Returns (rate, channels), or None where the stream ends before it."""
    if pipe.read(12)[:4] != b"RIFF":
        return None
    layout = None
    while len(head := pipe.read(8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            return layout
        body = pipe.read(size + size % 2)
        if name == b"fmt ":
            layout = int.from_bytes(body[4:8], "little"), int.from_bytes(body[2:4], "little")
    return None


def _pipe_blocks(pipe: IO[bytes], channels: int) -> Iterator[Block]:
    width = 4 * channels
    rest = b""
    while data := pipe.read(BLOCK_SAMPLES * width):
        data = rest + data
        whole = len(data) // width * width
        rest = data[whole:]
        if whole:
            yield np.frombuffer(data[:whole], dtype="<f4").reshape(-1, channels)


def _check_layout(path: Path, rate: int, channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS or not 1000 <= rate <= 768_000:
        raise InputError(f"{path}: {channels} channels at {rate} Hz cannot be used; export it as 48 kHz stereo")

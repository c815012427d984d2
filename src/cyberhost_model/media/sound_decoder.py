"""Decode sound files and the sound of films, up to stereo: the only place where a sound is decoded.

ffmpeg decodes; libsndfile (soundfile) only what ffmpeg does not know (MATLAB, PAF, SDS and others).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.media.ffmpeg import Header, WatchedPipe, end_reason, ffmpeg, input_arguments, read_header

MAX_CHANNELS = 64
MAX_RATE = 96_000  # Hz, the highest that a film's AAC has; a sound above it is resampled as it is decoded
MAX_SECONDS = 24 * 3600
TAKEN = "give WAV, FLAC, OGG, MP3, M4A or a video with sound"
_BLOCK_SAMPLES = 1 << 17  # for each channel: about 3 s at 44.1 kHz
_MISSING = 0.15  # seconds: a file that holds so much less than it says was cut off
_CANCELLED = 0.1  # share of the power that unrelated channels would keep in their mean

# Weights (left, right) of the positions of a loudspeaker in the order of the bits of a WAV file's mask (ITU-R BS.775:
# the centre and the surrounds at -3 dB; the bass effects are left out).
_CENTRE, _SURROUND = 0.5**0.5, 0.5**0.5
_POSITIONS = (
    (1.0, 0.0),  # front left
    (0.0, 1.0),  # front right
    (_CENTRE, _CENTRE),  # front centre
    (0.0, 0.0),  # bass effects
    (_SURROUND, 0.0),  # back left
    (0.0, _SURROUND),  # back right
    (1.0, 0.0),  # front left of centre
    (0.0, 1.0),  # front right of centre
    (0.5, 0.5),  # back centre
    (_SURROUND, 0.0),  # side left
    (0.0, _SURROUND),  # side right
)


@dataclass
class OpenedSound:
    """A sound while it is decoded.

    rate in Hz; channels: 1 or 2; blocks: float32 (n, channels) in order, values as the file has them. remarks: lines
    about what is wrong with the file, complete when the blocks are.
    """

    rate: int
    channels: int
    blocks: Iterator[np.ndarray]
    remarks: list[str] = field(default_factory=list)


@contextlib.contextmanager
def open_sound_file(path: Path) -> Iterator[OpenedSound]:
    """Open a sound file or the sound of a film. Raises InputError, also while it is read.

    In a film the samples begin at the film's own time 0 and follow its time stamps: a late start and gaps are silence.
    """
    header = read_header(path)
    if not header.has_sound and _may_be_sndfile(path):
        with _open_libsndfile(path) as opened:
            if opened is not None:
                yield opened
                return
    with _open_ffmpeg(path, header) as opened:
        yield opened


@contextlib.contextmanager
def _open_ffmpeg(path: Path, header: Header, rate: int | None = None) -> Iterator[OpenedSound]:
    # WAV on the pipe, because its header tells rate and channels; float, so that nothing is clipped on the way.
    # A layout that the file does not state is not guessed: ffmpeg would take the third channel for bass effects.
    command = ["-v", "warning", "-guess_layout_max", "2", *input_arguments(path), "-map", "0:a:0"]
    if header.pictures:
        command += ["-af", "aresample=async=1:first_pts=0"]
    if rate is not None:
        command += ["-ar", str(rate)]
    with contextlib.ExitStack() as stack:
        decoder = stack.enter_context(ffmpeg([*command, "-c:a", "pcm_f32le", "-bitexact", "-f", "wav", "-"]))
        layout = _read_wav_header(decoder.stdout)
        if layout is None:
            if found := re.search(r": Audio: .* (\d+) Hz, (\d+) channels", header.text):
                _check_layout(path, int(found[1]), int(found[2]))
            raise InputError(_why_not_sound(path, *decoder.end()))
        found_rate, channels, mask = layout
        _check_layout(path, found_rate, channels)
        if found_rate > MAX_RATE:
            stack.close()
            yield stack.enter_context(_open_ffmpeg(path, header, MAX_RATE))
            return
        remarks: list[str] = []
        mixer = _Mixer(_weights(channels, mask), remarks)

        def blocks() -> Iterator[np.ndarray]:
            length = 0
            for block in _pipe_blocks(decoder.stdout, channels):
                length += len(block)
                if length > MAX_SECONDS * found_rate:
                    raise InputError(f"{path}: lasts longer than {MAX_SECONDS // 3600} hours; cut it")
                yield mixer(block)
            mixer.end()
            remarks.extend(_remarks(path, header, length / found_rate, *decoder.end()))

        yield OpenedSound(found_rate, min(channels, 2), blocks(), remarks)


def _read_wav_header(pipe: WatchedPipe) -> tuple[int, int, int] | None:
    """Read up to the first sample. Returns (rate, channels, mask of positions or 0), None where there is no header."""
    if pipe.read(12)[:4] != b"RIFF":
        return None
    layout = None
    while len(head := pipe.read(8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            return layout
        body = pipe.read(size + size % 2)
        if name == b"fmt ":
            extensible = body[:2] == b"\xfe\xff" and len(body) >= 24
            mask = int.from_bytes(body[20:24], "little") if extensible else 0
            layout = int.from_bytes(body[4:8], "little"), int.from_bytes(body[2:4], "little"), mask
    return None


def _pipe_blocks(pipe: WatchedPipe, channels: int) -> Iterator[np.ndarray]:
    width = 4 * channels
    rest = b""
    while data := pipe.read(max(_BLOCK_SAMPLES // channels, 1) * width):
        data = rest + data
        whole = len(data) // width * width
        rest = data[whole:]
        if whole:
            yield np.frombuffer(data[:whole], dtype="<f4").reshape(-1, channels)


def _weights(channels: int, mask: int) -> np.ndarray | None:
    """Weights (channels, 2) of the way to stereo; None for mono and stereo, which stay as they are.

    Channels whose positions are not known are averaged. Each side's weights sum to 1 at most, so nothing is clipped.
    """
    if channels <= 2:
        return None
    positions = [bit for bit in range(32) if mask >> bit & 1]
    if len(positions) != channels or positions[-1] >= len(_POSITIONS):
        return np.full((channels, 2), 1 / channels, np.float32)
    weights = np.array([_POSITIONS[bit] for bit in positions], np.float32)
    largest = weights.sum(0).max()
    return weights / largest if largest > 0 else np.full((channels, 2), 1 / channels, np.float32)


class _Mixer:
    """Mixes more than two channels down to stereo, and notes where they cancel out."""

    def __init__(self, weights: np.ndarray | None, remarks: list[str]) -> None:
        self.weights, self.remarks = weights, remarks
        self.before, self.after = 0.0, 0.0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        if self.weights is None:
            return block
        finite = np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0)
        mixed = finite @ self.weights
        self.before += float((finite.astype(np.float64) ** 2).sum(0) @ (self.weights**2).mean(1))
        self.after += float((mixed.astype(np.float64) ** 2).mean(1).sum())
        bad = ~np.isfinite(block).all(1)
        mixed[bad] = np.nan  # told where the samples are checked
        return mixed

    def end(self) -> None:
        if self.weights is not None and self.after < _CANCELLED * self.before:
            count = len(self.weights)
            self.remarks.append(f"its {count} channels cancel out when they are mixed: export the voice as mono")


def _remarks(path: Path, header: Header, seconds: float, returncode: int, log: str) -> list[str]:
    """Say what the decoder found wrong with a file of which `seconds` could be decoded."""
    stated = None if header.pictures or "Estimating duration" in log else header.seconds
    short = stated is not None and stated - seconds > max(_MISSING, 0.01 * stated)
    if short or (any(word in log for word in _CUT) and not _is_streamed_wav(path)) or _is_cut_ogg(path):
        of = f" of {stated:.2f} s" if short and stated is not None else ""
        return [f"the sound's end is missing: the file was cut off, {seconds:.2f} s{of} can be used"]
    # Joined MP3 files hold a header that is no sound; that one is no damage.
    faults = len(re.findall("Error submitting packet|Decoding error|Error while decoding", log))
    if returncode or faults > log.count("Header missing"):
        return ["parts of the sound are damaged; what can be decoded is used"]
    return []


_CUT = (
    "File ended prematurely",
    "partial file",
    "corrupt input packet",
    "filesize and duration do not match",
    "Error during demuxing",
    "Invalid PCM packet",
)


def _is_streamed_wav(path: Path) -> bool:
    """Whether a WAV file was written to a pipe: its data then states no size, or the largest that there is."""
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return False
        file.seek(12)
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                return size == 0 or size >= 0x7FFF0000
            file.seek(size + size % 2, 1)
    return False


def _is_cut_ogg(path: Path) -> bool:
    """Whether an Ogg file lacks the mark of its end."""
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return False
        file.seek(max(0, path.stat().st_size - (1 << 17)))
        tail = file.read()
    last = tail.rfind(b"OggS")
    if last < 0 or len(tail) < last + 27:
        return True
    segments = tail[last + 26]
    body = sum(tail[last + 27 : last + 27 + segments])
    return not tail[last + 5] & 4 or len(tail) < last + 27 + segments + body


def _may_be_sndfile(path: Path) -> bool:
    """Whether libsndfile may try a file: not what it takes for MP3, whose decoder writes to stderr."""
    with path.open("rb") as file:
        head = file.read(4)
    return len(head) == 4 and head[:3] != b"ID3" and not (head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


@contextlib.contextmanager
def _open_libsndfile(path: Path) -> Iterator[OpenedSound | None]:
    """Open a file with libsndfile; None where it knows no such format."""
    import soundfile

    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(soundfile.SoundFile(str(path)))
        except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError):
            file = None
        if file is None or file.samplerate > MAX_RATE:
            yield None
            return
        _check_layout(path, file.samplerate, file.channels)
        remarks: list[str] = []
        mixer = _Mixer(_weights(file.channels, 0), remarks)
        yield OpenedSound(file.samplerate, min(file.channels, 2), _sndfile_blocks(path, file, mixer), remarks)


def _sndfile_blocks(path: Path, file: Any, mixer: _Mixer) -> Iterator[np.ndarray]:
    import soundfile

    stated, length = file.frames, 0
    while True:
        try:
            block = file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise InputError(f"{path}: the sound is damaged ({error}); export it again") from None
        if len(block) == 0:
            break
        length += len(block)
        yield mixer(block)
    mixer.end()
    if length < stated:
        mixer.remarks.append(f"the sound's end is missing: {length} of {stated} samples can be used")


def _why_not_sound(path: Path, returncode: int, errors: str) -> str:
    if "matches no streams" in errors:
        return f"{path}: holds no sound; {TAKEN}"
    reason = end_reason(returncode, errors)
    if "Invalid data" in errors or "received no packets" in errors or "Error opening input" in errors:
        return f"{path}: not a sound file that can be read; {TAKEN}"
    return f"{path}: the sound cannot be read ({reason}); {TAKEN}"


def _check_layout(path: Path, rate: int, channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS or not 1000 <= rate <= 768_000:
        raise InputError(f"{path}: {channels} channels at {rate} Hz cannot be used; export it as 48 kHz stereo")

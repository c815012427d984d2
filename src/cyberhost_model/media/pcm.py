"""Sound from a pipe while it is being recorded: raw samples, or a WAV file whose end is not there yet."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from cyberhost_model.errors import InputError

KINDS: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
"""Kinds of samples by ffmpeg's names."""
RATES = (4_000, 384_000)
"""Lowest and highest rate of a sound that is heard live, in Hz."""
MAX_CHANNELS = 8
_BLOCK = 1 << 14  # bytes that are read at most at once
_LONGEST_HEADER = 1 << 20  # bytes of a WAV's chunks before its samples
_WAVE_KINDS = {(1, 16): "s16le", (3, 32): "f32le"}  # format tag and bits
_EXTENSIBLE = 0xFFFE


@dataclass(frozen=True)
class PcmFormat:
    """How samples lie in a stream."""

    rate: int
    """In Hz."""
    channels: int = 1
    kind: str = "s16le"
    """One of `KINDS`."""

    def blocks(self, stream: BinaryIO) -> Iterator[np.ndarray]:
        """Read samples as they come, float32 (n, channels); an incomplete last one is dropped.

        stream: buffered, so that it gives what is there (`io.BufferedReader.read1`).
        """
        rest = b""
        while data := stream.read1(_BLOCK):  # type: ignore[attr-defined]
            data = rest + data
            whole = len(data) // self.width * self.width
            rest = data[whole:]
            yield self.samples(data[:whole])

    @property
    def width(self) -> int:
        """Bytes of a sample of all channels."""
        return KINDS[self.kind].itemsize * self.channels

    def samples(self, data: bytes) -> np.ndarray:
        """Convert bytes, a multiple of `width`, to float32 (n, channels)."""
        dtype = KINDS[self.kind]
        samples = np.frombuffer(data, dtype).reshape(-1, self.channels)
        return samples.astype(np.float32) / (32768 if dtype.kind == "i" else 1)


def read_wav_header(stream: BinaryIO) -> PcmFormat:
    """Read a WAV's header from a pipe, up to its first sample; the lengths that it states are not believed.

    Raises InputError for anything but 16-bit or 32-bit float samples.
    """
    if (start := _read(stream, 12))[:4] != b"RIFF" or start[8:] != b"WAVE":
        raise InputError("standard input: is no WAV; give --rate for raw samples")
    found: PcmFormat | None = None
    left = _LONGEST_HEADER
    while True:
        name, size = struct.unpack("<4sI", _read(stream, 8))
        if name == b"data":
            break
        left -= size
        if left < 0:
            raise InputError("standard input: the WAV's header is damaged")
        body = _read(stream, size + size % 2)
        if name == b"fmt ":
            found = _parse_format(body)
    if found is None:
        raise InputError("standard input: the WAV does not say how its samples lie; it is damaged")
    return found


def _parse_format(body: bytes) -> PcmFormat:
    """Read the chunk "fmt ". Raises InputError."""
    if len(body) < 16:
        raise InputError("standard input: the WAV's header is damaged")
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
    if tag == _EXTENSIBLE and len(body) >= 26:
        (tag,) = struct.unpack("<H", body[24:26])
    if (tag, bits) not in _WAVE_KINDS or not 1 <= channels <= MAX_CHANNELS:
        raise InputError(
            f"standard input: a WAV of format {tag}, {bits} bits and {channels} channels cannot be read live; give "
            f"16-bit or 32-bit float samples, at most {MAX_CHANNELS} channels (ffmpeg -f wav -c:a pcm_s16le -)"
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(f"standard input: a rate of {rate} Hz is outside {RATES[0]}..{RATES[1]}")
    return PcmFormat(rate, channels, _WAVE_KINDS[tag, bits])


def _read(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise InputError("standard input: ends within the WAV's header" if data else "standard input: is empty")
    return data

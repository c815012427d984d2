"""A fragmented MP4 in pieces that a player can take one by one (ISO/IEC 14496-12): its header, then whole fragments."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from cyberhost_model.errors import OutputError

_BOX = struct.Struct(">I4s")  # size with this header, name
_ENDS = (b"moov", b"mdat")  # the boxes that header and fragments end with


def pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """Read a stream that `LiveWriter` writes, and yield the header and each fragment as soon as it is whole.

    Boxes before and after them, an index at the end for example, go with the next piece or are left out. Raises
    OutputError where the stream breaks off within a box.
    """
    piece = b""
    while header := stream.read(_BOX.size):
        size, name = _BOX.unpack(header) if len(header) == _BOX.size else (0, b"")
        body = stream.read(size - _BOX.size) if size >= _BOX.size else b""
        if len(header) + len(body) != size:
            raise OutputError("the video breaks off within a fragment")
        piece += header + body
        if name in _ENDS:
            yield piece
            piece = b""


def mime_type(header: bytes) -> str:
    """Name the type of a stream by its header, as a browser's MediaSource asks for it (RFC 6381): H.264 and AAC.

    Raises OutputError for another header.
    """
    start = header.find(b"avcC") + 5  # behind the name and the version: profile, constraints and level
    if start < 5 or len(header) < start + 3:
        raise OutputError("the video's header names no H.264")
    return f'video/mp4; codecs="avc1.{header[start : start + 3].hex()}, mp4a.40.2"'

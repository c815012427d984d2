"""Errors a user can cause, with the exit code of each, and the import of optional libraries.

Messages are one line: what is wrong and what to do about it.
"""

from __future__ import annotations

import importlib
import unicodedata
from typing import Any

_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that are not printed as they are: control characters (escapes of a terminal), marks that turn the
direction of writing, halves of letters (surrogates, which stand for bytes that are no text), separators of lines."""


def printable(text: str) -> str:
    r"""Write characters that a terminal would obey, or cannot show, as their codes: an escape is \x1b.

    Line breaks and tabs stay, and so do the joiners inside emoji and Persian words.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\t\u200c\u200d" or unicodedata.category(c) not in _HIDDEN else _code(c) for c in text)


def _code(letter: str) -> str:
    r"""Write a character as \x1b, \u202e or \U000e0001; of a byte that is no text (surrogateescape) the byte."""
    number = ord(letter)
    if 0xDC80 <= number <= 0xDCFF:
        number -= 0xDC00
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


class CyberHostError(Exception):
    """Base of all errors with a known cause. `exit_code` is the exit status of `cyberhost`.

    The message is `printable`: names of files in it cannot reach a terminal as escapes.
    """

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(CyberHostError):
    """A picture, sound or video that is missing, unreadable or unusable (corrupt, empty, too small, too large)."""

    exit_code = 3


class NoFaceError(InputError):
    """No face was found in the reference picture."""

    exit_code = 4


class OutputError(CyberHostError):
    """The output cannot be written: folder missing, not writable, file exists, disk full."""

    exit_code = 5


class ModelError(CyberHostError):
    """A model that is unknown, incomplete, corrupt or of another layout."""

    exit_code = 6


class NetworkError(CyberHostError):
    """Weights are not on this machine and could not be downloaded."""

    exit_code = 7


class ResourceError(CyberHostError):
    """Not enough memory, no such device, or an optional library that is not installed."""

    exit_code = 8


class TrainingError(CyberHostError):
    """Training cannot go on: empty data, NaN loss, a run that does not match its configuration."""

    exit_code = 9


class MeasureError(CyberHostError):
    """None of the metrics asked for could be computed."""

    exit_code = 10


def need(module: str, extra: str = "data") -> Any:
    """Import an optional library. Raises ResourceError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ResourceError(f"this needs the library {module}: pip install 'cyberhost[{extra}]'") from None

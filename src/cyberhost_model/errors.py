"""Errors a user can cause, with the exit code of each, and the import of optional libraries.

Messages are one line: what is wrong and what to do about it.
"""

from __future__ import annotations

import errno
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


_MEMORY_MESSAGES = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "insufficient memory",
    "failed to map segment",  # a library that does not fit into the limit of `ulimit -v`
    "can't start new thread",
    "std::bad_alloc",
    "could not create a primitive",  # oneDNN, where its code or its workspace does not fit
    # Messages of CUDA's libraries. Where their workspace does not fit, cuBLAS is not initialized and cuDNN finds no
    # engine.
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",
    "cudnn_status_alloc_failed",
    "cudnn_status_internal_error_device_allocation_failed",
    "cusolver_status_alloc_failed",
    "unable to find an engine to execute this computation",
)


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


class ExistsError(OutputError):
    """Another file took the output's name while it was made; what was made has a name beside it."""


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


class BatchError(CyberHostError):
    """Some jobs of a batch failed; the others were made."""

    exit_code = 11


class MarkError(CyberHostError):
    """A video is not what its record says."""

    exit_code = 12


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error of any library means that the machine, or the device, has too little memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's is no MemoryError
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    foreign = isinstance(error, (RuntimeError, ImportError, SystemError)) or type(error).__module__ == "cv2"
    return foreign and any(message in str(error).lower() for message in _MEMORY_MESSAGES)


def need(module: str, extra: str = "data") -> Any:
    """Import an optional library. Raises ResourceError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if lacks_memory(error):
            raise ResourceError(f"not enough memory to load the library {module}; end other programs") from None
        raise ResourceError(f"this needs the library {module}: pip install 'cyberhost[{extra}]'") from None

"""Errors a user can cause, with the exit code of each, and the import of optional libraries.

Messages are one line: what is wrong and what to do about it.
"""

from __future__ import annotations

import importlib
from typing import Any


class CyberHostError(Exception):
    """Base of all errors with a known cause. `exit_code` is the exit status of `cyberhost`."""

    exit_code = 1


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


class MarkError(CyberHostError):
    """A video is not what its record says."""

    exit_code = 11


def need(module: str, extra: str = "data") -> Any:
    """Import an optional library. Raises ResourceError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ResourceError(f"this needs the library {module}: pip install 'cyberhost[{extra}]'") from None

"""Every error a user can cause, and optional libraries: imported when they are needed, and missing in one line.

Each error carries the exit code that the command line documents (docs/user/errors.md). Messages are one line and say
what to do.
"""

from __future__ import annotations

import importlib
from typing import Any


class CyberHostError(Exception):
    """Base of all errors with a clear cause. `exit_code` is what `cyberhost` returns for it."""

    exit_code = 1


class InputError(CyberHostError):
    """A picture, sound or video that is missing, unreadable or unusable (corrupt, empty, too small, too large)."""

    exit_code = 3


class NoFaceError(InputError):
    """The reference picture shows no face that could be found."""

    exit_code = 4


class OutputError(CyberHostError):
    """The output cannot be written: folder missing, not writable, file exists, disk full."""

    exit_code = 5


class ModelError(CyberHostError):
    """A model that is unknown, incomplete, corrupt or of another layout."""

    exit_code = 6


class NetworkError(CyberHostError):
    """Weights had to be fetched and could not be."""

    exit_code = 7


class ResourceError(CyberHostError):
    """Not enough memory, or the device asked for does not exist."""

    exit_code = 8


class TrainingError(CyberHostError):
    """Training cannot go on: empty data, NaN loss, a run that does not match its configuration."""

    exit_code = 9


class MeasureError(CyberHostError):
    """None of the metrics that were asked for could be computed."""

    exit_code = 10


def need(module: str, extra: str = "data") -> Any:
    """Import an optional library. Raises ResourceError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ResourceError(f"this needs the library {module}: pip install 'cyberhost[{extra}]'") from None

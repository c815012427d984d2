"""Exit codes: one table from what ends a command to its code.

The epilog of `--help` and docs/user/errors.md show it.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import NamedTuple

from cyberhost_model import errors
from cyberhost_model.errors import printable


class ExitStatus(IntEnum):
    """What `cyberhost` returns. The numbers of the library's errors are their `exit_code`."""

    OK = 0
    ERROR = errors.CyberHostError.exit_code
    USAGE = 2
    INPUT = errors.InputError.exit_code
    NO_FACE = errors.NoFaceError.exit_code
    OUTPUT = errors.OutputError.exit_code
    MODEL = errors.ModelError.exit_code
    NETWORK = errors.NetworkError.exit_code
    RESOURCE = errors.ResourceError.exit_code
    TRAINING = errors.TrainingError.exit_code
    MEASURE = errors.MeasureError.exit_code
    BATCH = errors.BatchError.exit_code
    MARK = errors.MarkError.exit_code
    INTERRUPTED = 130
    TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that only clean-up code sees it on its way out."""


class Interrupted(BaseException):
    """Ctrl-C in a command; Typer would lose what a KeyboardInterrupt carries (`resume_hint`)."""

    def __init__(self, cause: KeyboardInterrupt) -> None:
        super().__init__()
        self.resume_hint = getattr(cause, "resume_hint", None)


class Ending(NamedTuple):
    """The errors that end with a code, subclasses included where they have no row of their own, and its meaning."""

    errors: tuple[type[BaseException], ...]
    meaning: str


ENDINGS: dict[ExitStatus, Ending] = {
    ExitStatus.OK: Ending((), "done"),
    ExitStatus.ERROR: Ending((Exception,), "an unexpected error (run again with --debug)"),
    ExitStatus.USAGE: Ending((), "wrong use of the command line"),
    ExitStatus.INPUT: Ending((errors.InputError,), "a picture, sound or video that is missing or unusable"),
    ExitStatus.NO_FACE: Ending((errors.NoFaceError,), "no face was found in the picture"),
    ExitStatus.OUTPUT: Ending(
        (errors.OutputError,), "the output cannot be written (folder, rights, exists already, disk full)"
    ),
    ExitStatus.MODEL: Ending((errors.ModelError,), "a model that is unknown, incomplete or damaged"),
    ExitStatus.NETWORK: Ending((errors.NetworkError,), "weights could not be fetched"),
    ExitStatus.RESOURCE: Ending((errors.ResourceError, MemoryError), "not enough memory, or the device does not exist"),
    ExitStatus.TRAINING: Ending((errors.TrainingError,), "training cannot go on"),
    ExitStatus.MEASURE: Ending((errors.MeasureError,), "every metric asked for was skipped"),
    ExitStatus.BATCH: Ending((errors.BatchError,), "some jobs of a batch failed"),
    ExitStatus.MARK: Ending((errors.MarkError,), "inspect: no mark was found; rerun: the frames differ"),
    ExitStatus.INTERRUPTED: Ending((KeyboardInterrupt, Interrupted), "Ctrl-C"),
    ExitStatus.TERMINATED: Ending((Terminated,), "ended by SIGTERM"),
}


def status_of(error: BaseException) -> ExitStatus:
    """Find the exit code of an error: that of the row with its class, else with its nearest base class."""
    if _lacks_libgl(error) or _memory_ended(error):
        return ExitStatus.RESOURCE
    if _unnameable(error):
        return ExitStatus.INPUT
    codes = {kind: status for status, ending in ENDINGS.items() for kind in ending.errors}
    return next((codes[kind] for kind in type(error).__mro__ if kind in codes), ExitStatus.ERROR)


def describe(error: BaseException) -> str:
    """Say in one line what ended a command, and how a video goes on that was stopped."""
    hint = getattr(error, "resume_hint", None)
    return f"{_reason(error)}; {hint}" if hint else _reason(error)


def _reason(error: BaseException) -> str:
    if isinstance(error, errors.CyberHostError):
        return " ".join(printable(str(error)).split())
    if _lacks_libgl(error):
        return (
            "OpenCV needs libGL, which this machine lacks: pip install --force-reinstall --no-deps "
            "opencv-python-headless, or install it (Debian, Ubuntu: apt-get install libgl1)"
        )
    status = status_of(error)
    if status == ExitStatus.INTERRUPTED:
        return "interrupted"
    if status == ExitStatus.TERMINATED:
        return "terminated"
    if status == ExitStatus.RESOURCE:
        return "not enough memory; end other programs, raise its limit (ulimit -v), or give a smaller --size"
    if _unnameable(error):
        return f"no file can have this name: {' '.join(printable(str(error)).split())[:300]}"
    text = " ".join(printable(str(error)).split())[:300]
    return f"unexpected {type(error).__name__}: {text} (run again with --debug for the traceback)"


def _unnameable(error: BaseException) -> bool:
    """Tell whether a name that was typed or read is longer than the disk's names, or no name at all."""
    return isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG


def _memory_ended(error: BaseException) -> bool:
    """Tell whether too little memory is behind an error that is none of ours."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    return not isinstance(error, errors.CyberHostError) and any(errors.lacks_memory(one) for one in chain)


def _lacks_libgl(error: BaseException) -> bool:
    """Tell whether OpenCV's build with windows, which insightface brings, lies over the headless one of the core."""
    return isinstance(error, ImportError) and "libGL" in str(error)


def epilog() -> str:
    r"""Write the table for `--help`, one code a line (the leading \b keeps the lines apart)."""
    rows = (f"  {int(status):>3}  {ending.meaning}" for status, ending in ENDINGS.items())
    return "\b\nExit codes:\n" + "\n".join(rows)

"""The exit codes, in one place. `docs/user/errors.md` and the epilog of `--help` come from here."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """What `cyberhost` returns. Codes 3 to 10 are the `exit_code` of the errors in `cyberhost_model.errors`."""

    OK = 0
    ERROR = 1
    USAGE = 2
    INPUT = 3
    NO_FACE = 4
    OUTPUT = 5
    MODEL = 6
    NETWORK = 7
    RESOURCE = 8
    TRAINING = 9
    MEASURE = 10
    INTERRUPTED = 130
    TERMINATED = 143


MEANING: dict[ExitStatus, str] = {
    ExitStatus.OK: "done",
    ExitStatus.ERROR: "an error nobody foresaw (run again with --debug)",
    ExitStatus.USAGE: "wrong use of the command line",
    ExitStatus.INPUT: "a picture, sound or video that is missing or unusable",
    ExitStatus.NO_FACE: "no face was found in the picture",
    ExitStatus.OUTPUT: "the output cannot be written (folder, rights, exists already, disk full)",
    ExitStatus.MODEL: "a model that is unknown, incomplete or damaged",
    ExitStatus.NETWORK: "weights had to be fetched and could not be",
    ExitStatus.RESOURCE: "not enough memory, or the device does not exist",
    ExitStatus.TRAINING: "training cannot go on",
    ExitStatus.MEASURE: "no measure that was asked for could be had",
    ExitStatus.INTERRUPTED: "Ctrl-C",
    ExitStatus.TERMINATED: "ended by SIGTERM",
}


def epilog() -> str:
    """The table for `--help`, one code a line (the leading \\b keeps the lines apart)."""
    return "\b\nExit codes:\n" + "\n".join(f"  {int(code):>3}  {text}" for code, text in MEANING.items())

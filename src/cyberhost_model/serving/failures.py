"""What is answered when something fails: a status of HTTP, a word for programs and a line for people.

No answer names a path of the server's machine. What only its owner can mend is told in general, and logged in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cyberhost_model.errors import (
    CyberHostError,
    InputError,
    ModelError,
    NetworkError,
    NoFaceError,
    OutputError,
    ResourceError,
    lacks_memory,
    printable,
)


class Failure(NamedTuple):
    """Why a request or a job failed."""

    status: int
    """Of HTTP."""
    code: str
    message: str
    param: str | None = None
    """The field of the form that is wrong."""

    def body(self) -> dict[str, Any]:
        """Make the JSON object that is answered."""
        return {"error": {"code": self.code, "message": self.message, "param": self.param}}


class RequestFailed(Exception):
    """Ends a request with a `Failure`. headers: of the answer."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = Failure(status, code, message, param)
        self.headers = dict(headers or {})


_OF_ERRORS: dict[type[CyberHostError], tuple[int, str, str | None]] = {
    NoFaceError: (422, "no_face", None),
    InputError: (422, "input", None),
    OutputError: (507, "output", "the server cannot write the video"),
    ModelError: (500, "model", "the server's model cannot be used"),
    NetworkError: (502, "network", "the server lacks weights and cannot fetch them"),
    ResourceError: (503, "resource", "the server has too little memory or room for this; give a smaller size"),
}
"""Status, code and the line to tell; None: the error's own line, which is about what the client sent."""


def failure_of(error: BaseException, names: Mapping[str, str]) -> Failure:
    """Describe an error without telling where things are on this machine.

    names: path on this machine -> what the client calls it. A line that still holds the folder of one of these paths is
    not told.
    """
    if lacks_memory(error):
        error = ResourceError()
    for kind, (status, code, line) in _OF_ERRORS.items():
        if isinstance(error, kind):
            told = line if line is not None else public_line(str(error), names)
            return Failure(status, code, told or "the picture or the sound cannot be used")
    return Failure(500, "error", f"unexpected {type(error).__name__}; the server's log says more")


def public_line(text: str, names: Mapping[str, str]) -> str | None:
    """Put the client's names in the place of paths. None where a folder of these paths is left in the line."""
    for path, name in names.items():
        text = text.replace(path, name).replace(printable(path), name)
    folders = {path.rpartition(separator)[0] for path in names for separator in "/\\" if separator in path}
    return None if any(folder in text for folder in folders) else " ".join(printable(text).split())[:500]

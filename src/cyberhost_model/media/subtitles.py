"""Files of subtitles: checked before any work, then kept as a track that a player shows or hides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cyberhost_model.errors import InputError
from cyberhost_model.media.files import check_regular

FORMATS = {".srt": "srt", ".vtt": "webvtt", ".ass": "ass"}
"""Suffix of a file -> ffmpeg's name of its format."""
_LARGEST = 1 << 24  # bytes
_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})[,.](\d{1,3})"
_CUES = {
    "srt": re.compile(rf"^[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}", re.MULTILINE),
    "webvtt": re.compile(rf"^[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}", re.MULTILINE),
    "ass": re.compile(rf"^Dialogue:[^,\n]*,[ \t]*{_TIME}[ \t]*,[ \t]*{_TIME}[ \t]*,", re.MULTILINE),
}
_BEGINS = {"srt": "", "webvtt": "WEBVTT", "ass": "[Script Info]"}
_LANGUAGE = re.compile(r"\.([a-z]{3})$")


@dataclass(frozen=True)
class Subtitles:
    """A file of subtitles that was checked."""

    path: Path
    format: str
    """"srt", "webvtt" or "ass"."""
    end: float
    """Seconds at which the last of them ends."""
    language: str | None
    """ISO 639-2, of a name such as talk.eng.srt."""


def load_subtitles(path: Path) -> Subtitles:
    """Check a file of subtitles, UTF-8. Raises InputError where it is missing, no subtitles or holds none."""
    check_regular(path, "file of subtitles", "one file (.srt, .vtt or .ass)")
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: subtitles must be a file whose name ends in .srt, .vtt or .ass")
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path}: is too large for subtitles ({path.stat().st_size >> 20} MB); give a text file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no UTF-8 text; save the subtitles as UTF-8") from None
    if "\0" in text or not text.startswith(_BEGINS[kind]):
        raise InputError(f"{path}: is no {path.suffix[1:].upper()} file; export the subtitles again")
    end = 0.0
    for cue in _CUES[kind].finditer(text):
        begins, ends = _seconds(*cue.groups()[:4]), _seconds(*cue.groups()[4:])
        if ends < begins:
            line = text.count("\n", 0, cue.start()) + 1
            raise InputError(f"{path}: line {line}: ends before it begins; mend the times")
        end = max(end, ends)
    if not end:
        raise InputError(f"{path}: holds no subtitles with times; export them again")
    return Subtitles(path, kind, end, language_of(path.name))


def language_of(name: str) -> str | None:
    """Read the language out of the name of a file of subtitles, "eng" of talk.eng.srt; None where it says none."""
    found = _LANGUAGE.search(Path(name).stem)
    return found and found[1]


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    return 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds) + float(f"0.{fraction}")

"""From a form to a job: options by their declarations, and files that are checked before they wait."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, get_args, get_type_hints

from cyberhost_model.driving.template import template_names
from cyberhost_model.errors import InputError, printable
from cyberhost_model.media.ffmpeg import check_file
from cyberhost_model.media.image import load_picture
from cyberhost_model.media.picture_formats import PICTURE_SUFFIXES
from cyberhost_model.media.sound_decoder import open_sound_file
from cyberhost_model.media.subtitles import FORMATS, language_of, load_subtitles
from cyberhost_model.options import Option, options_of
from cyberhost_model.runtime.batch_jobs import SOUNDS
from cyberhost_model.serving.failures import RequestFailed, failure_of
from cyberhost_model.serving.making import BACKGROUND, PICTURE, SOUND, SUBTITLES
from cyberhost_model.serving.settings import ServingConfig, VideoOptions

REQUIRED = (PICTURE, SOUND)
FILES = {PICTURE: PICTURE_SUFFIXES, SOUND: SOUNDS, BACKGROUND: PICTURE_SUFFIXES, SUBTITLES: tuple(FORMATS)}
"""Field of a file -> the endings that are kept; another one, which a client may choose, is left out."""
_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def read_options(form: Mapping[str, str], config: ServingConfig, kind: type = VideoOptions) -> dict[str, Any]:
    """Read the options of a video, or those of another dataclass, from texts by their names; "" is the default.

    Raises RequestFailed: 400 for a name that is no option and a value that is not allowed, 413 for one beyond the
    server's limits.
    """
    rules, hints = options_of(kind), get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, text in form.items():
        if name not in rules:
            raise _invalid(name, f"there is no option {printable(name)[:60]!r}; there are {', '.join(rules)}")
        if not text.strip():
            continue
        try:
            values[name] = _read(text.strip(), rules[name], hints[name])
            kind(**{name: values[name]})  # the bounds
        except (InputError, ValueError) as error:
            allowed = f"{name} must be {_allowed(rules[name], hints[name])}, not {printable(text)[:60]!r}"
            raise _invalid(name, str(error) if isinstance(error, InputError) else allowed) from None
    if (gesture := values.get("gesture")) is not None and gesture not in template_names():
        raise _invalid("gesture", f"gesture must be one of {', '.join(template_names())}, not {gesture[:60]!r}")
    for name, most in (("size", config.max_size), ("steps", config.max_steps)):
        if (values.get(name) or 0) > most:
            raise RequestFailed(413, "too_large", f"{name} must be at most {most} on this server", name)
    return values


def check_together(options: Mapping[str, Any], files: Collection[str], signed: bool) -> None:
    """Check that the options and the files of a form go together.

    signed: every video has to be. Raises RequestFailed.
    """
    alpha = options.get("alpha")
    backgrounds = [name for name in ("background", BACKGROUND) if name in options or name in files]
    if len(backgrounds) > 1:
        raise _invalid(BACKGROUND, f"background is a colour and {BACKGROUND} a picture: give one of them")
    if alpha and backgrounds:
        raise _invalid("alpha", f"alpha leaves the background out, and {backgrounds[0]} sets one: give one of them")
    if alpha and signed:
        raise _invalid("alpha", "this server signs its videos, and a WebM, as those with alpha are, cannot be signed")
    if options.get("loop") and "gesture" in options:
        raise _invalid("loop", "a gesture does not end where it began: give gesture or loop")
    if options.get("loop") and options.get("gestures"):
        raise _invalid("gestures", "hands that gesture do not come back to where they began: give gestures or loop")
    if "gestures" in options and "gesture" in options:
        raise _invalid("gestures", "a gesture takes the place of those of the speech: give gesture or gestures")


def _read(text: str, rule: Option, hint: Any) -> Any:
    """Read one value. Raises ValueError and InputError."""
    if rule.parse is not None:
        return rule.parse(text)
    kinds = get_args(hint) or (hint,)
    if bool in kinds:
        if text.lower() not in _SWITCH:
            raise ValueError
        return _SWITCH[text.lower()]
    if int in kinds:
        if len(text) > 20:
            raise ValueError
        return int(text)
    return float(text) if float in kinds else text


def _allowed(rule: Option, hint: Any) -> str:
    kinds = get_args(hint) or (hint,)
    if bool in kinds:
        return "true or false"
    return f"a whole number {rule.range}" if int in kinds else f"a number {rule.range}"


def _invalid(param: str, message: str) -> RequestFailed:
    return RequestFailed(400, "invalid_request", message, printable(param)[:60])


def client_name(filename: str | None, field: str) -> str:
    """Return the client's name of a file without folders, or the field's name where it has none."""
    name = PureWindowsPath(PurePosixPath(filename or "").name).name
    return printable(name)[:120] or field


def keep_file(source: BinaryIO, folder: Path, field: str, filename: str | None) -> str:
    """Copy an uploaded file into a job's folder under a name of our own; returns that name."""
    ending = Path(filename or "").suffix.lower()
    language = language_of(filename or "") if field == SUBTITLES else None
    name = field + (f".{language}" if language else "") + (ending if ending in FILES[field] else "")
    with (folder / name).open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    return name


def check_files(folder: Path, inputs: Mapping[str, str], longest: float) -> float:
    """Check the files of a job before it waits. Returns the seconds of the sound.

    longest: seconds that are allowed. Raises RequestFailed.
    """
    names = {str(folder / name): field for field, name in inputs.items()}

    def checked(field: str, check: Callable[[Path], Any]) -> Any:
        try:
            return check(folder / inputs[field])
        except InputError as error:
            failure = failure_of(error, names)
            raise RequestFailed(failure.status, failure.code, failure.message, field) from None

    for field, load in ((PICTURE, load_picture), (BACKGROUND, load_picture), (SUBTITLES, load_subtitles)):
        if field in inputs:
            checked(field, load)
    return float(checked(SOUND, lambda path: sound_seconds(path, longest)))


def sound_seconds(path: Path, longest: float) -> float:
    """Measure a sound by decoding it, and keep nothing. Raises InputError, and RequestFailed beyond `longest`."""
    check_file(path, "sound file", "one sound file")
    samples = 0
    with open_sound_file(path) as opened:
        for block in opened.blocks:
            samples += len(block)
            if samples > longest * opened.rate:
                told = f"{SOUND}: lasts longer than {longest:g} s, the most that this server takes; cut it"
                raise RequestFailed(413, "too_long", told, SOUND)
        return samples / opened.rate

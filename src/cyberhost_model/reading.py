"""Read JSON, TOML and NPZ files of anybody: bounded, checked against the types they should hold, one kind of error.

`read_json`, `read_toml` and `read_arrays` parse, `build` turns what was parsed into a dataclass. Whatever is wrong with
a file is an `Unreadable` or an OSError; who reads it says what the file should have been.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import stat
import sys
import types
import typing
import zipfile
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cyberhost_model.errors import printable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import numpy as np

StrPath = str | os.PathLike[str]
LARGEST_TEXT = 1 << 26
"""Bytes of a text file that are read unless the reader says otherwise."""
LARGEST_ARRAYS = 1 << 30
"""Bytes of an archive's arrays, unpacked."""
DEEPEST = 100
"""Lists and objects inside each other; files of this package have 6."""
LARGEST_WHOLE = 1 << 63


class Unreadable(ValueError):
    """The content of a file is not what it should be; the message is one line without the file's name."""


class TooLarge(Unreadable):
    """A file holds more than is read of one."""


def exists(path: StrPath) -> bool:
    """Return whether something lies at a path; False for a name that no file can have (300 bytes, a zero byte)."""
    return os.path.exists(path)


def is_file(path: StrPath) -> bool:
    """Return whether a regular file lies at a path; False for a name that no file can have."""
    return os.path.isfile(path)


def is_folder(path: StrPath) -> bool:
    """Return whether a folder lies at a path; False for a name that no folder can have."""
    return os.path.isdir(path)


def read_text(path: StrPath, largest: int = LARGEST_TEXT, encoding: str = "utf-8") -> str:
    """Read a text file. Raises OSError, and Unreadable for a folder, a pipe, a file that is too large or no text."""
    try:
        found = os.stat(path)
    except ValueError as error:  # a zero byte, or a name that the file system's encoding does not have
        raise Unreadable(f"no file can have this name ({error})") from None
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
        raise Unreadable("is a folder" if stat.S_ISDIR(found.st_mode) else "is no regular file")
    if found.st_size > largest:
        raise TooLarge(f"holds {found.st_size >> 20} MiB of text, at most {largest >> 20} are read")
    with open(path, "rb") as file:
        data = file.read(largest + 1)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(f"is no {encoding} text, at byte {error.start}") from None


def parse_json(text: str) -> Any:
    """Parse JSON. Raises Unreadable, also where it is nested too deeply."""
    return _parse(text, json.loads, "JSON")


def read_json(path: StrPath, largest: int = LARGEST_TEXT) -> Any:
    """Read a JSON file. Raises OSError and Unreadable."""
    return parse_json(read_text(path, largest))


def read_object(path: StrPath, largest: int = LARGEST_TEXT) -> dict[str, Any]:
    """Read a JSON file that holds one object. Raises OSError and Unreadable."""
    value = read_json(path, largest)
    if not isinstance(value, dict):
        raise Unreadable(f"holds {_kind(value)}, not an object")
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML. Raises Unreadable, also where it is nested too deeply."""
    return typing.cast(dict[str, Any], _parse(text, tomllib.loads, "TOML"))


def _parse(text: str, parser: Callable[[str], Any], kind: str) -> Any:
    """Parse a text of a `kind`. Raises Unreadable."""
    try:
        value = parser(text)
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    except ValueError as error:
        raise Unreadable(f"is no {kind}: {one_line(error)}") from None
    return _not_deep(value)


def read_toml(path: StrPath) -> dict[str, Any]:
    """Read a TOML file. Raises OSError and Unreadable."""
    return parse_toml(read_text(path, 1 << 22))


def read_arrays(path: StrPath, largest: int = LARGEST_ARRAYS) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file: numbers, switches and texts, never pickles.

    Sizes are added up, and each array's shape compared with its bytes, before anything is unpacked. Raises OSError and
    Unreadable.
    """
    with open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                if (size := sum(entry.file_size for entry in entries)) > largest:
                    raise TooLarge(f"holds {size >> 20} MiB of numbers, at most {largest >> 20} are read")
                return {entry.filename.removesuffix(".npy"): _read_array(archive, entry) for entry in entries}
        except (Unreadable, KeyboardInterrupt):
            raise
        except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds for damage
            raise Unreadable(f"is no archive of arrays: {one_line(error)}") from None


def open_file(path: StrPath) -> typing.BinaryIO:
    """Open a regular file to read. Raises OSError, and Unreadable for what would have to be waited for."""
    try:
        found = os.stat(path)
    except ValueError as error:
        raise Unreadable(f"no file can have this name ({error})") from None
    if not stat.S_ISREG(found.st_mode):
        raise Unreadable("is a folder" if stat.S_ISDIR(found.st_mode) else "is no regular file")
    return open(path, "rb")


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """Read one array of an archive, where its header tells the truth."""
    import numpy as np  # late: the command line's help answers without it

    name = printable(entry.filename)
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.hasobject or dtype.names is not None:
            raise Unreadable(f"{name} holds objects, not numbers")
        if math.prod(shape) * dtype.itemsize != entry.file_size - stream.tell():
            raise Unreadable(f"{name} has not the {shape} numbers that it says")
    with archive.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def build(kind: Any, data: Any, where: str = "") -> Any:
    """Build a dataclass from what was parsed, by the types of its fields, strictly.

    where: the place in the file, for messages. Fields may be numbers, texts, switches, lists, tuples, dictionaries with
    names, other dataclasses, `Literal`s, each also `| None`; `Any` is taken as it is. Fields without a default must be
    there. Raises Unreadable that names the place, also for what the dataclass refuses with a ValueError.
    """
    place = where or "it"
    if not isinstance(data, dict):
        raise Unreadable(f"{place} is not an object")
    hints, fields = _fields(kind)
    if unknown := sorted(str(name) for name in data if name not in fields):
        raise Unreadable(f"unknown entries in {place}: {' '.join(printable(', '.join(unknown)).split())[:200]}")
    inner = f"{where}." if where else ""
    values = {name: convert(hints[name], value, f"{inner}{name}") for name, value in data.items()}
    missing = [
        name
        for name, entry in fields.items()
        if name not in values and entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise Unreadable(f"{place} lacks {', '.join(missing)}")
    try:
        return kind(**values)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise Unreadable(f"{place} is impossible: {one_line(error)}") from None


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], dict[str, dataclasses.Field[Any]]]:
    """Return the types and the fields of a dataclass; tables have many rows of one."""
    fields = {entry.name: entry for entry in dataclasses.fields(kind) if entry.init}
    return typing.get_type_hints(kind), fields


def convert(hint: Any, value: Any, where: str) -> Any:
    """Check that a parsed value has the type `hint`, and turn lists into tuples where it says so. Raises Unreadable."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        kinds = [kind for kind in inner if kind is not types.NoneType]
        if value is None and len(kinds) < len(inner):
            return None
        return convert(kinds[0], value, where)
    if dataclasses.is_dataclass(hint):
        known = typing.cast(type, hint)
        if not isinstance(value, known):
            return build(known, value, where)
        for name, kind in _fields(known)[0].items():
            convert(kind, getattr(value, name), f"{where}.{name}")
        return value
    if origin is typing.Literal:
        if value not in inner or isinstance(value, bool):
            raise Unreadable(f"{where} must be {' or '.join(map(repr, inner))}, not {short(value)}")
        return value
    if origin is tuple:
        _check(isinstance(value, list | tuple), where, "a list", value)
        if inner[-1] is Ellipsis:
            return tuple(convert(inner[0], entry, where) for entry in value)
        if len(value) != len(inner):
            raise Unreadable(f"{where} must have {len(inner)} entries, not {len(value)}")
        return tuple(convert(kind, entry, where) for kind, entry in zip(inner, value, strict=True))
    if origin is list:
        _check(isinstance(value, list), where, "a list", value)
        return [convert(inner[0], entry, where) for entry in value]
    if origin in (dict, Mapping):
        _check(isinstance(value, dict), where, "an object", value)
        return {str(name): convert(inner[1], entry, where) for name, entry in value.items()}
    return _plain(hint, value, where)


def _plain(hint: Any, value: Any, where: str) -> Any:
    """Check a text, a switch or a number."""
    if hint is str:
        _check(isinstance(value, str), where, "a text", value)
        if any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in value):
            raise Unreadable(f"{where} holds letters that do not exist")
    elif hint is bool:
        _check(isinstance(value, bool), where, "true or false", value)
    elif hint is int:
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_WHOLE
        _check(whole, where, "a whole number", value)
    elif hint is float:
        _check(is_number(value), where, "a number", value)
    return value


def is_number(value: Any) -> bool:
    """Return whether a parsed value is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < LARGEST_WHOLE if isinstance(value, int) else math.isfinite(value)


def short(value: Any) -> str:
    """Write a parsed value in at most 40 characters, for a message; what it holds is not written out first."""
    if isinstance(value, list | tuple | dict):
        return _kind(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LARGEST_WHOLE:
        return "a number of more than 18 digits"
    text = printable(repr(value[:40] if isinstance(value, str) else value))
    return text if len(text) <= 40 else f"{text[:37]}..."


def one_line(error: BaseException) -> str:
    """Write an error's message in one line of at most 160 characters, its kind where it has none."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(printable(text).split())[:160] or type(error).__name__


def _check(right: bool, where: str, what: str, value: Any) -> None:
    if not right:
        raise Unreadable(f"{where} must be {what}, not {short(value)}")


def _kind(value: Any) -> str:
    """Name the kind of a parsed value."""
    names = {dict: "an object", list: "a list", tuple: "a list", str: "a text", bool: "a switch", type(None): "nothing"}
    return names.get(type(value), "a number")


def _not_deep(value: Any) -> Any:
    """Return what was parsed, unless it is nested so deeply that whoever walks through it would run out of stack."""
    level, depth = [value], 0
    while level := [
        inner
        for outer in level
        if isinstance(outer, list | dict)
        for inner in (outer.values() if isinstance(outer, dict) else outer)
        if isinstance(inner, list | dict)
    ]:
        depth += 1
        if depth > DEEPEST:
            raise Unreadable("is nested too deeply")
    return value

"""Seeded damage of files: of their bytes, of the values in text and archives, of their names and kinds."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Mutation = Callable[[Path, random.Random], Path | None]
"""Damages the file at a path; returns where it lies now, None for the same place."""

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**64),
    10**30,
    10**400,
    0.5,
    -0.0,
    1e308,
    -1e300,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "0",
    "nan",
    "x" * 300,
    "../../../../etc/passwd",
    "/dev/zero",
    "a\x1b[31mb\x9b2J\x07",
    "\ud800",
    "\udcff",
    "a\0b",
    "\u202eabc",
    [],
    {},
    [[]],
    [1, "a", None],
    {"a": {"b": {}}},
]
"""What a field of a text file is replaced by."""


def flip_bytes(path: Path, rng: random.Random) -> None:
    """Change up to 16 bytes, often in the header."""
    data = bytearray(path.read_bytes())
    if not data:
        return
    reach = len(data) if rng.random() < 0.6 else min(len(data), 256)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        data[rng.randrange(reach)] = rng.choice((0, 255, 127, 128, rng.randrange(256)))
    path.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    """Leave the beginning alone, or take it away."""
    data = path.read_bytes()
    at = rng.randrange(len(data) + 1)
    path.write_bytes(data[:at] if rng.random() < 0.8 else data[at:])


def splice(path: Path, rng: random.Random) -> None:
    """Put a piece of the file, zeros or noise somewhere else into it."""
    data = path.read_bytes()
    a, b, at = sorted(rng.randrange(len(data) + 1) for _ in range(2)) + [rng.randrange(len(data) + 1)]
    piece = rng.choice((data[a:b][:5000], bytes(rng.randrange(200)), rng.randbytes(rng.randrange(200))))
    path.write_bytes(data[:at] + piece + data[at if rng.random() < 0.5 else min(len(data), at + len(piece)) :])


def lie(path: Path, rng: random.Random) -> None:
    """Write a large or negative number over four or eight bytes, as lengths in headers are."""
    data = bytearray(path.read_bytes())
    if len(data) < 8:
        return
    number = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000000))
    packed = struct.pack(rng.choice("<>") + "I", number) + (b"" if rng.random() < 0.7 else b"\xff" * 4)
    at = rng.randrange(min(len(data) - 7, 512 if rng.random() < 0.6 else len(data) - 7))
    data[at : at + len(packed)] = packed
    path.write_bytes(data)


def other_kind(path: Path, rng: random.Random) -> None:
    """Put something else in the file's place: nothing, a folder, a pipe, a device, a loop, text."""
    folder = path.is_dir()
    if folder:
        for inner in path.iterdir():
            inner.unlink()
        path.rmdir()
    else:
        path.unlink()
    what = rng.randrange(7)
    if what == 0:
        path.mkdir()
    elif what == 1:
        os.mkfifo(path)
    elif what == 2:
        path.symlink_to("/dev/zero")
    elif what == 3:
        path.symlink_to(path)
    elif what == 4:
        path.write_bytes(b"")
    elif what == 5:
        path.write_text(rng.choice(("a text\n", "[" * 100_000, "{}", "\x1b[31m\n")))


def other_name(path: Path, rng: random.Random) -> Path:
    """Give the file a name that is too long, of a broken encoding or with escapes; it is asked for by that name."""
    suffix = path.suffix
    name = rng.choice(
        ("x" * 300 + suffix, "x" * 240 + suffix, "a\udcff\udc80" + suffix, "\x1b[31m\x07" + suffix, "\r\n" + suffix)
    )
    target = path.with_name(name)
    try:
        path.rename(target)
    except OSError:
        pass
    return target


def _nodes(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the places of a parsed file's values; long lists by a few of their entries."""
    found = [place] if place else []
    if isinstance(value, dict):
        for key in value:
            found += _nodes(value[key], (*place, key))
    elif isinstance(value, list):
        for index in {0, len(value) // 2, len(value) - 1} if value else ():
            found += _nodes(value[index], (*place, index))
    return found


def change_json(path: Path, rng: random.Random) -> None:
    """Replace, delete, repeat or nest values of a JSON file."""
    try:
        data = json.loads(path.read_text())
    except ValueError:
        return
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = _changed(data, rng)
    try:
        text = json.dumps(data)
    except RecursionError:  # nested twice
        return
    if rng.random() < 0.05:
        text = text.replace("0", "1e999", 1)
    path.write_text(text)


def _changed(data: Any, rng: random.Random) -> Any:
    places = _nodes(data)
    if not places or rng.random() < 0.05:
        return copy.deepcopy(rng.choice(VALUES))
    *parents, last = rng.choice(places)
    inner = data
    for key in parents:
        inner = inner[key]
    what = rng.random()
    if what < 0.6:
        inner[last] = copy.deepcopy(rng.choice(VALUES))
    elif what < 0.7:
        del inner[last]
    elif what < 0.8 and isinstance(inner, dict):
        inner[rng.choice(("unknown", "\x1b[31m", "", "a\0", "\udcff"))] = copy.deepcopy(rng.choice(VALUES))
    elif what < 0.9:
        inner[last] = [inner[last]] * rng.choice((0, 1, 2, 1000))
    else:
        nested: Any = inner[last]
        for _ in range(rng.choice((3, 150, 900))):
            nested = [nested]
        inner[last] = nested
    return data


WORDS = ("nan", "inf", "-1", "1e400", "9" * 30, "[]", '""', "true", '"\\u001b[31m"', "{a=1}", "[" * 3000, "\x1b[2J", "")
"""What a value in TOML or CSV is replaced by."""


def change_text(path: Path, rng: random.Random) -> None:
    """Replace a value behind an equals sign, a comma's cell or a line, in TOML and CSV."""
    lines = path.read_text(errors="surrogateescape").split("\n")
    at = rng.randrange(len(lines))
    wild = (
        "nan",
        "inf",
        "-1",
        "1e400",
        "9" * 30,
        "[]",
        '""',
        "true",
        '"\\u001b[31m"',
        "{a=1}",
        "[" * 3000,
        "\x1b[2J",
        "",
    )
    value, what = rng.choice(wild), rng.random()
    if "=" in lines[at] and what < 0.7:
        lines[at] = lines[at].split("=")[0] + "= " + value
    elif "," in lines[at] and what < 0.7:
        cells = lines[at].split(",")
        cells[rng.randrange(len(cells))] = value
        lines[at] = ",".join(cells)
    elif what < 0.8:
        del lines[at]
    elif what < 0.9:
        lines.insert(at, lines[rng.randrange(len(lines))])
    else:
        lines[at] = value
    path.write_text("\n".join(lines), errors="surrogateescape")


def change_arrays(path: Path, rng: random.Random) -> None:
    """Change shape, kind, values or header of an array of an .npz file, or how the archive holds it."""
    try:
        with np.load(path) as file:
            arrays: dict[str, Any] = {name: file[name] for name in file.files}
    except Exception:
        return
    name = rng.choice(sorted(arrays))
    array, what = arrays[name], rng.randrange(9)
    if what == 0:
        del arrays[name]
    elif what == 1:
        arrays[name] = array.astype(rng.choice(("U8", "S8", "c16", "i1", "f2", "M8[s]", "O")))
    elif what == 2:
        arrays[name] = array.reshape(-1) if rng.random() < 0.5 else array[..., None]
    elif what == 3:
        arrays[name] = array[:0] if array.ndim else np.zeros((0,))
    elif what == 4 and array.size and array.dtype.kind == "f":
        array = array.copy().reshape(-1)
        array[rng.randrange(array.size)] = rng.choice((np.nan, np.inf, -1e30, 5.0))
        arrays[name] = array.reshape(arrays[name].shape)
    elif what == 5:
        arrays[rng.choice(("unknown", "\x1b[31m", name + ".npy"))] = array
    elif what == 6:
        arrays[name] = np.repeat(array[None], 3, 0)
    buffer = io.BytesIO()
    with zipfile.ZipFile(
        buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    ) as archive:
        for key, value in arrays.items():
            one = io.BytesIO()
            np.lib.format.write_array(one, np.asarray(value), allow_pickle=True)
            data = one.getvalue()
            if what >= 7 and key == name:
                shape = rng.choice((b"(99999999999,)", b"(-1,)", b"(2, 2**60)", b"()", b"(" * 40 + b")" * 40))
                data = re.sub(rb"\(.*?\)", shape, data, count=1)
            archive.writestr(f"{key}.npy", data)
    path.write_bytes(buffer.getvalue())


def change_header(path: Path, rng: random.Random) -> None:
    """Change the JSON header of a safetensors file: shapes, kinds, places, names, its own length."""
    data = path.read_bytes()
    if len(data) < 8 or (size := struct.unpack("<Q", data[:8])[0]) > len(data):
        return
    try:
        header = json.loads(data[8 : 8 + size])
    except ValueError:
        return
    entry = rng.choice(sorted(header))
    what = rng.randrange(6)
    if what == 0:
        header["\x1b[31mname"] = header.pop(entry)
    elif what == 1:
        header[entry]["dtype"] = rng.choice(("F64", "I32", "BOOL", "F8_E4M3", "XX", 3))
    elif what == 2:
        header[entry]["shape"] = rng.choice(([], [1], [2**40, 2**40], [-1], "a", [0]))
    elif what == 3:
        header[entry]["data_offsets"] = rng.choice(([0, 1], [0, 2**60], [5, 1], [], None))
    elif what == 4:
        header = _changed(header, rng)
    elif header[entry].get("shape"):
        header[entry]["shape"] = [1, *header[entry]["shape"]]
    packed = json.dumps(header).encode("utf-8", "surrogatepass")
    length = rng.choice((len(packed), len(packed), len(packed), 0, 2**63, len(packed) + 7))
    path.write_bytes(struct.pack("<Q", length) + packed + data[8 + size :])


BYTES: tuple[Mutation, ...] = (flip_bytes, flip_bytes, cut, splice, lie)

"""Which files belong together: folders matched by name, single files, or a manifest.

Whatever does not fit is told, never dropped in silence.

A video's name is its path below its folder without the suffix. Its identity (who is seen: confidence intervals draw
people) is the manifest's `identity`, else the sub-folder it lies in, else its name.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.features.frames import SUFFIXES
from cyberhost_model.lab.evaluation.results import Mismatch, Paths

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus")
_WORDS = {"reference": "ground truth", "image": "picture", "audio": "sound"}
_COLUMNS = ("name", "identity", "generated", "reference", "image", "audio")

RULES = {
    "missing": "a ground truth without a generated video is left out; the numbers rest on the videos that are there",
    "extra": "a generated video without a ground truth is measured by the metrics that need none",
    "image": "a video without a reference picture takes the first frame of its ground truth; without that it has no "
    "CSIM",
    "audio": "a video without a sound file takes its own sound; without that it has no SyncC and SyncD",
    "frames": "frames are compared as far as both videos go; each video's own metrics take all its frames",
    "fps": "a generated frame is compared with the ground truth's frame on the screen in the middle of its time",
    "size": "generated frames are resized to the ground truth's size (bicubic) where pixels are compared",
    "variable_rate": "frames of a variable rate are put on a constant grid of the mean rate",
    "broken": "what can be decoded is measured; a video of which nothing can be is left out",
}


@dataclass(frozen=True)
class Item:
    """One video to measure."""

    name: str
    identity: str
    paths: Paths


def mismatch(video: str, kind: str, detail: str) -> Mismatch:
    """With the rule that holds for its kind."""
    return Mismatch(video, kind, detail, RULES[kind])


def pair(
    generated: str | os.PathLike[str],
    reference: str | os.PathLike[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    audio: str | os.PathLike[str] | None = None,
) -> tuple[list[Item], list[Mismatch]]:
    """The videos of `generated` (a video, a folder, or a manifest: .csv or .json) in the order of their names, and
    what does not fit.

    reference, images, audio: a file where `generated` is one video, else a folder, searched by the video's name; for
    pictures and sounds also by its identity. What a manifest names goes before them. Raises InputError where a path is
    not there or nothing is found.
    """
    place = Path(generated)
    if not place.exists():
        raise InputError(f"{place}: is not there; give a video, a folder of videos or a manifest (.csv, .json)")
    if place.is_dir():
        items = [Item(name, _identity(name), Paths(path)) for name, path in _by_name(place, SUFFIXES).items()]
        if not items:
            raise InputError(f"{place}: holds no videos ({', '.join(SUFFIXES)})")
    elif place.suffix.lower() in (".csv", ".json"):
        items = _manifest(place)
    else:
        items = [Item(place.stem, place.stem, Paths(place))]
    told: list[Mismatch] = []
    for role, given, suffixes in (
        ("reference", reference, SUFFIXES),
        ("image", images, PICTURES),
        ("audio", audio, SOUNDS + SUFFIXES),
    ):
        items = _attach(items, role, None if given is None else Path(given), suffixes, told)
    return sorted(items, key=lambda i: i.name), told


def _attach(
    items: Sequence[Item], role: str, place: Path | None, suffixes: Sequence[str], told: list[Mismatch]
) -> list[Item]:
    """The items with the file of `place` that belongs to each."""
    if place is None:
        return list(items)
    if not place.exists():
        raise InputError(f"{place}: is not there; check the path of the {_WORDS[role]}")
    if place.is_file():
        if len(items) > 1:
            raise InputError(
                f"{place}: is one file for {len(items)} videos; give a folder with a {_WORDS[role]} for each, or a "
                "manifest"
            )
        return [_with(items[0], role, place)]
    found = _by_name(place, suffixes)
    if not found:
        raise InputError(f"{place}: holds no {_WORDS[role]} ({', '.join(suffixes)})")
    out = []
    for item in items:
        path = (
            getattr(item.paths, role)
            or found.get(item.name)
            or (found.get(item.identity) if role != "reference" else None)
        )
        if path is None:
            told.append(
                mismatch(
                    item.name, "extra" if role == "reference" else role, f"no {_WORDS[role]} of this name in {place}"
                )
            )
        out.append(_with(item, role, path))
    if role == "reference":
        there = {item.name for item in items}
        told += [
            mismatch(name, "missing", f"no generated video of this name for {path}")
            for name, path in found.items()
            if name not in there
        ]
        if all(item.paths.reference is None for item in out):
            names = f"{items[0].name!r} there, {next(iter(found))!r} here"
            raise InputError(
                f"{place}: no name of a video is that of a generated one ({names}); rename them, or give a manifest"
            )
    return out


def _with(item: Item, role: str, path: Path | None) -> Item:
    return item if path is None else replace(item, paths=replace(item.paths, **{role: path}))


def _identity(name: str) -> str:
    return name.rsplit("/", 1)[0] if "/" in name else name


def _by_name(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Name -> file, hidden files left out. Raises InputError for two files of one name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if (
            path.suffix.lower() not in suffixes
            or any(part.startswith(".") for part in below.parts)
            or not path.is_file()
        ):
            continue
        name = below.with_suffix("").as_posix()
        if name in found:
            raise InputError(f"{folder}: {found[name].name} and {path.name} have one name; keep one of them")
        found[name] = path
    return found


def _manifest(path: Path) -> list[Item]:
    rows = _rows(path)
    if not rows:
        raise InputError(f"{path}: names no videos")
    items: dict[str, Item] = {}
    for number, row in enumerate(rows, 1):
        if unknown := [name for name in row if name not in _COLUMNS]:
            raise InputError(f"{path}: unknown column {unknown[0]!r}; there are {', '.join(_COLUMNS)}")
        values = {name: str(value).strip() for name, value in row.items() if value not in (None, "")}
        if "generated" not in values:
            raise InputError(f"{path}: row {number} has no 'generated', the video to measure")
        files = {
            role: path.parent / values[role] for role in ("generated", "reference", "image", "audio") if role in values
        }
        for file in files.values():
            if not file.is_file():
                raise InputError(
                    f"{path}: row {number} names {file}, which is not there; paths are relative to the manifest"
                )
        name = values.get("name") or Path(values["generated"]).with_suffix("").as_posix()
        if name in items:
            raise InputError(f"{path}: row {number} has the name {name!r} again; give each video its own 'name'")
        items[name] = Item(name, values.get("identity") or _identity(name), Paths(**files))
    return list(items.values())


def _rows(path: Path) -> list[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows: Iterable[Any] = json.loads(text) if path.suffix.lower() == ".json" else csv.DictReader(text.splitlines())
        rows = list(rows)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: not a manifest that can be read ({error}); give CSV with a header, or a JSON list of objects"
        ) from None
    if not all(isinstance(row, dict) and None not in row for row in rows):
        raise InputError(f"{path}: each row must be an object with the columns {', '.join(_COLUMNS)}")
    return rows

"""Find which files belong together: folders matched by name, single files, or a manifest.

Everything that does not fit becomes a `Mismatch`; nothing is dropped silently.

A video's name is its path below its folder without the suffix. Its identity (the person: confidence intervals draw
people) is the manifest's `identity`, else the sub-folder it lies in, else its name.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.results import Mismatch, VideoPaths
from cyberhost_model.media.video_reader import VIDEO_SUFFIXES
from cyberhost_model.reading import Unreadable, convert, exists, is_file, one_line, parse_json, read_text, short

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus")
_ROLE_NAMES = {"ground_truth": "ground truth", "image": "picture", "audio": "sound"}
_LONGEST = 400  # letters of a name in a message
_FILE_COLUMNS = {"generated": "generated", "reference": "ground_truth", "image": "image", "audio": "audio"}
"""Column of a manifest -> field of `VideoPaths`."""
_COLUMNS = ("name", "identity", *_FILE_COLUMNS)

MISMATCH_RULES = {
    "missing": "a ground truth without a generated video is left out; the numbers rest on the videos that are there",
    "extra": "a generated video without a ground truth is measured by the metrics that need none",
    "image": "a video without a reference picture takes the first frame of its ground truth; without that it has no "
    "CSIM",
    "audio": "a video without a sound file takes its own sound; without that it has no SyncC, SyncD and Closure",
    "frames": "frames are compared as far as both videos go; each video's own metrics take all its frames",
    "fps": "a generated frame is compared with the ground truth's frame on the screen in the middle of its time",
    "size": "generated frames are resized to the ground truth's size (bicubic) where pixels are compared",
    "variable_rate": "frames of a variable rate are put on a constant grid of the mean rate",
    "broken": "what can be decoded is measured; a video of which nothing can be is left out",
}
"""Kind of a mismatch -> what is done about it."""


@dataclass(frozen=True)
class VideoItem:
    """Name a video to measure, its person and its files."""

    name: str
    identity: str
    paths: VideoPaths


def make_mismatch(video: str, kind: str, detail: str) -> Mismatch:
    """Return a mismatch with the rule for its kind."""
    return Mismatch(video, kind, detail, MISMATCH_RULES[kind])


def pair_videos(
    generated: str | os.PathLike[str],
    ground_truth: str | os.PathLike[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    audio: str | os.PathLike[str] | None = None,
) -> tuple[list[VideoItem], list[Mismatch]]:
    """Find the videos of `generated` (a video, a folder, a manifest .csv or .json) and the files that belong to them.

    ground_truth, images, audio: a file where `generated` is one video, else a folder, searched by the video's name; for
    pictures and sounds also by its identity. Files that a manifest names take precedence. Returns the videos in the
    order of their names, and every mismatch. Raises InputError where a path does not exist or nothing is found.
    """
    path = Path(generated)
    if not exists(path):
        raise InputError(f"{path}: is not there; give a video, a folder of videos or a manifest (.csv, .json)")
    if path.is_dir():
        found = _files_by_name(path, VIDEO_SUFFIXES)
        items = [VideoItem(name, _identity_of(name), VideoPaths(file)) for name, file in found.items()]
        if not items:
            raise InputError(f"{path}: holds no videos ({', '.join(VIDEO_SUFFIXES)})")
    elif path.suffix.lower() in (".csv", ".json"):
        items = _read_manifest(path)
    else:
        items = [VideoItem(path.stem, path.stem, VideoPaths(path))]
    mismatches: list[Mismatch] = []
    for role, given, suffixes in (
        ("ground_truth", ground_truth, VIDEO_SUFFIXES),
        ("image", images, PICTURE_SUFFIXES),
        ("audio", audio, SOUND_SUFFIXES + VIDEO_SUFFIXES),
    ):
        if given is not None:
            items = _add_files(items, role, Path(given), suffixes, mismatches)
    return sorted(items, key=lambda i: i.name), mismatches


def _add_files(
    items: Sequence[VideoItem], role: str, path: Path, suffixes: Sequence[str], mismatches: list[Mismatch]
) -> list[VideoItem]:
    """Return the items with the file of `path` that belongs to each as their `role`."""
    words = _ROLE_NAMES[role]
    if not exists(path):
        raise InputError(f"{path}: is not there; check the path of the {words}")
    if path.is_file():
        if len(items) > 1:
            raise InputError(
                f"{path}: is one file for {len(items)} videos; give a folder with a {words} for each, or a manifest"
            )
        return [_with_file(items[0], role, path)]
    found = _files_by_name(path, suffixes)
    if not found:
        raise InputError(f"{path}: holds no {words} ({', '.join(suffixes)})")
    out = []
    for item in items:
        of_person = found.get(item.identity) if role != "ground_truth" else None
        file = getattr(item.paths, role) or found.get(item.name) or of_person
        if file is None:
            kind = "extra" if role == "ground_truth" else role
            mismatches.append(make_mismatch(item.name, kind, f"no {words} of this name in {path}"))
        out.append(_with_file(item, role, file))
    if role == "ground_truth":
        mismatches += _without_generated(items, found)
        if all(item.paths.ground_truth is None for item in out):
            names = f"{items[0].name!r} there, {next(iter(found))!r} here"
            raise InputError(
                f"{path}: no name of a video is that of a generated one ({names}); rename them, or give a manifest"
            )
    return out


def _without_generated(items: Sequence[VideoItem], ground_truths: Mapping[str, Path]) -> list[Mismatch]:
    names = {item.name for item in items}
    return [
        make_mismatch(name, "missing", f"no generated video of this name for {path}")
        for name, path in ground_truths.items()
        if name not in names
    ]


def _with_file(item: VideoItem, role: str, path: Path | None) -> VideoItem:
    return item if path is None else replace(item, paths=replace(item.paths, **{role: path}))


def _identity_of(name: str) -> str:
    return name.rsplit("/", 1)[0] if "/" in name else name


def _files_by_name(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Return name -> file, hidden files left out. Raises InputError for two files of one name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts)
        if path.suffix.lower() not in suffixes or hidden or not path.is_file():
            continue
        name = below.with_suffix("").as_posix()
        if name in found:
            raise InputError(f"{folder}: {found[name].name} and {path.name} have one name; keep one of them")
        found[name] = path
    return found


def _read_manifest(path: Path) -> list[VideoItem]:
    rows = _manifest_rows(path)
    if not rows:
        raise InputError(f"{path}: names no videos")
    items: dict[str, VideoItem] = {}
    for number, row in enumerate(rows, 1):
        if unknown := [name for name in row if name not in _COLUMNS]:
            raise InputError(f"{path}: unknown column {short(unknown[0])}; there are {', '.join(_COLUMNS)}")
        values = {name: _text(path, number, value) for name, value in row.items() if value not in (None, "")}
        if "generated" not in values:
            raise InputError(f"{path}: row {number} has no 'generated', the video to measure")
        files = {role: path.parent / values[column] for column, role in _FILE_COLUMNS.items() if column in values}
        for file in files.values():
            if not is_file(file):
                raise InputError(
                    f"{path}: row {number} names {str(file)[:_LONGEST]}, which is not there; paths are relative to the "
                    "manifest"
                )
        name = values.get("name") or Path(values["generated"]).with_suffix("").as_posix()
        if name in items:
            raise InputError(f"{path}: row {number} has the name {name!r} again; give each video its own 'name'")
        items[name] = VideoItem(name, values.get("identity") or _identity_of(name), VideoPaths(**files))
    return list(items.values())


def _text(path: Path, row: int, value: Any) -> str:
    """Return a column's value as text. Raises InputError for letters that no file has in its name."""
    try:
        return str(convert(str, str(value).strip(), "it"))
    except (Unreadable, ValueError) as error:  # also a whole number of thousands of digits
        raise InputError(f"{path}: row {row} cannot be read ({one_line(error)})") from None


def _manifest_rows(path: Path) -> list[Mapping[str, Any]]:
    try:
        text = read_text(path, encoding="utf-8-sig")
        rows = parse_json(text) if path.suffix.lower() == ".json" else list(csv.DictReader(text.splitlines()))
        if not isinstance(rows, list):
            raise Unreadable("is no list")
    except (OSError, Unreadable, csv.Error) as error:
        raise InputError(
            f"{path}: not a manifest that can be read ({one_line(error)}); give CSV with a header, or a JSON list of "
            "objects"
        ) from None
    if not all(isinstance(row, dict) and None not in row for row in rows):
        raise InputError(f"{path}: each row must be an object with the columns {', '.join(_COLUMNS)}")
    if any(isinstance(value, list | dict) for row in rows for value in row.values()):
        raise InputError(f"{path}: a row's columns must be texts")
    return rows

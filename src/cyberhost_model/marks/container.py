"""Tags of a container: what a video says of itself to any player, and what its inputs said of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cyberhost_model.marks.marked_files import said_by_watermark
from cyberhost_model.marks.run_code import name_of
from cyberhost_model.media.ffmpeg import ffmpeg, input_arguments

MADE_BY = "Made by CyberHost"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for media that a trained model made; C2PA and XMP use the same."""
EDITED_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""The word for media that were there before and of which a trained model made a part anew."""
KEPT = ("title", "artist", "author", "copyright", "comment", "description")
"""Tags of inputs that are kept, as a description of the new video."""
_LONGEST = 300  # characters of an input's tag that are kept


def program_version() -> str:
    """Return this program's version, "unknown" where it is not installed."""
    try:
        return version("cyberhost")
    except PackageNotFoundError:
        return "unknown"


def made_tags(inputs: Iterable[Path] = (), run: int | None = None, edited: bool = False) -> dict[str, str]:
    """Make the tags of a video that is made of `inputs`; what these said of themselves is in "description".

    run: the number of the run. edited: it is a filmed video of which a model made a part.
    """
    made, source = ("AI edited", EDITED_SOURCE_TYPE) if edited else ("AI generated", SOURCE_TYPE)
    number = "" if run is None else f" Run {name_of(run)}."
    tags = {"comment": f"{made}. {MADE_BY} {program_version()}.{number} {source}"}
    said = [f"{clean(path.name)}: {text}" for path in dict.fromkeys(inputs) if (text := _said(path))]
    if said:
        tags["description"] = "Inputs said of themselves: " + " | ".join(said)
    return tags


def _said(path: Path) -> str:
    tags = read_tags(path)
    kept = [f"{name}={clean(tags[name])}" for name in KEPT if tags.get(name)]
    if tags.get(_SOURCE):
        kept.append(f"digital source type={tags[_SOURCE]}")
    if mark := said_by_watermark(path):
        kept.append(mark)
    return "; ".join(kept)


def clean(text: str) -> str:
    """Replace what cannot be printed by spaces, and keep the first 300 characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_LONGEST]


_SOURCE = "digital_source_type"


def read_tags(path: Path) -> dict[str, str]:
    """Read the tags of a sound, video or picture file, names in small letters; none where it cannot be read.

    "digital_source_type": the last word of IPTC's address, where the file's XMP names one.
    """
    tags = _container_tags(path) or _picture_tags(path)
    if source := _source_type(path):
        tags[_SOURCE] = source
    return tags


def _container_tags(path: Path) -> dict[str, str]:
    with ffmpeg(["-v", "error", *input_arguments(path), "-f", "ffmetadata", "-"]) as reader:
        text = reader.stdout.read(1 << 20).decode(errors="replace")
    tags: dict[str, str] = {}
    for line in re.split(r"(?<!\\)\n", text):
        if line.startswith("["):  # a chapter or a stream: not the file's own
            break
        name, found, value = line.partition("=")
        if found and not line.startswith(";"):
            tags[name.lower()] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
    return tags


def _picture_tags(path: Path) -> dict[str, str]:
    from PIL import Image

    exif_names = {270: "description", 315: "artist", 33432: "copyright"}
    try:
        with Image.open(path) as picture:
            exif = picture.getexif()
            tags = {name: str(exif[number]) for number, name in exif_names.items() if exif.get(number)}
            texts = {key.lower(): value for key, value in picture.info.items() if isinstance(value, (str, bytes))}
    except Exception:  # no picture, or a damaged one: it has no tags then, and its reader says what is wrong
        return {}
    for name in KEPT:
        if name in texts:
            value = texts[name]
            tags.setdefault(name, value.decode(errors="replace") if isinstance(value, bytes) else value)
    return tags


def _source_type(path: Path) -> str | None:
    """Find IPTC's digital source type in XMP, which lies in the first megabytes as plain text."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 21)
    except OSError:
        return None
    found = re.search(
        rb"[Dd]igital[Ss]ource[Tt]ype[^A-Za-z]{1,4}[^\x00<>]{0,80}?digitalsourcetype/([A-Za-z]{3,60})", head
    )
    return found[1].decode() if found else None

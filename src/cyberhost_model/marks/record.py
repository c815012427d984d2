"""The record of a run: everything that decides about the frames of a video, as JSON beside it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cyberhost_model.errors import InputError
from cyberhost_model.marks.marked_files import said_by_watermark
from cyberhost_model.media.files import check_target, digest_of, written_whole
from cyberhost_model.reading import Unreadable, read_json

FORMAT = "cyberhost-run-1"
LIBRARIES = ("cyberhost", "torch", "diffusers", "transformers", "numpy", "opencv-python-headless", "pillow")
COMMANDS = {
    "animate": ("ref", "audio"),
    "reenact": ("ref", "driving"),
    "multimodal": ("ref", "audio"),
    "dub": ("film", "audio"),
}
"""Commands that have a record, with the inputs that each must name."""
_LARGEST = 1 << 22  # bytes of a record that is read


def record_path(video: Path) -> Path:
    """Return where the record of a video lies: beside it, with .json for its suffix."""
    return video.with_suffix(".json")


def check_record(video: Path, overwrite: bool = False) -> Path:
    """Check that the record of a video can be written; returns its path. Raises OutputError."""
    return check_target(record_path(video), (".json",), overwrite)


def make_record(
    command: str,
    arguments: Mapping[str, Any],
    inputs: Mapping[str, str],
    model: Mapping[str, Any],
    output: Mapping[str, Any],
) -> dict[str, Any]:
    """Put a record together.

    arguments: what was asked for, by name, as JSON has it. inputs: paths as they were typed, by name. model: at least
    "name" and "sha256". output: at least "file", "sha256" and "frames_sha256".
    """
    return {
        "format": FORMAT,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "arguments": dict(arguments),
        "inputs": {name: _input(Path(path)) for name, path in inputs.items()},
        "model": dict(model),
        "output": dict(output),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _input(path: Path) -> dict[str, Any]:
    """Describe an input: where it was, what it was, and which mark of this program it carried."""
    return {"path": str(path), "sha256": digest_of(path), "mark": said_by_watermark(path)}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def write_record(record: Mapping[str, Any], out: Path) -> Path:
    """Write a record whole or not at all. Raises OutputError."""
    with written_whole(out) as part:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="ascii")  # any file name, also a broken one
    return out


def read_record(path: Path) -> dict[str, Any]:
    """Read a record and check that it has what `rerun` needs. Raises InputError."""
    try:
        record = read_json(path, _LARGEST)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give the JSON file that --record wrote") from None
    except Unreadable as error:
        raise InputError(f"{path}: is no record of a run ({error}); give the file that --record wrote") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path}: is no record of a run ({FORMAT}); give the file that --record wrote")
    if record.get("command") not in COMMANDS:
        raise InputError(f"{path}: the record's command is none of {', '.join(COMMANDS)}")
    for name in ("arguments", "inputs", "model", "output"):
        if not isinstance(record.get(name), dict):
            raise InputError(f"{path}: the record has no {name}")
    entries = record["inputs"].values()
    if not all(isinstance(entry, dict) and isinstance(entry.get("path"), str) for entry in entries):
        raise InputError(f"{path}: an input of the record has no path")
    if missing := [name for name in COMMANDS[record["command"]] if name not in record["inputs"]]:
        raise InputError(f"{path}: the record does not name its {missing[0]}")
    return record


def find_inputs(record: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Find the inputs of a record, where they were or by their names in `folder`, and compare their digests.

    Raises InputError for one that is missing or has changed.
    """
    found = {}
    for name, entry in record["inputs"].items():
        places = [Path(entry["path"]), folder / Path(entry["path"]).name]
        path = next((place for place in places if place.exists()), None)
        if path is None:
            if entry.get("sha256") is None:  # a bundled template: a name, not a file
                found[name] = places[0]
                continue
            raise InputError(f"{entry['path']}: the {name} of the record is not there; bring it back")
        if entry.get("sha256") is not None and digest_of(path) != entry["sha256"]:
            raise InputError(f"{path}: is not the {name} of the record (its SHA-256 differs)")
        found[name] = path
    return found

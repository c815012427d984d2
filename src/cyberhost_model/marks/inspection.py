"""Reading the marks of a file back: watermark, Content Credentials, container tags and the record beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyberhost_model.errors import InputError
from cyberhost_model.marks.container import MADE_BY, read_tags
from cyberhost_model.marks.content_credentials import RUN_LABEL, available, read_manifests
from cyberhost_model.marks.marked_files import find_watermark
from cyberhost_model.marks.record import read_record, record_path
from cyberhost_model.marks.run_code import name_of
from cyberhost_model.marks.watermark import Detection
from cyberhost_model.media.ffmpeg import check_file
from cyberhost_model.media.files import digest_of

MADE_TYPES = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia")
"""IPTC's words for media that a trained model made, wholly or in part."""


@dataclass(frozen=True)
class Credentials:
    """What the active manifest of a file says."""

    generator: str
    signer: str
    valid: bool
    """Whether the signature holds and the file is as it was signed."""
    trusted: bool
    """Whether c2pa-python knows the signer; it is given no list of signers here."""
    source_types: tuple[str, ...]
    """Last words of the digital source types of its actions."""
    ingredients: tuple[str, ...]
    run: str | None
    """The number of the run."""


@dataclass(frozen=True)
class Inspection:
    """The marks of a file."""

    file: str
    watermark: Detection | None
    """None: the file holds no picture."""
    credentials: Credentials | None
    credentials_note: str | None
    """Why Content Credentials were not read."""
    tags: dict[str, str]
    record: str | None
    """The record beside the file, where there is one."""
    record_holds: bool
    """Whether the record is that of this very file."""
    runs: dict[str, str]
    """The number of the run by each mark that names it: "watermark", "container", "record", "credentials"."""
    made: tuple[str, ...]
    """The marks that say that a model made it: "watermark", "credentials", "container", "record"."""


def inspect_file(path: Path) -> Inspection:
    """Read the marks of a video or a picture, of this program or another. Raises InputError for a file without any."""
    check_file(path, "file", "one video or picture")
    watermark = find_watermark(path)
    tags = read_tags(path)
    credentials, note = _credentials(path)
    if watermark is None and not tags and credentials is None and note is None:
        raise InputError(f"{path}: neither a picture nor a video nor a sound that can be read")
    record = record_path(path) if record_path(path) != path and record_path(path).is_file() else None
    holds = record is not None and _record_holds(record, path)
    made = []
    if watermark is not None and watermark.found:
        made.append("watermark")
    if credentials is not None and credentials.valid and set(credentials.source_types) & set(MADE_TYPES):
        made.append("credentials")
    if MADE_BY in tags.get("comment", "") or any(kind in text for kind in MADE_TYPES for text in tags.values()):
        made.append("container")
    if holds:
        made.append("record")
    found = str(record) if record is not None else None
    runs = _runs(watermark, credentials, tags, record if holds else None)
    return Inspection(str(path), watermark, credentials, note, tags, found, holds, runs, tuple(made))


def _runs(
    watermark: Detection | None, credentials: Credentials | None, tags: dict[str, str], record: Path | None
) -> dict[str, str]:
    """Gather the number of the run as each mark has it."""
    tagged = re.search(rf"{MADE_BY} .*\bRun ([0-9a-f]{{8}})\b", tags.get("comment", ""))
    named = {
        "watermark": name_of(watermark.run) if watermark is not None and watermark.run is not None else None,
        "credentials": credentials.run if credentials is not None and credentials.valid else None,
        "container": tagged[1] if tagged else None,
        "record": read_record(record)["output"].get("run") if record is not None else None,
    }
    return {mark: str(run) for mark, run in named.items() if run is not None}


def _credentials(path: Path) -> tuple[Credentials | None, str | None]:
    if not available():
        return None, "not read: pip install 'cyberhost[c2pa]'"
    try:
        store = read_manifests(path)
    except InputError as error:
        return None, str(error)
    if store is None:
        return None, None
    active = store.get("manifests", {}).get(store.get("active_manifest"), {})
    signature = active.get("signature_info", {})
    failures = {entry.get("code") for entry in store.get("validation_status") or ()}
    generators = active.get("claim_generator_info") or [{"name": active.get("claim_generator", "unknown")}]
    return (
        Credentials(
            " ".join(filter(None, (generators[0].get("name"), generators[0].get("version")))),
            signature.get("common_name") or signature.get("issuer") or "unknown",
            store.get("validation_state") != "Invalid",
            "signingCredential.untrusted" not in failures,
            tuple(dict.fromkeys(kind.rsplit("/", 1)[-1] for kind in _source_types(active))),
            tuple(_ingredient(entry) for entry in active.get("ingredients", ())),
            next((str(a["data"]["run"]) for a in active.get("assertions", ()) if a.get("label") == RUN_LABEL), None),
        ),
        None,
    )


def _ingredient(entry: dict[str, Any]) -> str:
    said = f" ({entry['description']})" if entry.get("description") else ""
    return f"{entry.get('title', 'unnamed')}{said}"


def _source_types(manifest: dict[str, Any]) -> Iterator[str]:
    for assertion in manifest.get("assertions", ()):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            for action in assertion.get("data", {}).get("actions", ()):
                if kind := action.get("digitalSourceType"):
                    yield str(kind)


def _record_holds(record: Path, path: Path) -> bool:
    try:
        return read_record(record)["output"].get("sha256") == digest_of(path)
    except InputError:
        return False

"""Build a dataset from raw videos: finished videos are kept, an engine prepares the others, the manifest is written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cyberhost_model.errors import InputError, OutputError, need
from cyberhost_model.lab.engines import Engine
from cyberhost_model.lab.filmed.detectors import load_detector
from cyberhost_model.lab.filmed.identities import join_faces
from cyberhost_model.lab.filmed.manifest import VERSION, Reason, Row, write_manifest
from cyberhost_model.lab.filmed.prepare import (
    CLIPS,
    VIDEOS,
    Job,
    PrepareVideos,
    forget_others,
    is_finished,
    list_videos,
    load_networks,
    read_record,
)
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.lab.filmed.sound_checks import sync_weight_files
from cyberhost_model.media.files import written_whole
from cyberhost_model.reading import Unreadable, convert, one_line, read_object

DATASET_FILE = "dataset.json"
BROKEN = {
    Reason.UNDECODABLE.value,
    Reason.NO_VIDEO.value,
    Reason.TRUNCATED.value,
    Reason.DAMAGED.value,
    Reason.CRASHED.value,
}
"""Reasons that concern a whole file rather than a stretch of it."""


@dataclass
class PrepareSummary:
    """Count what a run did. skipped: (path, reason, detail) of the videos that are broken, wholly or in part."""

    videos: int
    kept: int
    accepted: int = 0
    rejected: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)


def prepare_dataset(
    videos: list[Path],
    dataset: Path,
    settings: Settings | None = None,
    workers: int = 1,
    engine: str = "local",
    address: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> PrepareSummary:
    """Turn raw videos (files, or folders searched for them) into a dataset in the folder `dataset`.

    See docs/reference/training-data.md.

    Run again it prepares what is missing: videos that are new, changed, or were unfinished when it was stopped.
    A video of more than two `prepare.PIECE` is prepared in pieces. workers: local processes; 0 works in this one.
    progress(done, all): after every video or piece. warn(line): for every broken one. Raises InputError (no video, a
    dataset made with other settings), OutputError (the disk), ResourceError (a library or Ray missing).
    """
    settings = settings or Settings()
    for library in ("av", "pyarrow", *(["ray"] if engine == "ray" else [])):
        need(library, "ray" if library == "ray" else "data")
    place = Engine(engine, workers, address)
    load_detector(settings.detector)  # so that this process, not a worker, reports an unknown or damaged one
    if settings.min_sync is not None:
        sync_weight_files()
    if settings.identity_by == "face":
        load_networks(settings.detector, settings.min_sync is not None, face=True)
    found = [Job.of(path, root) for path, root in list_videos(videos, dataset).items()]
    dataset = dataset.absolute()
    _check_settings(dataset, settings)
    summary = PrepareSummary(len(found), 0)
    jobs: list[Job] = []
    missing: list[Job] = []
    for video in found:
        own = [video] if is_finished(dataset, video, settings) else video.in_pieces()
        left = [job for job in own if not is_finished(dataset, job, settings)]
        if left:
            forget_others(dataset, own)
        summary.kept += not left
        jobs += own
        missing += left
    done = len(jobs) - len(missing)
    if progress:
        progress(done, len(jobs))
    running = place.run(PrepareVideos(dataset, settings), missing)
    try:
        for job, rows in running:
            done += 1
            broken = next((row for row in rows if row.reason in BROKEN), None)
            if broken is not None and warn:
                warn(f"{job.path}: {broken.reason}" + (f" ({broken.detail})" if broken.detail else ""))
            if progress:
                progress(done, len(jobs))
    finally:  # also after Ctrl-C: finished videos are in the manifest
        running.close()  # type: ignore[attr-defined]
        rows = collect_rows(dataset)
        if settings.identity_by == "face":
            join_faces(rows, settings.splits)
        write_manifest(dataset, rows)
    _count_rows(summary, rows, {str(job.path) for job in jobs})
    return summary


def _check_settings(dataset: Path, settings: Settings) -> None:
    """Make the folders and note the settings. Raises InputError for a dataset that was made with other settings."""
    file = dataset / DATASET_FILE
    facts = {"version": VERSION, "settings": asdict(settings), "fingerprint": settings.fingerprint()}
    try:
        for folder in (dataset, dataset / CLIPS, dataset / VIDEOS):
            folder.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            before = read_object(file)
            if before.get("fingerprint") != facts["fingerprint"]:
                old, new = convert(dict[str, Any], before.get("settings", {}), "settings"), asdict(settings)
                changed = [k for k in new if json.loads(json.dumps(new[k])) != old.get(k)] or ["version"]
                raise InputError(
                    f"{dataset}: was prepared with other settings ({', '.join(changed)}); use those, or another folder"
                )
            return
    except Unreadable as error:
        raise InputError(f"{file}: damaged ({error}); choose another folder, or delete it") from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{dataset}: cannot be used ({one_line(error)}); choose another folder") from None
    with written_whole(file) as part:
        part.write_text(json.dumps(facts, indent=2) + "\n")


def collect_rows(dataset: Path) -> list[Row]:
    """Return the rows of all finished videos, of this run and of earlier ones."""
    rows: list[Row] = []
    for record in sorted((dataset / VIDEOS).glob("*.json")):
        if not record.name.startswith(".") and (found := read_record(record)) is not None:
            rows += found[1]
    return rows


def _count_rows(summary: PrepareSummary, rows: list[Row], sources: set[str]) -> None:
    for row in rows:
        if row.source not in sources:
            continue
        if row.accepted:
            summary.accepted += 1
            summary.seconds += row.seconds
        else:
            summary.rejected += 1
            summary.reasons[row.reason or ""] += 1
            if row.reason in BROKEN:
                summary.skipped.append((row.source, row.reason or "", row.detail or ""))

"""Prepare one raw video: its clips and its rows of the manifest.

Every engine runs `process_video`; only the loaded networks are kept between videos.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cyberhost_model.config import EMBEDDED
from cyberhost_model.errors import InputError, OutputError, need, printable
from cyberhost_model.lab.engines import Work
from cyberhost_model.lab.filmed.candidates import analyse_video
from cyberhost_model.lab.filmed.clip import Networks, make_clip
from cyberhost_model.lab.filmed.detectors import load_detector, worker_device
from cyberhost_model.lab.filmed.manifest import REJECTED, Reason, Row, row_of, row_values, split_of
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.lab.filmed.sound_checks import load_sync_check
from cyberhost_model.lab.filmed.source import OpenVideo, UnusableVideo, has_sound, open_video, sound_blocks
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.media.files import written_whole
from cyberhost_model.perception.arcface import ArcFace
from cyberhost_model.reading import Unreadable, convert, exists, is_folder, read_object
from cyberhost_model.speech.level import speech_level
from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

CLIPS, VIDEOS = "clips", "videos"
VIDEO_SUFFIXES = tuple(".mp4 .m4v .mov .mkv .webm .avi .flv .ts .mts .mpg .mpeg .wmv .3gp .ogv .mxf".split())
PIECE = 300.0
"""Seconds of a piece: a video of more than two is prepared in pieces, by several processes at once."""
_MAX_MISSING = 0.5  # seconds by which a file may end before its declared length and still count as whole


@dataclass(frozen=True)
class Job:
    """Name a video to prepare, with its size (bytes) and time (nanoseconds) when it was listed."""

    path: Path
    size: int
    mtime: int
    name: str = ""
    """Its path below the folder that was given, "talks/anna.mp4": the same wherever that folder lies."""
    folder: str = ""
    """The folder of that path; the given folder's own name for a video right in it."""
    piece: int = 0
    pieces: int = 1
    """Which piece of a long video it is, and of how many; no clip goes over from one to the next."""

    @staticmethod
    def of(path: Path, root: Path | None = None) -> Job:
        """Look up a file, found below the folder `root`. Raises InputError where it does not exist."""
        try:
            stat = path.stat()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
        place = Path(os.path.abspath(path))
        above = place.parent if root is None else Path(os.path.abspath(root))
        name = place.relative_to(above)
        folder = name.parent.as_posix() if len(name.parts) > 1 else above.name
        return Job(place, stat.st_size, stat.st_mtime_ns, name.as_posix(), folder)

    def identity(self, by: str) -> str:
        """Name the identity in the video: the folder for `by` "folder", otherwise the video itself.

        It is where the video lies below the folder that was given, so that nobody changes splits when the data moves.
        Identities with one face become one when all videos are prepared (`identities.join_faces`).
        """
        return self.folder if by == "folder" else self.name[: len(self.name) - len(self.path.suffix)]

    @property
    def key(self) -> str:
        """A file name for the clips of this video: readable, and unique to its path."""
        name = re.sub(r"[^A-Za-z0-9]+", "-", self.path.stem).strip("-")[:40] or "video"
        whole = f"{name}-{hashlib.sha256(str(self.path).encode()).hexdigest()[:10]}"
        return whole if self.pieces == 1 else f"{whole}-p{self.piece:04d}"

    def in_pieces(self) -> list[Job]:
        """List the jobs of a long video; a video that is short, or that cannot be opened, is one.

        It depends on the length that the file declares alone, so that every run makes the same pieces.
        """
        try:
            with open_video(self.path) as video:
                seconds = video.declared or 0.0
        except UnusableVideo:
            return [self]
        if seconds <= 2 * PIECE:
            return [self]
        pieces = math.ceil(seconds / PIECE)
        return [replace(self, piece=piece, pieces=pieces) for piece in range(pieces)]


def record_path(dataset: Path, job: Job) -> Path:
    """Return the file that keeps the rows of a finished video."""
    return dataset / VIDEOS / f"{job.key}.json"


def part_path(dataset: Path, job: Job) -> Path:
    """Return the folder of the clips of an unfinished video."""
    return dataset / CLIPS / f".{job.key}.part"


def read_record(path: Path) -> tuple[str, list[Row]] | None:
    """Read the settings' fingerprint and the rows of a finished video; None where there is no whole record."""
    try:
        record = read_object(path, 1 << 28)
        rows = convert(list[dict[str, Any]], record.get("rows"), "rows")
        return convert(str, record.get("settings"), "settings"), [row_of(values) for values in rows]
    except (OSError, Unreadable):
        return None


def write_record(dataset: Path, job: Job, settings: Settings, rows: list[Row]) -> None:
    """Write the rows of a video, which marks it as finished. Raises OutputError."""
    with written_whole(record_path(dataset, job)) as part:
        part.write_text(json.dumps({"settings": settings.fingerprint(), "rows": [row_values(row) for row in rows]}))


def is_finished(dataset: Path, job: Job, settings: Settings) -> bool:
    """Return whether the video was finished with these settings and has not changed. A crash does not count."""
    record = read_record(record_path(dataset, job))
    if record is None or record[0] != settings.fingerprint() or not record[1]:
        return False
    first = record[1][0]
    crashed = any(row.reason == Reason.CRASHED.value for row in record[1])
    return (first.source_size, first.source_mtime) == (job.size, job.mtime) and not crashed


@functools.lru_cache(maxsize=1)
def load_networks(detector: str, sync: bool = False, face: bool = False) -> Networks:
    """Load the networks once a process.

    They run on one thread, because the engines run one video a core, and because sums on one thread are the same
    everywhere.
    """
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return Networks(
        load_detector(detector),
        Wav2Vec2Encoder.from_pretrained(EMBEDDED / "tiny" / "speech"),
        load_sync_check() if sync else None,
        _load_arcface() if face else None,
    )


def _load_arcface() -> ArcFace:
    from cyberhost_model.runtime.loading import load_arcface  # late: it loads all of a model's code

    return load_arcface(device=worker_device())


def forget_others(dataset: Path, jobs: list[Job]) -> None:
    """Remove what is there of a video under other jobs than these: it was prepared whole, or in other pieces."""
    keys = {job.key for job in jobs}
    whole = replace(jobs[0], piece=0, pieces=1).key
    for record in [*(dataset / VIDEOS).glob(f"{whole}.json"), *(dataset / VIDEOS).glob(f"{whole}-p*.json")]:
        if record.stem not in keys:
            record.unlink(missing_ok=True)
            shutil.rmtree(dataset / CLIPS / record.stem, ignore_errors=True)


def process_video(job: Job, dataset: Path, settings: Settings) -> list[Row]:
    """Prepare one video, or a piece of it: clips to DATASET/clips/KEY/, then its record to DATASET/videos/.

    Returns its rows. The clips' folder gets its name when it is whole, and the record is written last: a run that is
    killed loses this video alone. Whatever is wrong with the video becomes rows. Raises OutputError where the disk
    fails.
    """
    networks = load_networks(settings.detector, settings.min_sync is not None, settings.identity_by == "face")
    place = dataset / CLIPS / job.key
    part = part_path(dataset, job)
    try:
        record_path(dataset, job).unlink(missing_ok=True)  # its clips are about to go
        for old in (part, place):
            shutil.rmtree(old, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            rows = list(_rows(job, part, networks, settings))
        except need("av").FFmpegError as error:
            rows = [blank_row(job, settings).reject(Reason.UNDECODABLE, " ".join(str(error).split())[:200])]
        if any(row.accepted for row in rows):
            part.replace(place)
    except OSError as error:
        raise OutputError(f"{dataset}: cannot be written ({error.strerror or error}); check space and rights") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for row in rows:
        if row.accepted:
            row.video, row.labels = f"{CLIPS}/{job.key}/{row.video}", f"{CLIPS}/{job.key}/{row.labels}"
    write_record(dataset, job, settings, rows)
    return rows


@dataclass(frozen=True)
class PrepareVideos(Work[Job, list[Row]]):
    """The work of `data prepare`: every job is a video, its result the video's rows."""

    dataset: Path
    settings: Settings

    def run(self, job: Job) -> list[Row]:
        """See `process_video`."""
        return process_video(job, self.dataset, self.settings)

    def record_crash(self, job: Job, detail: str) -> list[Row]:
        """Record a video on which a process died or failed unexpectedly, as a row; the next run tries again."""
        rows = [blank_row(job, self.settings).reject(Reason.CRASHED, " ".join(detail.split())[:200])]
        write_record(self.dataset, job, self.settings, rows)
        return rows

    def clean(self, job: Job) -> None:
        """Remove the folder of an unfinished video."""
        shutil.rmtree(part_path(self.dataset, job), ignore_errors=True)


def blank_row(job: Job, settings: Settings, number: int = 0) -> Row:
    """Return a rejected row of a video without any measurement."""
    identity = job.identity(settings.identity_by)
    return Row(
        f"{job.key}/{number:04d}",
        REJECTED,
        str(job.path),
        source_size=job.size,
        source_mtime=job.mtime,
        identity=identity,
        split=split_of(identity, settings.splits),
    )


def _rows(job: Job, folder: Path, networks: Networks, settings: Settings) -> Iterator[Row]:
    """Yield the rows of a video and write its clips into `folder`."""
    numbers = itertools.count()

    def next_row(start: float | None = None, end: float | None = None) -> Row:
        row = blank_row(job, settings, next(numbers))
        row.start, row.end, row.detector = start, end, networks.detector.name
        return row

    try:
        with open_video(job.path) as video:
            begin, last = video.start + job.piece * PIECE, job.piece == job.pieces - 1
            stretch = (-math.inf if job.piece == 0 else begin, math.inf if last else begin + PIECE)
            analysis = analyse_video(video, networks.detector, settings, *stretch)
        sounding = has_sound(job.path)
    except UnusableVideo as unusable:
        yield next_row().reject(unusable.reason, unusable.detail)
        return
    errors = video.errors
    if analysis is None and job.piece:
        yield next_row().reject(Reason.TRUNCATED, f"no frame from {begin:.0f} s on")
        return
    if analysis is None:
        yield next_row().reject(Reason.UNDECODABLE, errors.first or "no frame can be decoded")
        return
    sound = _CountedSound(sound_blocks(job.path))
    level = speech_level(sound) if sounding else None
    for number, candidate in enumerate(analysis.candidates):
        row = next_row(candidate.start, candidate.end)
        if candidate.reason is not None:
            yield row.reject(candidate.reason)
        elif level is None and settings.min_speech > 0:
            yield row.reject(Reason.NO_AUDIO, "the file has no sound")
        else:
            name = f"{number:04d}"
            yield make_clip(job.path, row, candidate, analysis.size, level, networks, settings, folder, name)
    covered = analysis.end - (analysis.start if job.piece == 0 else video.start)
    missing = _missing_seconds(video, covered, sound.samples / SPEECH_RATE) if last else 0.0
    if missing > _MAX_MISSING:
        detail = f"; {errors.packets} packets could not be decoded" if errors.packets else ""
        row = next_row(analysis.end, analysis.end + missing)
        yield row.reject(Reason.TRUNCATED, f"{missing:.1f} s are missing{detail}")
    elif errors.packets and not any(c.reason is Reason.DAMAGED for c in analysis.candidates):
        yield next_row().reject(Reason.DAMAGED, f"{errors.packets} packets could not be decoded: {errors.first}")


def _missing_seconds(video: OpenVideo, covered: float, sound_seconds: float) -> float:
    """Return by how much a file, of whose pictures `covered` seconds are there, ends before its declared length."""
    return (video.declared or 0.0) - (max(covered, sound_seconds) if video.declares_longest else covered)


class _CountedSound:
    """Pass blocks of sound on and count their samples."""

    def __init__(self, blocks: Iterator[np.ndarray]) -> None:
        self.blocks, self.samples = blocks, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks:
            self.samples += len(block)
            yield block


def list_videos(paths: list[Path], dataset: Path) -> dict[Path, Path | None]:
    """List the files given, and all files with a video's suffix below the folders given, sorted, each once.

    Each with the folder that it was found below, None for a file that was given. Files inside the dataset are left out:
    its clips are videos, too. Raises InputError for a path that does not exist, a folder without videos, and a name
    that is no plain text.
    """
    made = os.path.join(os.path.abspath(dataset), "")
    found: dict[str, tuple[Path, Path | None]] = {}
    for path in paths:
        if not exists(path):
            raise InputError(f"{path}: no such video or folder; check the path")
        if is_folder(path):
            inside = [p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()]
            inside = [p for p in inside if not os.path.abspath(p).startswith(made)]
            if not inside:
                raise InputError(f"{path}: holds no video ({', '.join(VIDEO_SUFFIXES)})")
            found.update((os.path.abspath(p), (p, path)) for p in inside)
        else:
            found.setdefault(os.path.abspath(path), (path, None))
    for name in found:
        if printable(name) != name:  # the manifest holds texts, and a terminal would obey escapes
            raise InputError(f"{name}: the name is no plain text; rename it")
    return dict(found[name] for name in sorted(found))

"""One raw video -> its clips and its rows.

Every engine runs this function; it keeps nothing between videos but the loaded networks.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyberhost_model.config import EMBEDDED
from cyberhost_model.errors import InputError, OutputError, need
from cyberhost_model.lab.filmed.candidates import analyse_video
from cyberhost_model.lab.filmed.clip import Tools, make_clip
from cyberhost_model.lab.filmed.detectors import load_detector
from cyberhost_model.lab.filmed.manifest import REJECTED, Reason, Row, row_values
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.lab.filmed.source import Unusable, has_sound, open_video, sound_blocks
from cyberhost_model.lab.filmed.splits import identity_of, split_of
from cyberhost_model.lab.filmed.sync import load_judge
from cyberhost_model.media.audio import SPEECH_RATE
from cyberhost_model.media.files import written_whole
from cyberhost_model.speech.level import speech_level
from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

CLIPS, VIDEOS = "clips", "videos"
_MISSING = 0.5  # seconds by which a whole file may end before its declared length


@dataclass(frozen=True)
class Job:
    """A video to prepare, as it lay on the disk when it was listed."""

    path: Path
    size: int
    mtime: int

    @staticmethod
    def of(path: Path) -> Job:
        """Raises InputError for a file that is not there."""
        try:
            stat = path.stat()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
        return Job(Path(os.path.abspath(path)), stat.st_size, stat.st_mtime_ns)

    @property
    def key(self) -> str:
        """A file name for what is made of this video: readable, and unique to its path."""
        name = re.sub(r"[^A-Za-z0-9]+", "-", self.path.stem).strip("-")[:40] or "video"
        return f"{name}-{hashlib.sha256(str(self.path).encode()).hexdigest()[:10]}"


def record_path(dataset: Path, job: Job) -> Path:
    """Where the rows of a finished video are kept."""
    return dataset / VIDEOS / f"{job.key}.json"


def part_path(dataset: Path, job: Job) -> Path:
    """Where the clips of a video lie while it is being worked on."""
    return dataset / CLIPS / f".{job.key}.part"


def read_record(path: Path) -> tuple[str, list[Row]] | None:
    """The settings' fingerprint and the rows of a finished video; None where it is not there or not whole."""
    try:
        data = json.loads(path.read_text())
        return data["settings"], [Row(**values) for values in data["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(dataset: Path, job: Job, settings: Settings, rows: list[Row]) -> None:
    """Mark a video as finished. Raises OutputError."""
    with written_whole(record_path(dataset, job)) as part:
        part.write_text(json.dumps({"settings": settings.fingerprint(), "rows": [row_values(row) for row in rows]}))


def finished(dataset: Path, job: Job, settings: Settings) -> bool:
    """Whether the video was done with these settings and has not changed since. A crash is worth another try."""
    record = read_record(record_path(dataset, job))
    if record is None or record[0] != settings.fingerprint() or not record[1]:
        return False
    first = record[1][0]
    crashed = any(row.reason == Reason.CRASHED.value for row in record[1])
    return (first.source_size, first.source_mtime) == (job.size, job.mtime) and not crashed


@functools.lru_cache(maxsize=1)
def load_tools(detector: str, sync: bool = False) -> Tools:
    """The networks, once a process; on one thread, because the engines run one video a core (and sums on one thread
    are the same everywhere).
    """
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return Tools(
        load_detector(detector),
        Wav2Vec2Encoder.from_pretrained(EMBEDDED / "tiny" / "speech"),
        load_judge() if sync else None,
    )


def process_video(job: Job, dataset: Path, settings: Settings) -> list[Row]:
    """Prepare one video: clips to DATASET/clips/KEY/, then its record to DATASET/videos/.

    Returns its rows.

    The clips' folder gets its name when it is whole, the record is written last: a run that is killed loses this video
    alone. Whatever is wrong with the video becomes rows; OutputError is raised, because a full disk is not the video's
    fault.
    """
    tools = load_tools(settings.detector, settings.min_sync is not None)
    place = dataset / CLIPS / job.key
    part = part_path(dataset, job)
    try:
        record_path(dataset, job).unlink(missing_ok=True)  # its clips are about to go
        for old in (part, place):
            shutil.rmtree(old, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            rows = list(_rows(job, part, tools, settings))
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


def blank_row(job: Job, settings: Settings, number: int = 0) -> Row:
    """A row that knows its video alone."""
    identity = identity_of(job.path, settings.identity_by)
    return Row(
        f"{job.key}/{number:04d}",
        REJECTED,
        str(job.path),
        source_size=job.size,
        source_mtime=job.mtime,
        identity=identity,
        split=split_of(identity),
    )


def _rows(job: Job, folder: Path, tools: Tools, settings: Settings) -> Iterator[Row]:
    number = 0

    def row(start: float | None = None, end: float | None = None) -> Row:
        nonlocal number
        new = blank_row(job, settings, number)
        new.start, new.end, new.detector = start, end, tools.detector.name
        number += 1
        return new

    try:
        with open_video(job.path) as video:
            analysis = analyse_video(video, tools.detector, settings)
            declared, of_all, faults = video.declared, video.of_all, video.faults
        sounding = has_sound(job.path)
    except Unusable as unusable:
        yield row().reject(unusable.reason, unusable.detail)
        return
    if analysis is None:
        yield row().reject(Reason.UNDECODABLE, faults.words or "no frame can be decoded")
        return
    heard = _Counted(sound_blocks(job.path))
    level = speech_level(heard) if sounding else None
    for candidate in analysis.candidates:
        new = row(candidate.start, candidate.end)
        if candidate.reason is not None:
            yield new.reject(candidate.reason)
        elif level is None:
            yield new.reject(Reason.NO_AUDIO, "the file has no sound")
        else:
            name = f"{number - 1:04d}"
            yield make_clip(job.path, new, candidate, analysis.size, level, tools, settings, folder, name)
    covered = analysis.end - analysis.start
    missing = (declared or 0.0) - (max(covered, heard.samples / SPEECH_RATE) if of_all else covered)
    if missing > _MISSING:
        words = f"; {faults.packets} packets could not be decoded" if faults.packets else ""
        yield row(analysis.end, analysis.end + missing).reject(Reason.TRUNCATED, f"{missing:.1f} s are missing{words}")
    elif faults.packets and not any(c.reason is Reason.DAMAGED for c in analysis.candidates):
        yield row().reject(Reason.DAMAGED, f"{faults.packets} packets could not be decoded: {faults.words}")


class _Counted:
    """Blocks of sound, passed on and counted."""

    def __init__(self, blocks: Iterator[np.ndarray]) -> None:
        self.blocks, self.samples = blocks, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks:
            self.samples += len(block)
            yield block


def list_videos(paths: list[Path], dataset: Path) -> list[Path]:
    """The files named, and all files with a video's ending below the folders named, sorted, each once.

    Raises InputError.

    What lies in the dataset itself is left out: its clips are videos, too.
    """
    made = os.path.join(os.path.abspath(dataset), "")
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such video or folder; check the path")
        if path.is_dir():
            inside = [p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file()]
            inside = [p for p in inside if not os.path.abspath(p).startswith(made)]
            if not inside:
                raise InputError(f"{path}: holds no video ({', '.join(ENDINGS)})")
            found.update((os.path.abspath(p), p) for p in inside)
        else:
            found[os.path.abspath(path)] = path
    return [found[name] for name in sorted(found)]


ENDINGS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".flv",
    ".ts",
    ".mts",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".3gp",
    ".ogv",
    ".mxf",
)

"""Jobs on disk: a row of SQLite and a folder for each. What is said to be accepted is there after a power cut."""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cyberhost_model.errors import OutputError
from cyberhost_model.serving.failures import Failure

QUEUED, IN_PROGRESS, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"
STATUSES = (QUEUED, IN_PROGRESS, COMPLETED, FAILED)
FINISHED = (COMPLETED, FAILED)
VIDEO, VIDEO_WITH_ALPHA = "video.mp4", "video.webm"
_FOLDERS = "videos"


@dataclass(frozen=True)
class VideoJob:
    """One video that was asked for, and what became of it. Times are seconds since 1970."""

    id: str
    created: float
    inputs: dict[str, str]
    """Field of the form -> name of the file in the job's folder."""
    names: dict[str, str]
    """Field of the form -> the client's name of the file."""
    options: dict[str, Any]
    """Options that were given, by name."""
    sound_seconds: float
    status: str = QUEUED
    started: float | None = None
    finished: float | None = None
    made: dict[str, Any] = field(default_factory=dict)
    """frames, fps, size (W, H) and duration of the finished video."""
    warnings: list[str] = field(default_factory=list)
    failure: Failure | None = None

    @property
    def video(self) -> str:
        """Name of the file of its video, in the job's folder and for the client."""
        return VIDEO_WITH_ALPHA if self.options.get("alpha") else VIDEO


class JobStore:
    """All jobs in one folder, which this process alone uses. Safe to call from any thread."""

    def __init__(self, folder: Path) -> None:
        """Open a folder, made if there is none. Jobs that were being made when it was left wait again.

        Raises OutputError where it cannot be written, or another server has it.
        """
        self.folder = folder
        self._lock = threading.RLock()
        try:
            (folder / _FOLDERS).mkdir(parents=True, exist_ok=True, mode=0o700)
            self._rows = sqlite3.connect(folder / "jobs.sqlite", timeout=0, check_same_thread=False)
            self._rows.execute("PRAGMA locking_mode=EXCLUSIVE")  # held until the process ends, however that comes about
            with self._rows:
                self._rows.execute(
                    "CREATE TABLE IF NOT EXISTS jobs (number INTEGER PRIMARY KEY, id TEXT UNIQUE, status TEXT, "
                    "finished REAL, job TEXT)"
                )
                self._rows.execute("UPDATE jobs SET status = ? WHERE status = ?", (QUEUED, IN_PROGRESS))
        except sqlite3.OperationalError as error:
            reason = "another server uses it" if "locked" in str(error) else str(error)
            raise OutputError(f"{folder}: the jobs cannot be kept here ({reason}); give another --folder") from None
        except (OSError, sqlite3.DatabaseError) as error:
            raise OutputError(f"{folder}: the jobs cannot be kept here ({error}); give another --folder") from None
        self._remove_leftovers()

    def close(self) -> None:
        """Let another process have the folder."""
        with self._lock:
            self._rows.close()

    def new_folder(self) -> tuple[str, Path]:
        """Make the folder of a new job -> (its id, which nobody can guess, the folder)."""
        identity = f"video_{secrets.token_hex(16)}"
        folder = self.folder_of(identity)
        folder.mkdir(mode=0o700)
        return identity, folder

    def folder_of(self, identity: str) -> Path:
        """Name the folder of a job."""
        return self.folder / _FOLDERS / identity

    def add(self, job: VideoJob, most_waiting: int) -> bool:
        """Keep a new job, unless `most_waiting` wait already. Returns whether it was kept."""
        with self._lock, self._rows:
            if self.counts()[QUEUED] >= most_waiting:
                return False
            self._rows.execute(
                "INSERT INTO jobs (id, status, finished, job) VALUES (?, ?, ?, ?)",
                (job.id, job.status, job.finished, _to_text(job)),
            )
        return True

    def get(self, identity: str) -> VideoJob | None:
        """Read a job; None where there is none of this id."""
        with self._lock:
            row = self._rows.execute("SELECT status, job FROM jobs WHERE id = ?", (identity,)).fetchone()
        return None if row is None else _from_row(*row)

    def change(self, identity: str, **values: Any) -> None:
        """Replace fields of a job; one that was removed stays so."""
        with self._lock, self._rows:
            if (job := self.get(identity)) is not None:
                job = replace(job, **values)
                self._rows.execute(
                    "UPDATE jobs SET status = ?, finished = ?, job = ? WHERE id = ?",
                    (job.status, job.finished, _to_text(job), identity),
                )

    def next_waiting(self) -> VideoJob | None:
        """Read the job that waits longest."""
        with self._lock:
            query = "SELECT status, job FROM jobs WHERE status = ? ORDER BY number LIMIT 1"
            row = self._rows.execute(query, (QUEUED,)).fetchone()
        return None if row is None else _from_row(*row)

    def place_in_line(self, identity: str) -> int:
        """Count the waiting jobs before one."""
        query = "SELECT count(*) FROM jobs WHERE status = ? AND number < (SELECT number FROM jobs WHERE id = ?)"
        with self._lock:
            return int(self._rows.execute(query, (QUEUED, identity)).fetchone()[0])

    def counts(self) -> dict[str, int]:
        """Count the jobs of each status."""
        with self._lock:
            found: Mapping[str, int] = dict(self._rows.execute("SELECT status, count(*) FROM jobs GROUP BY status"))
        return {status: found.get(status, 0) for status in STATUSES}

    def forget(self, identity: str) -> bool:
        """Remove the row of a job; its folder stays. Returns whether there was one."""
        with self._lock, self._rows:
            return self._rows.execute("DELETE FROM jobs WHERE id = ?", (identity,)).rowcount > 0

    def remove_folder(self, identity: str) -> None:
        """Remove what a job has on disk."""
        shutil.rmtree(self.folder_of(identity), ignore_errors=True)

    def expire(self, keep_seconds: float, now: float | None = None) -> int:
        """Remove the jobs that were finished longer ago; returns how many."""
        before = (time.time() if now is None else now) - keep_seconds
        with self._lock:
            rows = self._rows.execute("SELECT id FROM jobs WHERE finished < ?", (before,)).fetchall()
        for (identity,) in rows:
            self.forget(identity)
            self.remove_folder(identity)
        return len(rows)

    def _remove_leftovers(self) -> None:
        """Remove the folders of uploads that never became jobs, and of jobs that were removed while they were made."""
        for folder in self._unknown_folders():
            shutil.rmtree(folder, ignore_errors=True)

    def _unknown_folders(self) -> Iterator[Path]:
        with self._lock:
            known = {identity for (identity,) in self._rows.execute("SELECT id FROM jobs")}
        yield from (entry for entry in (self.folder / _FOLDERS).iterdir() if entry.name not in known)


def _to_text(job: VideoJob) -> str:
    return json.dumps(asdict(job))


def _from_row(status: str, text: str) -> VideoJob:
    values = json.loads(text)
    known = {entry.name for entry in fields(VideoJob)}
    failure = values.pop("failure")
    values = {name: value for name, value in values.items() if name in known}
    return VideoJob(**{**values, "status": status}, failure=None if failure is None else Failure(*failure))

"""Read and write DATASET/manifest.parquet: one row for each candidate clip, accepted or rejected."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from zlib import crc32

from cyberhost_model.config import FPS
from cyberhost_model.errors import InputError, need
from cyberhost_model.media.files import written_whole
from cyberhost_model.reading import Unreadable, build, is_file, one_line, read_text, short

if TYPE_CHECKING:
    import pyarrow

NAME = "manifest.parquet"
VERSION = 1
_VERSION_KEY = b"cyberhost.dataset"
ACCEPTED, REJECTED = "accepted", "rejected"


class Reason(str, Enum):
    """Name why a stretch of a video is rejected. The manifest holds the value; `MEANING` explains it."""

    CUT_TOO_SHORT = "cut_too_short"
    TOO_SHORT = "too_short"
    TRANSITION = "transition"
    NO_PERSON = "no_person"
    SEVERAL_PEOPLE = "several_people"
    NO_FACE = "no_face"
    NO_HANDS = "no_hands"
    LOW_RESOLUTION = "low_resolution"
    LOW_FRAME_RATE = "low_frame_rate"
    STILL = "still"
    NO_AUDIO = "no_audio"
    SILENT = "silent"
    NO_SPEECH = "no_speech"
    OUT_OF_SYNC = "out_of_sync"
    DAMAGED = "damaged"
    TRUNCATED = "truncated"
    NO_VIDEO = "no_video"
    UNDECODABLE = "undecodable"
    CRASHED = "crashed"


MEANING: dict[Reason, str] = {
    Reason.CUT_TOO_SHORT: "a shot shorter than the shortest clip",
    Reason.TOO_SHORT: "a usable stretch of a shot (or the whole video) shorter than the shortest clip",
    Reason.TRANSITION: "a dissolve or fade between two shots",
    Reason.NO_PERSON: "nobody is there (only a detector that finds people without faces can say so)",
    Reason.SEVERAL_PEOPLE: "more than one person of a similar size",
    Reason.NO_FACE: "no face, or not in enough frames",
    Reason.NO_HANDS: "with `--crop body`: hands in too few frames",
    Reason.LOW_RESOLUTION: "the crop would have to be enlarged too much",
    Reason.LOW_FRAME_RATE: "too few different frames a second",
    Reason.STILL: "the picture does not move",
    Reason.NO_AUDIO: "no sound, or none during this stretch",
    Reason.SILENT: "the sound is below -60 dB throughout",
    Reason.NO_SPEECH: "there is sound, but too little of it is speech",
    Reason.OUT_OF_SYNC: "with --min-sync: lips and sound do not belong together, or not at the same time",
    Reason.DAMAGED: "frames that could not be decoded whole",
    Reason.TRUNCATED: "the file ends before the length it declares",
    Reason.NO_VIDEO: "a media file without a video stream",
    Reason.UNDECODABLE: "not a video file, or nothing of it can be decoded",
    Reason.CRASHED: "the process that worked on the video died; it is tried again by the next run",
}


@dataclass
class Row:
    """Describe one candidate clip. None: not known; a rejected clip is measured only up to the check that failed.

    Times are seconds on the source file's own clock (its time stamps).
    """

    clip: str
    """Name, unique in the dataset; the files begin with it."""
    status: str
    """ "accepted" or "rejected"."""
    source: str
    """Absolute path of the video it comes from, or "synth"."""
    reason: str | None = None
    """A `Reason`; None when accepted."""
    detail: str | None = None
    """The figure behind the reason, or the decoder's message."""
    start: float | None = None
    end: float | None = None
    source_size: int | None = None
    """Bytes; with the path and `source_mtime` it tells whether a video has changed since."""
    source_mtime: int | None = None
    """Nanoseconds."""
    source_fps: float | None = None
    """Different frames a second in this stretch."""
    frames: int | None = None
    fps: float = FPS
    width: int | None = None
    height: int | None = None
    box: list[float] | None = None
    """x0, y0, x1, y1 of the crop in pixels of the upright source frame."""
    face_share: float | None = None
    """Share of the frames with a face."""
    hands_share: float | None = None
    """Share of the frames with at least one hand."""
    left_hand_share: float | None = None
    """Share of the frames with the left hand; None in manifests that were written before there was this column."""
    right_hand_share: float | None = None
    """The same of the right hand."""
    clarity: float | None = None
    """Mean hand clarity score of the frames with a hand (conditions.hand_clarity)."""
    movement: float | None = None
    """The longer side of the thorax range, in 0..1 of the clip's width or height."""
    thorax_range: list[float] | None = None
    """x0, y0, x1, y1 of the thorax points, not enlarged, in 0..1 of the clip (section 3.3)."""
    loudness: float | None = None
    """RMS of the sound, dB of full scale."""
    speech_share: float | None = None
    """Share of the frames with speech."""
    lip_correlation: float | None = None
    """Correlation of the lips' mouth opening with the one predicted from the sound, at the best shift of three frames
    either way; low for a voice-over.

    None with a detector that does not read lips.
    """
    sync_confidence: float | None = None
    """SyncC of the clip; None where SyncNet was not run."""
    identity: str | None = None
    split: str | None = None
    """ "train" or "held_out", by the identity."""
    descriptor: list[float] | None = None
    """Identity descriptor of the face."""
    embedding: list[float] | None = None
    """ArcFace's description of the face, 512 numbers of length 1, where identities go by the face."""
    detector: str | None = None
    """Which network found the key points; "exact" for synthetic clips."""
    video: str | None = None
    """File names, relative to the dataset's folder."""
    labels: str | None = None
    reference: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the clip is in the dataset."""
        return self.status == ACCEPTED

    @property
    def seconds(self) -> float:
        """Length; 0 where it is not known."""
        return 0.0 if self.start is None or self.end is None else self.end - self.start

    def reject(self, reason: Reason, detail: str | None = None) -> Row:
        """Mark the row as rejected and return it."""
        self.status, self.reason, self.detail = REJECTED, reason.value, detail
        return self


COLUMNS = tuple(f.name for f in fields(Row))


def row_values(row: Row) -> dict[str, Any]:
    """Return column -> plain Python value."""
    return {name: getattr(row, name) for name in COLUMNS}


_TEXT = (
    "clip",
    "status",
    "reason",
    "detail",
    "source",
    "identity",
    "split",
    "detector",
    "video",
    "labels",
    "reference",
)
_WHOLE = ("source_size", "source_mtime", "frames", "width", "height")
_LISTS = ("box", "thorax_range", "descriptor", "embedding")
_LATER = (
    "left_hand_share",
    "right_hand_share",
    "embedding",
)  # columns that earlier manifests of the same version lack: null there


def schema() -> pyarrow.Schema:
    """Return the columns in order: text, int64, lists of float32, float64; null except in clip, status and source."""
    pa = need("pyarrow")

    def kind(name: str) -> Any:
        if name in _TEXT:
            return pa.string()
        if name in _WHOLE:
            return pa.int64()
        return pa.list_(pa.float32()) if name in _LISTS else pa.float64()

    columns = [pa.field(name, kind(name), nullable=name not in ("clip", "status", "source")) for name in COLUMNS]
    return pa.schema(columns, metadata={_VERSION_KEY: str(VERSION).encode()})


def write_manifest(dataset: Path, rows: Iterable[Row]) -> Path:
    """Write the rows, ordered by source and start, whole or not at all. Raises OutputError."""
    parquet = need("pyarrow.parquet")
    ordered = sorted(rows, key=lambda r: (r.source, -1.0 if r.start is None else r.start, r.clip))
    table = need("pyarrow").Table.from_pylist([row_values(r) for r in ordered], schema=schema())
    path = dataset / NAME
    with written_whole(path) as part:
        parquet.write_table(table, part, compression="zstd")
    return path


def read_table(dataset: str | os.PathLike[str], columns: Iterable[str] = COLUMNS) -> pyarrow.Table:
    """Read `columns` of the manifest as an Arrow table.

    Raises InputError where the manifest is missing, damaged, of another version or lacks a column. Columns that came
    later within a version are null where they are missing.
    """
    dataset = Path(dataset)
    path = dataset / NAME
    if not is_file(path):
        raise InputError(
            f"{dataset}: holds no {NAME}; make a dataset with `cyberhost data prepare` or `cyberhost data synth`"
        )
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    try:
        found = parquet.read_schema(path)
        columns = list(columns)
        if missing := [name for name in columns if name not in (*found.names, *_LATER)]:
            raise InputError(
                f"{path}: lacks the column {', '.join(map(repr, missing))}; prepare the dataset again, or add it "
                "(docs/reference/file-formats.md)"
            )
        version = (found.metadata or {}).get(_VERSION_KEY, b"none").decode()
        if version != str(VERSION):
            raise InputError(
                f"{path}: is of version {version}, this program reads version {VERSION}; prepare the dataset again"
            )
        wanted = schema()
        table = parquet.read_table(path, columns=[name for name in columns if name in found.names])
        for place, name in enumerate(columns):
            if name not in found.names:
                table = table.add_column(
                    place, wanted.field(name), arrow.nulls(table.num_rows, wanted.field(name).type)
                )
        return table.cast(arrow.schema([wanted.field(n) for n in columns], metadata=found.metadata))
    except InputError:
        raise
    except Exception as error:  # pyarrow raises ValueError, TypeError and its own kinds for damage
        raise InputError(f"{path}: cannot be read ({one_line(error)}); prepare the dataset again") from None


def read_manifest(dataset: str | os.PathLike[str], accepted: bool = False) -> list[Row]:
    """Read all rows, or only the accepted ones.

    Raises InputError, also where accepted rows are asked for and there are none.
    """
    table, path = read_table(dataset), Path(dataset) / NAME
    try:
        rows = [row_of(values) for values in table.to_pylist()]
    except (ValueError, TypeError, OverflowError) as error:  # also letters that do not exist
        raise InputError(f"{path}: cannot be read ({one_line(error)}); prepare the dataset again") from None
    if not accepted:
        return rows
    kept = [row for row in rows if row.accepted]
    if not kept:
        raise InputError(f"{dataset}: no clip was accepted; `cyberhost data inspect` lists the reasons")
    return kept


def row_of(values: dict[str, Any]) -> Row:
    """Make a row of column -> value; NaN is "not known". Raises Unreadable for values that no row has."""
    row: Row = build(Row, {name: None if value != value else value for name, value in values.items()})
    name = short(row.clip)
    if row.status not in (ACCEPTED, REJECTED):
        raise Unreadable(f"clip {name} is neither {ACCEPTED} nor {REJECTED}")
    sizes = (row.frames, row.width, row.height)
    if not 0 < row.fps <= 1000 or any(size is not None and not 0 <= size <= 1 << 31 for size in sizes):
        raise Unreadable(f"clip {name} has an impossible size or rate")
    if row.start is not None and row.end is not None and not row.start <= row.end:
        raise Unreadable(f"clip {name} ends before it begins")
    if row.accepted and (row.video is None or row.labels is None):
        raise Unreadable(f"clip {name} is accepted and names no files")
    return row


def accepted_rows(dataset: str | os.PathLike[str], split: str = "train") -> list[Row]:
    """Read the accepted rows of one split. Raises InputError, also where there is none."""
    rows = [r for r in read_manifest(dataset, accepted=True) if (r.split or split_of(str(r.identity))) == split]
    if not rows:
        raise InputError(f"{dataset}: no clip of split {split!r} is accepted; `cyberhost data inspect` counts them")
    return rows


def add_rows(dataset: Path, rows: Iterable[Row]) -> Path:
    """Add rows to the manifest; those of the same clip are replaced."""
    new = list(rows)
    names = {row.clip for row in new}
    old = read_manifest(dataset) if (dataset / NAME).is_file() else []
    return write_manifest(dataset, [*(row for row in old if row.clip not in names), *new])


SPLITS = ("train", "held_out")


def split_of(identity: str, given: Mapping[str, str] | None = None) -> str:
    """Return the split of an identity, "train" or "held_out".

    given: splits of identities, and of folders of them, by name (`read_splits`); the others go by a hash of the name.
    """
    for name in (identity, *(str(folder) for folder in PurePosixPath(identity).parents)):
        if given and name in given:
            return given[name]
    return "held_out" if held_out(identity) else "train"


def read_splits(path: Path) -> dict[str, str]:
    """Read a split file: lines "NAME,train" or "NAME,held_out".

    NAME: an identity as the manifest has it, or a folder of such names. Raises InputError that names the line.
    """
    try:
        rows = list(csv.reader(read_text(path).splitlines()))
    except (OSError, Unreadable, csv.Error) as error:
        raise InputError(
            f"{path}: cannot be read ({one_line(error)}); give lines NAME,train or NAME,held_out"
        ) from None
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells == ["name", "split"]):
            continue
        if len(cells) != 2 or cells[1] not in SPLITS or not cells[0]:
            raise InputError(f"{path}, line {number}: must be NAME,train or NAME,held_out")
        if found.setdefault(cells[0], cells[1]) != cells[1]:
            raise InputError(f"{path}, line {number}: {cells[0]} has another split above")
    return found


def held_out(name: str) -> bool:
    """Return whether the identity or speaker called `name` is kept out of training: a tenth, by a hash of the name."""
    return crc32(name.encode()) % 10 == 0

"""DATASET/manifest.parquet: one row a candidate clip, accepted or rejected."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, OutputError
from ..optional import need
from .rows import COLUMNS, VERSION, Row, row_values

if TYPE_CHECKING:
    import pyarrow

NAME = "manifest.parquet"
_VERSION_KEY = b"cyberhost.dataset"
_TEXT = ("clip", "status", "reason", "detail", "source", "identity", "split", "detector", "video", "labels", "reference")
_WHOLE = ("source_size", "source_mtime", "frames", "width", "height")
_LISTS = ("box", "thorax_range", "descriptor")


def schema() -> pyarrow.Schema:
    """The columns in order: text, int64, lists of float32 and float64; all but clip, status and source may be null."""
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


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block ends well. Raises OutputError where the disk does not let it."""
    part = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.part{path.suffix}")  # numpy wants its own suffix
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); check space and rights") from None
    finally:
        part.unlink(missing_ok=True)


def read_table(dataset: str | os.PathLike[str], columns: Iterable[str] = COLUMNS) -> pyarrow.Table:
    """The manifest as an Arrow table of `columns`. Raises InputError when it is missing, damaged, of another version or lacks a column."""
    dataset = Path(dataset)
    path = dataset / NAME
    if not path.is_file():
        raise InputError(f"{dataset}: holds no {NAME}; make a dataset with `cyberhost data prepare` or `cyberhost data synth`")
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    try:
        found = parquet.read_schema(path)
        columns = list(columns)
        if missing := [name for name in columns if name not in found.names]:
            raise InputError(f"{path}: lacks the column {', '.join(map(repr, missing))}; prepare the dataset again, or add it (docs/data.md)")
        version = (found.metadata or {}).get(_VERSION_KEY, b"none").decode()
        if version != str(VERSION):
            raise InputError(f"{path}: is of version {version}, this program reads version {VERSION}; prepare the dataset again")
        wanted = schema()
        return parquet.read_table(path, columns=columns).cast(arrow.schema([wanted.field(n) for n in columns], metadata=found.metadata))
    except (OSError, arrow.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]}); prepare the dataset again") from None


def read_manifest(dataset: str | os.PathLike[str], accepted: bool = False) -> list[Row]:
    """All rows, or the accepted ones alone. Raises InputError, also for a dataset without one accepted clip where those are asked for."""
    rows = [Row(**values) for values in read_table(dataset).to_pylist()]
    if not accepted:
        return rows
    kept = [row for row in rows if row.accepted]
    if not kept:
        raise InputError(f"{dataset}: no clip was accepted; `cyberhost data inspect` lists the reasons")
    return kept


def add_rows(dataset: Path, rows: Iterable[Row]) -> Path:
    """Put rows into the manifest, in place of those of the same name."""
    new = list(rows)
    names = {row.clip for row in new}
    old = read_manifest(dataset) if (dataset / NAME).is_file() else []
    return write_manifest(dataset, [*(row for row in old if row.clip not in names), *new])

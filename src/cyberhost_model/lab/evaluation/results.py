"""A finished run in memory: the results, and the features behind them for those who draw."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cyberhost_model.errors import InputError, MeasureError, OutputError
from cyberhost_model.lab.evaluation.features.extractor import Features
from cyberhost_model.lab.evaluation.metric import Role, VideoValue
from cyberhost_model.media.files import written_whole

# What an evaluation yields: a value a video and measure, a summary a measure, and where they come from. Written to
# per_video.csv and summary.json.


PER_VIDEO = "per_video.csv"
SUMMARY = "summary.json"
VERSION = 1
_FIXED = ("video", "identity", "generated", "reference", "frames", "fps", "width", "height")


@dataclass(frozen=True)
class Mismatch:
    """Something that does not fit between the videos and what they are measured against, and what was done about it.

    kind: "missing" (a ground truth without a generated video), "extra" (the other way round), "frames", "fps", "size",
    "image", "audio", "broken", "variable_rate". rule: one line, the same for every mismatch of that kind.
    """

    video: str
    kind: str
    detail: str
    rule: str


@dataclass(frozen=True)
class VideoRow:
    """A video that was measured.

    `values` by measure; a measure that was skipped is not in it. Paths as they were given.
    """

    video: str
    identity: str
    generated: str
    reference: str | None
    frames: int
    fps: float
    width: int
    height: int
    values: Mapping[str, VideoValue]


@dataclass(frozen=True)
class MetricSummary:
    """One measure over all videos.

    value: None where it was skipped. ci95: bootstrap over identities; None for FID and FVD, and for fewer than two
    identities. n: videos it rests on. coverage: mean over all videos of the share of frames it rests on, 0 for one
    without a value. weights: file name -> sha256. extras: "floor" {"value", "n"} (ground truth against itself, split in
    halves), "trend" [{"videos", "n", "value"}, ...] (the value on growing subsets), "limit" (where a line in 1/N meets
    1/N = 0), "n_frames" or "n_clips", and the means of the videos' own extras ("person_rate").
    """

    name: str
    status: Literal["ok", "skipped"]
    value: float | None
    ci95: tuple[float, float] | None
    n: int
    coverage: float
    direction: Literal["up", "down"]
    unit: str
    decimals: int
    protocol: str
    weights: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    reason: str = ""
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from.

    created: UTC, ISO 8601. versions: library -> version. frames: of all generated videos that were measured. inputs:
    sha256 of every file of videos, by the path given. settings: what else decides about a value.
    """

    created: str
    command: str
    device: str
    seed: int
    videos: int
    frames: int
    seconds: float
    versions: Mapping[str, str]
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """A finished evaluation. `name`: what the method is called in a table. `metrics` in the order they are shown."""

    name: str
    metrics: tuple[MetricSummary, ...]
    videos: tuple[VideoRow, ...]
    mismatches: tuple[Mismatch, ...]
    provenance: Provenance

    def metric(self, name: str) -> MetricSummary | None:
        """The summary of a measure, if it was asked for."""
        return next((m for m in self.metrics if m.name == name), None)

    def require_a_value(self) -> None:
        """Raises MeasureError where every measure was skipped."""
        if self.metrics and all(m.status == "skipped" for m in self.metrics):
            names, first = ", ".join(m.name for m in self.metrics), self.metrics[0]
            raise MeasureError(
                f"nothing was measured, all that was asked for is skipped ({names}); {first.name}: {first.reason}"
            )


def check_folder(folder: Path) -> None:
    """Make the folder of a report, before any work, and see that it can be written to. Raises OutputError."""
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileNotFoundError:
        raise OutputError(f"{folder}: the folder {folder.parent} does not exist; create it first") from None
    except FileExistsError:
        raise OutputError(f"{folder}: is a file; give the name of a folder") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written to ({error.strerror})") from None


def write_results(results: Results, folder: Path) -> None:
    """per_video.csv and summary.json, each whole or not at all. Raises OutputError."""
    with written_whole(folder / PER_VIDEO) as part:
        part.write_text(_csv(results), encoding="utf-8", newline="")
    with written_whole(folder / SUMMARY) as part:
        part.write_text(
            json.dumps(summary_values(results), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


def summary_values(results: Results) -> dict[str, Any]:
    """What summary.json holds; numbers that are not finite are null."""
    return _finite(
        {
            "version": VERSION,
            "name": results.name,
            "metrics": {m.name: {k: v for k, v in asdict(m).items() if k != "name"} for m in results.metrics},
            "mismatches": [asdict(m) for m in results.mismatches],
            "provenance": asdict(results.provenance),
        }
    )


def read_results(folder: str | os.PathLike[str]) -> Results:
    """What `write_results` wrote; series are not kept. `folder` may also name its summary.json. Raises InputError."""
    folder = Path(folder)
    folder = folder.parent if folder.name == SUMMARY else folder
    for name in (SUMMARY, PER_VIDEO):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: holds no {name}; give a folder that `cyberhost eval ... -o REPORT` wrote")
    try:
        told = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if told["version"] != VERSION:
            raise InputError(
                f"{folder / SUMMARY}: is of version {told['version']}, this program reads version {VERSION}; evaluate "
                "again"
            )
        metrics = tuple(
            MetricSummary(name=name, **{**values, "ci95": _pair(values["ci95"])})
            for name, values in told["metrics"].items()
        )
        mismatches = tuple(Mismatch(**values) for values in told["mismatches"])
        provenance = Provenance(**told["provenance"])
        with (folder / PER_VIDEO).open(encoding="utf-8", newline="") as file:
            videos = tuple(
                _row(values, [m.name for m in metrics if m.status == "ok"]) for values in csv.DictReader(file)
            )
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{folder}: the report cannot be read ({type(error).__name__}: {error}); evaluate again"
        ) from None
    return Results(told["name"], metrics, videos, mismatches, provenance)


def _csv(results: Results) -> str:
    """A row a video; columns MEASURE, MEASURE.coverage, MEASURE.reason and MEASURE.extra.

    What is not there is empty.
    """
    columns: dict[str, None] = dict.fromkeys(_FIXED)
    rows = []
    for video in results.videos:
        row = {name: _text(getattr(video, name)) for name in _FIXED}
        for name, value in video.values.items():
            row |= {name: _text(value.value), f"{name}.coverage": _text(value.coverage), f"{name}.reason": value.reason}
            row |= {f"{name}.{extra}": _text(number) for extra, number in value.extras.items()}
        columns |= dict.fromkeys(row)
        rows.append(row)
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _row(values: dict[str, str], measures: list[str]) -> VideoRow:
    found = {}
    for name in measures:
        if not values.get(f"{name}.coverage"):
            continue
        kept = (name, f"{name}.coverage", f"{name}.reason")
        extras = {
            k[len(name) + 1 :]: float(v) for k, v in values.items() if k.startswith(f"{name}.") and k not in kept and v
        }
        found[name] = VideoValue(
            _number(values[name]), float(values[f"{name}.coverage"]), extras, values[f"{name}.reason"]
        )
    return VideoRow(
        values["video"],
        values["identity"],
        values["generated"],
        values["reference"] or None,
        int(values["frames"]),
        float(values["fps"]),
        int(values["width"]),
        int(values["height"]),
        found,
    )


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)


def _number(text: str) -> float:
    return float(text) if text else math.nan


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return (values[0], values[1]) if values else None


def _finite(value: Any) -> Any:
    """The same with None for numbers JSON does not have."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True)
class Paths:
    """The files of one video: what was generated, and what it is measured against where there is something."""

    generated: Path
    reference: Path | None = None
    image: Path | None = None
    audio: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """`results` is all that is written; `paths` by video.

    `features(video, role, extractor name)` reads what an extractor made of a video from the cache, memory-mapped; None
    where it was not used.
    """

    results: Results
    paths: Mapping[str, Paths]
    features: Callable[[str, Role, str], Features | None]

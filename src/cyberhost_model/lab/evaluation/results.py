"""Hold the results of an evaluation: a value for each video and measure, a summary for each measure, their provenance.

They are written to per_video.csv and summary.json.
"""

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
from cyberhost_model.reading import build, is_file, one_line, read_object, read_text, short

PER_VIDEO_FILE = "per_video.csv"
_MORE = ""  # name that `csv` gives to the values of a row behind those of the columns
SUMMARY_FILE = "summary.json"
TRUTH_FOLDER = "ground_truth"
"""Folder within a report with the results of the ground truth itself."""
VERSION = 1
_FIXED = {
    "video": "video",
    "identity": "identity",
    "generated": "generated",
    "reference": "ground_truth",
    "frames": "frames",
    "fps": "fps",
    "width": "width",
    "height": "height",
}
"""Column of per_video.csv -> field of `VideoRow`."""


@dataclass(frozen=True)
class VideoPaths:
    """Name the files of one video: the generated one, and where given its ground truth, reference picture, sound."""

    generated: Path
    ground_truth: Path | None = None
    image: Path | None = None
    audio: Path | None = None


@dataclass(frozen=True)
class Mismatch:
    """Describe what does not fit between a video and its ground truth, picture or sound, and what was done about it.

    kind: "missing" (a ground truth without a generated video), "extra" (the other way round), "frames", "fps", "size",
    "image", "audio", "broken", "variable_rate". rule: one line, the same for every mismatch of that kind.
    """

    video: str
    kind: str
    detail: str
    rule: str


@dataclass(frozen=True)
class VideoRow:
    """Hold the values of a measured video.

    values: by measure, without those that were skipped. Paths are as they were given.
    """

    video: str
    identity: str
    generated: str
    ground_truth: str | None
    frames: int
    fps: float
    width: int
    height: int
    values: Mapping[str, VideoValue]


@dataclass(frozen=True)
class MetricSummary:
    """Summarise one measure over all videos.

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
    """Say where the numbers come from.

    created: UTC, ISO 8601. versions: library -> version. frames: of all generated videos that were measured. inputs:
    sha256 of every file that was read, by the path given. settings: whatever else decides about a value.
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
    """Hold a finished evaluation.

    name: what the method is called in a table. metrics: in the order they are shown.
    """

    name: str
    metrics: tuple[MetricSummary, ...]
    videos: tuple[VideoRow, ...]
    mismatches: tuple[Mismatch, ...]
    provenance: Provenance

    def metric(self, name: str) -> MetricSummary | None:
        """Return the summary of a measure; None where it was not asked for."""
        return next((m for m in self.metrics if m.name == name), None)

    def require_a_value(self) -> None:
        """Raise MeasureError where every measure was skipped."""
        if self.metrics and all(m.status == "skipped" for m in self.metrics):
            names, first = ", ".join(m.name for m in self.metrics), self.metrics[0]
            raise MeasureError(
                f"nothing was measured, all that was asked for is skipped ({names}); {first.name}: {first.reason}"
            )


@dataclass(frozen=True)
class Evaluation:
    """Hold the results of a run with the files and features behind them, from which the report is drawn.

    paths: by video. features(video, role, extractor name): reads the features of a video from the cache,
    memory-mapped; None where the extractor was not used. truth: the ground truth measured as if it had been generated,
    where that was asked for.
    """

    results: Results
    paths: Mapping[str, VideoPaths]
    features: Callable[[str, Role, str], Features | None]
    truth: Results | None = None


def check_folder(folder: Path) -> None:
    """Make the folder of a report and check that it can be written to. Raises OutputError."""
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


def write_text(path: Path, text: str, overwrite: bool = True) -> Path:
    """Write a text file, whole or not at all. Raises OutputError."""
    with written_whole(path, overwrite) as part:
        part.write_text(text, encoding="utf-8", newline="")
    return path


def write_results(results: Results, folder: Path) -> None:
    """Write per_video.csv and summary.json, each whole or not at all. Raises OutputError."""
    write_text(folder / PER_VIDEO_FILE, _csv(results))
    summary = json.dumps(summary_values(results), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / SUMMARY_FILE, summary + "\n")


def write_truth(truth: Results, report: Path) -> None:
    """Write the results of the ground truth itself into a report's folder. Raises OutputError."""
    folder = report / TRUTH_FOLDER
    check_folder(folder)
    write_results(truth, folder)


def read_truth(report: str | os.PathLike[str]) -> Results | None:
    """Read what `write_truth` wrote; None where nothing is. Raises InputError where it is damaged."""
    report = Path(report)
    report = report.parent if report.name == SUMMARY_FILE else report
    return read_results(report / TRUTH_FOLDER) if is_file(report / TRUTH_FOLDER / SUMMARY_FILE) else None


def summary_values(results: Results) -> dict[str, Any]:
    """Return the content of summary.json; numbers that are not finite are null."""
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
    """Read what `write_results` wrote, without series, which it does not keep.

    folder: may also name its summary.json. Raises InputError where the files are missing or damaged.
    """
    folder = Path(folder)
    folder = folder.parent if folder.name == SUMMARY_FILE else folder
    for name in (SUMMARY_FILE, PER_VIDEO_FILE):
        if not is_file(folder / name):
            raise InputError(f"{folder}: holds no {name}; give a folder that `cyberhost eval ... -o REPORT` wrote")
    try:
        saved = read_object(folder / SUMMARY_FILE)
        if saved.get("version") != VERSION:
            raise InputError(
                f"{folder / SUMMARY_FILE}: is of version {short(saved.get('version'))}, this program reads version "
                f"{VERSION}; evaluate again"
            )
        summary: _Summary = build(_Summary, saved)
        metrics = tuple(
            build(MetricSummary, {"name": name, **values}, f"metrics.{name}")
            for name, values in summary.metrics.items()
        )
        measures = [m.name for m in metrics if m.status == "ok"]
        table = io.StringIO(read_text(folder / PER_VIDEO_FILE), newline="")
        videos = tuple(_row(values, measures) for values in csv.DictReader(table, restkey=_MORE))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise InputError(f"{folder}: the report cannot be read ({one_line(error)}); evaluate again") from None
    return Results(summary.name, metrics, videos, tuple(summary.mismatches), summary.provenance)


@dataclass(frozen=True)
class _Summary:
    """Content of summary.json; the values of `metrics` are those of `MetricSummary` without their names."""

    version: int
    name: str
    metrics: dict[str, dict[str, Any]]
    mismatches: list[Mismatch]
    provenance: Provenance


def _csv(results: Results) -> str:
    """Return a row for each video with columns MEASURE, MEASURE.coverage, MEASURE.reason and MEASURE.extra.

    A value that does not exist is empty.
    """
    columns: dict[str, None] = dict.fromkeys(_FIXED)
    rows = []
    for video in results.videos:
        row = {column: _text(getattr(video, name)) for column, name in _FIXED.items()}
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
    if _MORE in values:
        raise ValueError(f"{PER_VIDEO_FILE} has a row with more values than columns")
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
    if not all(map(math.isfinite, (float(values["fps"]), *(x for v in found.values() for x in v.extras.values())))):
        raise ValueError(f"{PER_VIDEO_FILE} has numbers that are not finite")
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


def _finite(value: Any) -> Any:
    """Replace numbers that JSON does not have by None."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

"""An evaluation from end to end: files -> features -> values -> `Evaluation`."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from cyberhost_model.errors import CyberHostError, InputError
from cyberhost_model.lab.evaluation.features.cache import FeatureCache, default_cache
from cyberhost_model.lab.evaluation.features.extractor import Features
from cyberhost_model.lab.evaluation.features.library import Library, Opened, open_item
from cyberhost_model.lab.evaluation.metric import Context, Metric, Role
from cyberhost_model.lab.evaluation.pairing import Item, mismatch, pair
from cyberhost_model.lab.evaluation.protocol import METRICS, versions
from cyberhost_model.lab.evaluation.registry import Entry, builder, chosen
from cyberhost_model.lab.evaluation.results import Evaluation, MetricSummary, Mismatch, Provenance, Results
from cyberhost_model.lab.evaluation.values import differences, rows_of, skipped, values_of

StrPath = str | os.PathLike[str]
Progress = Callable[[int, int, str], None]
_MISSING = {
    "reference": "it compares with the ground truth: give --reference",
    "image": "it compares with a picture of the person: give --images or --reference",
    "sound": "no video has sound: give --audio",
}


def evaluate(
    generated: StrPath,
    reference: StrPath | None = None,
    *,
    images: StrPath | None = None,
    audio: StrPath | None = None,
    metrics: Sequence[str] = METRICS,
    name: str | None = None,
    weights_dir: StrPath | None = None,
    download: bool = True,
    networks: Literal["public", "embedded"] = "public",
    clips: int = 4,
    cache: StrPath | None = None,
    seed: int = 0,
    device: str = "auto",
    command: str = "",
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a video, a folder of videos or a manifest of them (`pairing.pair` says what belongs together).

    metrics: names of `protocol.METRICS`; one that cannot be had is in the results as skipped, with the reason. name: of
    the method, default that of the folder. weights_dir, download, networks, clips, device: see `metric.Context`. cache:
    folder of the features, default `cache.default_cache()`; what is in it is not computed again. seed: of the bootstrap
    and of the sets' splits. command: for the report. progress: called as progress(frames read, frames to read, name of
    the video). Raises InputError where nothing can be measured, ResourceError for a device that is not there,
    OutputError for a cache that cannot be written.
    """
    from cyberhost_model.device import choose_device

    started = time.monotonic()
    entries = chosen(metrics)
    place = str(choose_device(device, "fp32")[0])
    items, told = pair(generated, reference, images, audio)
    videos = _open(items, told)
    context = Context(Path(weights_dir) if weights_dir else None, download, place, networks, clips)
    built, summaries = _build(entries, videos, context)
    library = Library(FeatureCache(Path(cache) if cache else default_cache()), list(built.values()))
    videos = _fill(library, videos, told, progress)
    by_video, measured = values_of(library, videos, built, seed)
    summaries |= measured
    rows = rows_of(library, videos, by_video)
    told += differences(library, videos)
    about = Provenance(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        command=command,
        device=place,
        seed=seed,
        videos=len(rows),
        frames=sum(row.frames for row in rows),
        seconds=round(time.monotonic() - started, 3),
        versions=versions(),
        inputs={str(path): video.digests[role] for video in videos for role, path in video.files()},
        settings={
            "networks": networks,
            "clips": clips,
            "metrics": list(metrics),
            "weights_dir": str(weights_dir or ""),
        },
    )
    ordered = tuple(summaries[measure.name] for entry in entries for measure in entry.measures)
    results = Results(name or _name(Path(generated)), ordered, rows, tuple(told), about)
    return Evaluation(results, {v.item.name: v.item.paths for v in videos}, _reader(library, videos))


def _open(items: Sequence[Item], told: list[Mismatch]) -> list[Opened]:
    """The videos that can be opened; the others are told. Raises InputError where none can."""
    videos = []
    for item in items:
        try:
            video, wrong = open_item(item)
        except InputError as error:
            if len(items) == 1:
                raise
            told.append(mismatch(item.name, "broken", str(error)))
            continue
        if wrong:
            told.append(mismatch(item.name, "broken", wrong))
        if video.generated.variable:
            told.append(
                mismatch(
                    item.name,
                    "variable_rate",
                    f"{item.paths.generated}: {float(video.generated.fps):.2f} frames a second in the mean",
                )
            )
        videos.append(video)
    if not videos:
        raise InputError(f"none of the {len(items)} videos can be read; the first: {told[-1].detail if told else ''}")
    return videos


def _build(
    entries: Sequence[Entry], videos: Sequence[Opened], context: Context
) -> tuple[dict[Entry, Metric], dict[str, MetricSummary]]:
    """The metrics that can be had, and summaries of those that cannot."""
    there = {
        "reference": any(v.reference for v in videos),
        "image": any(v.picture for v in videos),
        "sound": any(v.sound for v in videos),
        "": True,
    }
    built: dict[Entry, Metric] = {}
    missing: dict[str, MetricSummary] = {}
    for entry in entries:
        try:
            if not there[entry.against]:
                raise InputError(_MISSING[entry.against])
            built[entry] = builder(entry)(context)
        except CyberHostError as error:
            missing |= {m.name: skipped(m, entry.protocol(context.networks), str(error)) for m in entry.measures}
    return built, missing


def _fill(library: Library, videos: Sequence[Opened], told: list[Mismatch], progress: Progress | None) -> list[Opened]:
    """Make all features that are missing. Returns the videos of which there is something."""
    total, done, kept = sum(library.frames_to_read(v) for v in videos), 0, []
    for video in videos:

        def tick(name: str = video.item.name) -> None:
            nonlocal done
            done += 1
            if progress:
                progress(min(done, total), total, name)

        broken = library.fill(video, tick)
        if broken:
            told.append(mismatch(video.item.name, "broken", broken))
        if library.counted(video, "generated"):
            kept.append(video)
    if not kept:
        raise InputError(f"no frame of {len(videos)} videos can be decoded; the first: {told[-1].detail}")
    return kept


def _reader(library: Library, videos: Sequence[Opened]) -> Callable[[str, Role, str], Features | None]:
    by_name = {video.item.name: video for video in videos}

    def features(video: str, role: Role, extractor: str) -> Features | None:
        known = [e for e in library.wanted[role] if e.name == extractor]
        return library.get(by_name[video], role, known[0]) if known and video in by_name else None

    return features


def _name(generated: Path) -> str:
    return generated.resolve().name if generated.is_dir() else generated.stem

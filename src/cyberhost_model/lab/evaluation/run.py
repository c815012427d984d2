"""Run an evaluation from end to end: files -> features -> values -> `Evaluation`."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cyberhost_model.device import choose_device
from cyberhost_model.errors import CyberHostError, InputError
from cyberhost_model.lab.evaluation.features.cache import FeatureCache, default_cache_folder
from cyberhost_model.lab.evaluation.features.extractor import Features
from cyberhost_model.lab.evaluation.features.library import FeatureLibrary, OpenedVideo, open_video_files
from cyberhost_model.lab.evaluation.metric import Context, Role, SetMetric, VideoMetric
from cyberhost_model.lab.evaluation.pairing import VideoItem, make_mismatch, pair_videos
from cyberhost_model.lab.evaluation.protocol import library_versions
from cyberhost_model.lab.evaluation.registry import MetricEntry, find_measure, headline_measures, select_metrics
from cyberhost_model.lab.evaluation.results import Evaluation, MetricSummary, Mismatch, Provenance, Results
from cyberhost_model.lab.evaluation.summaries import compute_values, find_mismatches, skipped_summary, video_rows
from cyberhost_model.lab.evaluation.theval import closeness
from cyberhost_model.lab.evaluation.workers import Extraction, extract_in_processes

GROUND_TRUTH = "ground truth"
"""What its own row is called."""
StrPath = str | os.PathLike[str]
Progress = Callable[[int, int, str], None]
_NOTHING_TO_COMPARE = {
    "ground_truth": "it compares with the ground truth: give --reference",
    "image": "it compares with a picture of the person: give --images or --reference",
    "sound": "no video has sound: give --audio",
}


def evaluate(
    generated: StrPath,
    reference: StrPath | None = None,
    *,
    images: StrPath | None = None,
    audio: StrPath | None = None,
    metrics: Sequence[str] | None = None,
    name: str | None = None,
    weights_dir: StrPath | None = None,
    download: bool = True,
    networks: Literal["public", "embedded"] = "public",
    clips: int = 4,
    cache: StrPath | None = None,
    seed: int = 0,
    device: str = "auto",
    command: str = "",
    workers: int = 1,
    truth: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a video, a folder of videos or a manifest of them.

    `pairing.pair_videos` says which files belong together. reference: the ground truth. metrics: names of registered
    measures, default `registry.headline_measures()`; one that is not available is in the results as skipped, with the
    reason. name: of the method, default that of the folder. weights_dir, download, networks, clips, device: see
    `metric.Context`. cache: folder of the features, default `cache.default_cache_folder()`; features that it holds are
    not computed again. seed: of the bootstrap and of the sets' splits. command: for the report. workers: processes that
    look at a video each at the same time. truth: measure the ground truth too, as if it had been generated, by what
    needs nothing to compare with (`Evaluation.truth`). progress: called as progress(frames read, frames to read, name
    of the video).

    Raises InputError where nothing can be measured, ResourceError for a device that is not there, OutputError for a
    cache that cannot be written.
    """
    names = headline_measures() if metrics is None else metrics
    run = _Run(
        Context(
            Path(weights_dir) if weights_dir else None,
            download,
            str(choose_device(device, "fp32")[0]),
            networks,
            clips,
        ),
        FeatureCache(Path(cache) if cache else default_cache_folder()),
        seed,
        command,
        workers,
        tuple(names),
        progress,
    )
    entries = select_metrics(names)
    items, mismatches = pair_videos(generated, reference, images, audio)
    found = run.measure(name or _default_name(Path(generated)), entries, items, mismatches)
    if not truth:
        return found
    own = [entry for entry in entries if entry.compares_with != "ground_truth"]
    true_items = [
        replace(item, paths=replace(item.paths, generated=true))
        for item in items
        if (true := item.paths.ground_truth) is not None
    ]
    if not own or not true_items:
        return found
    try:
        truth_results = run.measure(GROUND_TRUTH, own, true_items, []).results
    except InputError:  # none of it can be read, as the mismatches say
        return found
    if all(m.status == "skipped" for m in truth_results.metrics):
        return found
    return replace(found, results=with_closeness(found.results, truth_results), truth=truth_results)


def with_closeness(results: Results, truth: Results) -> Results:
    """Add "closeness" (`theval.closeness`) to the measures that are judged by the ground truth's own value."""

    def closer(metric: MetricSummary) -> MetricSummary:
        measure, own = find_measure(metric.name), truth.metric(metric.name)
        if measure is None or not measure.by_closeness or own is None or own.value is None or metric.value is None:
            return metric
        return replace(metric, extras={**metric.extras, "closeness": closeness(metric.value, own.value)})

    return replace(results, metrics=tuple(map(closer, results.metrics)))


@dataclass(frozen=True)
class _Run:
    """What the measurements of one call share."""

    context: Context
    cache: FeatureCache
    seed: int
    command: str
    workers: int
    names: tuple[str, ...]
    progress: Progress | None

    def measure(
        self, name: str, entries: Sequence[MetricEntry], items: Sequence[VideoItem], mismatches: list[Mismatch]
    ) -> Evaluation:
        """Measure videos. Raises InputError where nothing can be measured, OutputError for the cache."""
        started = time.monotonic()
        videos = _open_videos(items, mismatches)
        built, summaries = _build_metrics(entries, videos, self.context)
        library = FeatureLibrary(self.cache, list(built.values()))
        self._extract_at_once(library, videos, built)
        videos = _extract_features(library, videos, mismatches, self.progress)
        values, measured = compute_values(library, videos, built, self.seed)
        summaries |= measured
        rows = video_rows(library, videos, values)
        mismatches += find_mismatches(library, videos)
        provenance = Provenance(
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            command=self.command,
            device=self.context.device,
            seed=self.seed,
            videos=len(rows),
            frames=sum(row.frames for row in rows),
            seconds=round(time.monotonic() - started, 3),
            versions=library_versions(),
            inputs={str(path): video.digests[role] for video in videos for role, path in video.files()},
            settings={
                "networks": self.context.networks,
                "clips": self.context.clips,
                "metrics": list(self.names),
                "weights_dir": str(self.context.weights_dir or ""),
            },
        )
        ordered = tuple(summaries[measure.name] for entry in entries for measure in entry.measures)
        results = Results(name, ordered, rows, tuple(mismatches), provenance)
        return Evaluation(results, {v.item.name: v.item.paths for v in videos}, _feature_reader(library, videos))

    def _extract_at_once(
        self, library: FeatureLibrary, videos: Sequence[OpenedVideo], built: Mapping[MetricEntry, object]
    ) -> None:
        """Let processes extract what is missing, where there are several and several videos."""
        left = [video for video in videos if library.frames_to_read(video)]
        if self.workers < 2 or len(left) < 2:
            return
        frames = {video.item.name: library.frames_to_read(video) for video in left}
        done = 0

        def tell(item: VideoItem) -> None:
            nonlocal done
            done += frames[item.name]
            if self.progress:
                self.progress(done, sum(frames.values()), item.name)

        context = self.context
        measures = tuple(measure.name for entry in built for measure in entry.measures)
        extraction = Extraction(
            measures, context.weights_dir, context.device, context.networks, context.clips, self.cache.folder
        )
        extract_in_processes([video.item for video in left], extraction, self.workers, tell)


def _open_videos(items: Sequence[VideoItem], mismatches: list[Mismatch]) -> list[OpenedVideo]:
    """Open the videos; those that cannot be opened become mismatches. Raises InputError where none can."""
    videos = []
    for item in items:
        try:
            video, fault = open_video_files(item)
        except InputError as error:
            if len(items) == 1:
                raise
            mismatches.append(make_mismatch(item.name, "broken", str(error)))
            continue
        if fault:
            mismatches.append(make_mismatch(item.name, "broken", fault))
        if video.generated.variable:
            detail = f"{item.paths.generated}: {float(video.generated.fps):.2f} frames a second in the mean"
            mismatches.append(make_mismatch(item.name, "variable_rate", detail))
        videos.append(video)
    if not videos:
        first = mismatches[-1].detail if mismatches else ""
        raise InputError(f"none of the {len(items)} videos can be read; the first: {first}")
    return videos


def _build_metrics(
    entries: Sequence[MetricEntry], videos: Sequence[OpenedVideo], context: Context
) -> tuple[dict[MetricEntry, VideoMetric | SetMetric], dict[str, MetricSummary]]:
    """Build the metrics that are available; return also the summaries of those that are not."""
    available = {
        "ground_truth": any(v.ground_truth for v in videos),
        "image": any(v.picture for v in videos),
        "sound": any(v.sound for v in videos),
        "": True,
    }
    built: dict[MetricEntry, VideoMetric | SetMetric] = {}
    skipped: dict[str, MetricSummary] = {}
    for entry in entries:
        try:
            if not available[entry.compares_with]:
                raise InputError(_NOTHING_TO_COMPARE[entry.compares_with])
            built[entry] = entry.load()(context)
        except CyberHostError as error:
            protocol = entry.protocol_with(context.networks)
            skipped |= {m.name: skipped_summary(m, protocol, str(error)) for m in entry.measures}
    return built, skipped


def _extract_features(
    library: FeatureLibrary, videos: Sequence[OpenedVideo], mismatches: list[Mismatch], progress: Progress | None
) -> list[OpenedVideo]:
    """Extract all features that are missing. Returns the videos of which a frame could be decoded."""
    total, done, decoded = sum(library.frames_to_read(v) for v in videos), 0, []
    for video in videos:

        def tick(name: str = video.item.name) -> None:
            nonlocal done
            done += 1
            if progress:
                progress(min(done, total), total, name)

        broken = library.fill(video, tick)
        if broken:
            mismatches.append(make_mismatch(video.item.name, "broken", broken))
        if library.has_frames(video, "generated"):
            decoded.append(video)
    if not decoded:
        raise InputError(f"no frame of {len(videos)} videos can be decoded; the first: {mismatches[-1].detail}")
    return decoded


def _feature_reader(
    library: FeatureLibrary, videos: Sequence[OpenedVideo]
) -> Callable[[str, Role, str], Features | None]:
    by_name = {video.item.name: video for video in videos}

    def features(video: str, role: Role, extractor: str) -> Features | None:
        known = [e for e in library.extractors[role] if e.name == extractor]
        return library.get(by_name[video], role, known[0]) if known and video in by_name else None

    return features


def _default_name(generated: Path) -> str:
    return generated.resolve().name if generated.is_dir() else generated.stem

"""Extract the features of several videos at once, in processes of their own, into the cache.

What a process cannot extract it leaves to the run itself, which goes over all videos afterwards, finds most of it done
and gives the reasons for the rest.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cyberhost_model.errors import CyberHostError, ResourceError
from cyberhost_model.lab.evaluation.features.cache import FeatureCache
from cyberhost_model.lab.evaluation.features.library import FeatureLibrary, open_video_files
from cyberhost_model.lab.evaluation.metric import Context
from cyberhost_model.lab.evaluation.pairing import VideoItem
from cyberhost_model.lab.evaluation.registry import select_metrics


@dataclass(frozen=True)
class Extraction:
    """What every process must know: the measures by name, the `Context` they are built from, the cache's folder."""

    measures: tuple[str, ...]
    weights_dir: Path | None
    device: str
    networks: Literal["public", "embedded"]
    clips: int
    cache: Path


def extract_in_processes(
    items: Sequence[VideoItem], extraction: Extraction, workers: int, done: Callable[[VideoItem], None]
) -> None:
    """Extract the features of `items` with so many processes; done is called after each.

    Weights must be on this machine: nothing is fetched. Raises ResourceError where a process was ended from outside.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    # Spawned: a forked process would inherit the locks of torch's threads.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(items)), spawn, _start, (extraction, threads)) as pool:
        waiting = {pool.submit(_fill, item): item for item in items}
        try:
            for finished in as_completed(waiting):
                finished.result()
                done(waiting[finished])
        except BrokenProcessPool:
            raise ResourceError(
                f"one of {workers} processes was ended, for want of memory perhaps; run it again with fewer --workers"
            ) from None


_library: FeatureLibrary | None = None  # of this process


def _start(extraction: Extraction, threads: int) -> None:
    """Build the metrics of a process."""
    global _library
    import torch

    torch.set_num_threads(threads)
    own = extraction
    context = Context(own.weights_dir, False, own.device, own.networks, own.clips)
    metrics = []
    for entry in select_metrics(own.measures):
        try:
            metrics.append(entry.load()(context))
        except CyberHostError:
            continue  # the run itself says why
    _library = FeatureLibrary(FeatureCache(own.cache), metrics)


def _fill(item: VideoItem) -> None:
    """Extract what is missing of a video."""
    assert _library is not None
    try:
        _library.fill(open_video_files(item)[0], lambda: None)
    except CyberHostError:
        pass  # the run itself meets it again

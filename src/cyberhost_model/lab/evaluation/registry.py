"""Register metrics: which module makes which measures.

A new metric of this package is a file in `metrics` and a line in `_entries`. Code outside of the package calls
`register_metric`. A module is imported when one of its measures is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.metric import Build, Measure
from cyberhost_model.lab.evaluation.protocol import (
    PROTOCOL,
    PROTOCOL_ARTICULATION,
    PROTOCOL_EMBEDDED,
    PROTOCOL_LPIPS,
    PROTOCOL_REGIONS,
    PROTOCOL_TEMPORAL,
    PROTOCOL_THEVAL,
    PROTOCOL_THEVAL_EMBEDDED,
    REGIONS,
)


@dataclass(frozen=True)
class MetricEntry:
    """Name a metric's code and its measures.

    build: a function, or the name of a module with a function `build` (relative to this package, or absolute);
    "module:function" for another function of it. group: a word that stands for its measures where they are asked for.
    compares_with: what a video must have for it besides its frames. embedded: whether it can also run on the networks
    of the embedded model, then under `embedded_protocol`. protocol: id of the protocol its values belong to.
    """

    build: str | Build
    measures: tuple[Measure, ...]
    compares_with: Literal["", "ground_truth", "image", "sound"] = ""
    embedded: bool = False
    protocol: str = PROTOCOL
    embedded_protocol: str = PROTOCOL_EMBEDDED
    group: str = "paper"

    def protocol_with(self, networks: str) -> str:
        """Return the protocol its values follow with these networks, "public" or "embedded"."""
        return self.embedded_protocol if self.embedded and networks == "embedded" else self.protocol

    def load(self) -> Build:
        """Return its `build`, importing the module where only the name is given."""
        if not isinstance(self.build, str):
            return self.build
        module, _, name = self.build.partition(":")
        build: Build = getattr(importlib.import_module(module, __package__), name or "build")
        return build


_FID = (
    Measure("FID", "down", "", 2),
    Measure("FID-legacy", "down", "", 2, headline=False),
    Measure("KID", "down", "", 4, headline=False),
)
_SSIM, _PSNR = Measure("SSIM", "up", identical_value=1.0), Measure("PSNR", "up", "dB", 2, identical_value=100.0)

_ARTICULATION = (
    Measure("Closure", "down", "sd", 2),
    Measure("Opening", "up", "sd", 2, headline=False),
    Measure("LipLoudness", "down", "", 2, headline=False),
)
_SSIM_REGIONS = tuple(Measure(f"SSIM-{r}", "up", headline=False, identical_value=1.0) for r in REGIONS)
_LPIPS = tuple(
    Measure(name, "down", headline=False, identical_value=0.0) for name in ("LPIPS", *(f"LPIPS-{r}" for r in REGIONS))
)
_FID_REGIONS = tuple(
    measure
    for region in REGIONS
    for measure in (
        Measure(f"FID-{region}", "down", "", 2, headline=False),
        Measure(f"KID-{region}", "down", "", 4, headline=False),
    )
)
_TEMPORAL = (
    Measure("Flicker", "down", "levels", headline=False),
    Measure("Dynamics", "up", "px", 2, headline=False),
)
_THEVAL = (
    Measure("LipDynamics", "up", "px", headline=False, by_closeness=True),
    Measure("BrowDynamics", "up", "", 4, headline=False, by_closeness=True),
    Measure("SilentLips", "down", "", 4, headline=False, by_closeness=True),
    Measure("LipSync", "down", "", 4, headline=False, by_closeness=True),
)

_entries = [  # in the order of the paper's tables, then what it does not have
    MetricEntry(".metrics.ssim", (_SSIM,), "ground_truth"),
    MetricEntry(".metrics.psnr", (_PSNR,), "ground_truth"),
    MetricEntry(".metrics.fid", _FID, "ground_truth"),
    MetricEntry(".metrics.fvd", (Measure("FVD", "down", "", 1),), "ground_truth"),
    MetricEntry(".metrics.csim", (Measure("CSIM", "up"),), "image", embedded=True),
    MetricEntry(".metrics.sync", (Measure("SyncC", "up"), Measure("SyncD", "down")), "sound"),
    MetricEntry(".metrics.akd", (Measure("AKD", "down", "px", identical_value=0.0),), "ground_truth", embedded=True),
    MetricEntry(".metrics.hands", (Measure("HKC", "up"), Measure("HKV", "up", "px", 2)), embedded=True),
    MetricEntry(".metrics.articulation", _ARTICULATION, "sound", protocol=PROTOCOL_ARTICULATION, group="articulation"),
    MetricEntry(".metrics.regions", _SSIM_REGIONS, "ground_truth", protocol=PROTOCOL_REGIONS, group="regions"),
    MetricEntry(".metrics.lpips", _LPIPS, "ground_truth", protocol=PROTOCOL_LPIPS, group="regions"),
    MetricEntry(".metrics.fid:build_regions", _FID_REGIONS, "ground_truth", protocol=PROTOCOL_REGIONS, group="regions"),
    MetricEntry(".metrics.temporal", _TEMPORAL, protocol=PROTOCOL_TEMPORAL, group="temporal"),
    MetricEntry(
        ".metrics.theval",
        _THEVAL,
        "sound",
        embedded=True,
        protocol=PROTOCOL_THEVAL,
        embedded_protocol=PROTOCOL_THEVAL_EMBEDDED,
        group="theval",
    ),
]
ALL = "all"
"""Stands for every measure."""


def register_metric(entry: MetricEntry) -> None:
    """Add a metric; `evaluate` and the reports know its measures from then on.

    Raises ValueError where a measure of that name is registered already.
    """
    for measure in entry.measures:
        if find_measure(measure.name) is not None:
            raise ValueError(f"a measure {measure.name!r} is registered already")
    _entries.append(entry)


def unregister_metric(entry: MetricEntry) -> None:
    """Remove a metric that `register_metric` added. Raises ValueError where it is not registered."""
    _entries.remove(entry)


def find_measure(name: str) -> Measure | None:
    """Return a registered measure by its name, whatever its case; None where there is none."""
    return next((m for entry in _entries for m in entry.measures if m.name.lower() == name.lower()), None)


def headline_measures() -> tuple[str, ...]:
    """Return the names of the measures that are asked for by default, in the order they are shown."""
    return tuple(m.name for entry in _entries for m in entry.measures if m.headline)


def groups() -> tuple[str, ...]:
    """Return the words that stand for several measures, `ALL` the last."""
    return (*dict.fromkeys(entry.group for entry in _entries), ALL)


def select_metrics(names: Sequence[str] | None = None) -> list[MetricEntry]:
    """Return the metrics that make these measures, each once, in the order they are shown; by default the headlines.

    names: of measures, or of `groups`. Case does not matter. Raises InputError for an unknown name.
    """
    names = headline_measures() if names is None else names
    for name in names:
        if find_measure(name) is None and name.lower() not in groups():
            raise InputError(
                f"no metric {name!r}: choose from {', '.join(headline_measures())}, or of all in a group: "
                f"{', '.join(groups())}"
            )
    wanted = {name.lower() for name in names}
    if ALL in wanted:
        return list(_entries)
    return [e for e in _entries if e.group in wanted or any(m.name.lower() in wanted for m in e.measures)]

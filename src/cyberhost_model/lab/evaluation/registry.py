"""Which module makes which measure.

A new metric is one line here; a module is imported only when one of its measures is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import NamedTuple

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.metric import Build, Measure
from cyberhost_model.lab.evaluation.protocol import METRICS, PROTOCOL, PROTOCOL_EMBEDDED


class Entry(NamedTuple):
    """`build(context)` is looked up in `module`, below this package."""

    module: str
    measures: tuple[Measure, ...]
    against: str
    """What it compares with: "reference", "image", "sound" or "" (the video alone)."""
    embedded: bool = False
    """Whether the embedded model's networks can take the place of the public ones."""

    def protocol(self, networks: str) -> str:
        """The protocol its values follow with these networks, "public" or "embedded"."""
        return PROTOCOL_EMBEDDED if self.embedded and networks == "embedded" else PROTOCOL


MODULES: tuple[Entry, ...] = (
    Entry("metrics.ssim", (Measure("SSIM", "up"),), "reference"),
    Entry("metrics.psnr", (Measure("PSNR", "up", "dB", 2),), "reference"),
    Entry("metrics.fid", (Measure("FID", "down", "", 2), Measure("FID-legacy", "down", "", 2)), "reference"),
    Entry("metrics.fvd", (Measure("FVD", "down", "", 1),), "reference"),
    Entry("metrics.csim", (Measure("CSIM", "up"),), "image", embedded=True),
    Entry("metrics.sync", (Measure("SyncC", "up"), Measure("SyncD", "down")), "sound"),
    Entry("metrics.akd", (Measure("AKD", "down", "px"),), "reference", embedded=True),
    Entry("metrics.hands", (Measure("HKC", "up"), Measure("HKV", "up", "px", 2)), "", embedded=True),
)


def chosen(names: Sequence[str] = METRICS) -> list[Entry]:
    """The entries that make these measures, each once, in the order of the table.

    Case does not matter. Raises InputError for an unknown name.
    """
    known = {m.name.lower(): entry for entry in MODULES for m in entry.measures}
    for name in names:
        if name.lower() not in known:
            raise InputError(f"no metric {name!r}: choose from {', '.join(METRICS)}")
    wanted = {id(known[name.lower()]) for name in names}
    return [entry for entry in MODULES if id(entry) in wanted]


def builder(entry: Entry) -> Build:
    """Import the module of an entry."""
    return importlib.import_module(f".{entry.module}", __package__).build

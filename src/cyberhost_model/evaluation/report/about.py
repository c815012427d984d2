"""What every report tells beside its values, as text: where they come from, what did not fit, what the paper printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..registry import MODULES
from ..results import Results
from .figures import ARROWS, NONE, counted
from .published import published

_DIRECTIONS = {m.name: m.direction for entry in MODULES for m in entry.measures}


def provenance(results: Results) -> dict[str, str]:
    """Label -> words, without those that are empty. The command is not among them."""
    p = results.provenance
    lines = {
        "Made": p.created,
        "Device": p.device,
        "Seed": str(p.seed),
        "Measured": f"{counted(p.videos, 'video')}, {counted(p.frames, 'frame')} in {p.seconds:,.1f} s",
        "Versions": ", ".join(f"{name} {version}" for name, version in p.versions.items()),
        "Settings": "; ".join(f"{name.replace('_', ' ')}: {_words(value)}" for name, value in p.settings.items() if value),
    }
    return {label: words for label, words in lines.items() if words}


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def mismatch_kinds(results: Results) -> list[list[str]]:
    """Kind, how many there are, what was done about them."""
    return [[kind, str(n), rule] for (kind, rule), n in Counter((m.kind, m.rule) for m in results.mismatches).items()]


def published_tables() -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Name of a table of the paper, its measures, its rows: method and values."""
    for name, rows in published().items():
        metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
        yield name, [f"{m} {ARROWS[_DIRECTIONS[m]]}" for m in metrics], [[row, *(values.get(m, NONE) for m in metrics)] for row, values in rows.items()]


UNLIKE = "Other videos, other weights, definitions not given: not to be compared with the values above."
"""What stands over the paper's values."""

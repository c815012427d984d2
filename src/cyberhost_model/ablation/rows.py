"""Rows of Table 1 by name, and how long each may train."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InputError
from ..presets import ABLATIONS

FULL = "Full"
ROWS: dict[str, dict[str, bool]] = {FULL: {}, **ABLATIONS}
"""Row -> overrides of `presets.Ablations`, in the paper's order."""


def slug(row: str) -> str:
    """The folder of a row: "w/o Pose-aligned Ref." -> "pose-aligned-ref"."""
    return re.sub(r"[^a-z]+", "-", row.lower().removeprefix("w/o ")).strip("-")


def chosen(text: str) -> list[str]:
    """ "all", or names between commas: as in the paper, or as folders. The full model is always among them: the others are read against it.

    Raises InputError for a name that is none.
    """
    if text.strip().lower() == "all":
        return list(ROWS)
    known = {slug(row): row for row in ROWS}
    wanted = {FULL}
    for name in text.split(","):
        if slug(name.strip()) not in known:
            raise InputError(f"there is no row {name.strip()!r} in Table 1; choose all, or among {', '.join(known)}")
        wanted.add(known[slug(name.strip())])
    return [row for row in ROWS if row in wanted]


@dataclass(frozen=True)
class Budget:
    """Steps of every row, or minutes of training for all rows together; one of them is 0."""

    steps: int = 0
    minutes: float = 0.0

    @staticmethod
    def parse(text: str) -> Budget:
        """ "200": steps; "20m" or "20min": minutes. Raises InputError."""
        found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*(?:m|min|minutes)", text.strip())
        budget = Budget(int(found[1] or 0), float(found[2] or 0)) if found else Budget()
        if not budget.steps and not budget.minutes:
            raise InputError(f"a budget is a number of steps (200) or of minutes (20m), not {text!r}")
        return budget

    def steps_of(self, rows: int, seconds: float) -> int:
        """Steps for each of `rows` rows when a step takes `seconds`."""
        return self.steps or max(1, int(self.minutes * 60 / rows / seconds))

"""What the paper printed (arXiv 2409.01876, Tables 1 to 3). Another protocol on other videos: it never shares a column with ours."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from pathlib import Path

LABEL = "published, other protocol"
FULL_MODEL = "CyberHost (A2V-B)"
"""The row of Table 1 the "w/o" rows are to be read against."""
_FILE = Path(__file__).with_name("published.tsv")

Rows = Mapping[str, Mapping[str, str]]
"""Row -> metric -> the figure as printed, without those that are not."""


@functools.cache
def published() -> Mapping[str, Rows]:
    """Table -> its rows, in the paper's order."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    with _FILE.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            row = tables.setdefault(line["table"], {}).setdefault(line["row"], {})
            if line["value"] != "NA":
                row[line["metric"]] = line["value"]
    return tables

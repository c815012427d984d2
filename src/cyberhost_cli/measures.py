"""Measures as a command shows them."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyberhost_model.lab.evaluation.results import Results


def table(results: Results) -> str:
    """A line a measure: value, interval, videos, coverage, or why there is none."""
    from cyberhost_model.lab.evaluation.report.text import counted, header, interval, percent, shown

    rows = []
    for m in results.metrics:
        sure = f"95% {interval(m.ci95, m.decimals)}" if m.ci95 else ""
        told = f"{counted(m.n, 'video')}, {percent(m.coverage)} covered" if m.status == "ok" else f"skipped: {m.reason}"
        rows.append((header(m), shown(m.value, m.decimals) if m.status == "ok" else "", sure, told))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:3]
    lines = [f"{head:<{widths[0]}}  {value:>{widths[1]}}  {sure:<{widths[2]}}  {told}" for head, value, sure, told in rows]
    return "\n".join([f"{results.name} ({', '.join(sorted({m.protocol for m in results.metrics}))})", *(line.rstrip() for line in lines)])


def command() -> str:
    """What was typed."""
    return shlex.join(["cyberhost", *sys.argv[1:]])

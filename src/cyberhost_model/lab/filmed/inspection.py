"""Summarise a dataset in figures and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from cyberhost_model.lab.filmed.manifest import MEANING, Reason, Row

_BAR = 24  # characters
# Fixed edges, so that the histograms of two datasets can be compared.
EDGES: dict[str, list[float]] = {
    "clarity": [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5],
    "movement": [0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.5],
    "left_hand_share": [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
    "right_hand_share": [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
    "speech_share": [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
    "seconds": [0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 30],
}
TITLES = {
    "clarity": "hand clarity (mean of a clip)",
    "movement": "movement (thorax range, share of the clip's side)",
    "left_hand_share": "frames with the left hand",
    "right_hand_share": "frames with the right hand",
    "speech_share": "frames with speech",
    "seconds": "length of a clip, seconds",
}


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Count clips, hours, identities, splits, sizes, rejections and histograms of a dataset, as plain values for JSON.

    A histogram is {"edges": n + 1 numbers, "counts": n, "unknown": clips without the figure}; what lies beyond the last
    edge counts as the last.
    """
    accepted = [row for row in rows if row.accepted]
    rejected = [row for row in rows if not row.accepted]
    reasons = Counter(row.reason or "unknown" for row in rejected)
    lost: Counter[str] = Counter()
    for row in rejected:
        lost[row.reason or "unknown"] += round(row.seconds, 2)  # type: ignore[assignment]
    return {
        "clips": {"accepted": len(accepted), "rejected": len(rejected)},
        "sources": len({row.source for row in rows}),
        "hours": {
            "accepted": sum(r.seconds for r in accepted) / 3600,
            "rejected": sum(r.seconds for r in rejected) / 3600,
        },
        "identities": len({row.identity for row in accepted}),
        "splits": {
            name: {
                "clips": sum(r.split == name for r in accepted),
                "identities": len({r.identity for r in accepted if r.split == name}),
                "hours": sum(r.seconds for r in accepted if r.split == name) / 3600,
            }
            for name in sorted({r.split or "none" for r in accepted})
        },
        "sizes": dict(Counter(f"{row.width}x{row.height}" for row in accepted).most_common()),
        "detectors": dict(Counter(row.detector or "unknown" for row in accepted).most_common()),
        "histograms": {
            name: histogram([clip_figure(r, name) for r in accepted], edges) for name, edges in EDGES.items()
        },
        "reasons": {name: {"clips": n, "hours": lost[name] / 3600} for name, n in reasons.most_common()},
    }


def clip_figure(row: Row, name: str) -> float | None:
    """Return a figure of a clip by its name in `EDGES`."""
    return row.seconds if name == "seconds" else getattr(row, name)


def histogram(values: Sequence[float | None], edges: list[float]) -> dict[str, Any]:
    """Count values between edges, see `summarise`."""
    known = np.array([v for v in values if v is not None and np.isfinite(v)], float)
    counts, _ = np.histogram(np.clip(known, edges[0], edges[-1]), edges)
    return {"edges": edges, "counts": [int(c) for c in counts], "unknown": len(values) - len(known)}


def describe_reason(reason: str) -> str:
    """Explain a reason; one that is not ours is returned as it is."""
    return MEANING[Reason(reason)] if reason in {r.value for r in Reason} else reason


def summary_text(summary: dict[str, Any]) -> str:
    """Write the summary for a terminal."""
    clips, hours = summary["clips"], summary["hours"]
    lines = [
        f"clips       {clips['accepted']} accepted, {clips['rejected']} rejected, from {summary['sources']} sources",
        f"length      {format_hours(hours['accepted'])} accepted, {format_hours(hours['rejected'])} rejected",
        f"identities  {summary['identities']}",
    ]
    lines += [
        f"  {name:9s} {s['clips']} clips, {s['identities']} identities, {format_hours(s['hours'])}"
        for name, s in summary["splits"].items()
    ]
    lines.append("sizes       " + (", ".join(f"{size} ({n})" for size, n in summary["sizes"].items()) or "none"))
    for name, data in summary["histograms"].items():
        lines += ["", TITLES[name], *_bars(data)]
    if summary["reasons"]:
        lines += ["", "rejected"]
        width = max(map(len, summary["reasons"]))
        lines += [
            f"  {name:{width}s}  {r['clips']:5d}  {format_hours(r['hours']):>8s}  {describe_reason(name)}"
            for name, r in summary["reasons"].items()
        ]
    return "\n".join(lines)


def _bars(data: dict[str, Any]) -> list[str]:
    most = max([*data["counts"], 1])
    filled = [i for i, n in enumerate(data["counts"]) if n]
    shown = slice(filled[0], filled[-1] + 1) if filled else slice(0)
    pairs = list(zip(data["edges"], data["edges"][1:], data["counts"], strict=False))[shown]
    lines = [f"  {a:5g} - {b:<5g} {'#' * round(_BAR * n / most):{_BAR}s} {n}" for a, b, n in pairs]
    return [*lines, f"  not known     {data['unknown']}"] if data["unknown"] else lines


def format_hours(hours: float) -> str:
    """Write a length in hours, minutes or seconds, whichever is readable."""
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"

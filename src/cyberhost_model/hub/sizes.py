"""Sizes in words."""

from __future__ import annotations


def human(size: float) -> str:
    """ "999 B", "262 KB", "3.4 GB": as disks are sold, in powers of ten."""
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"

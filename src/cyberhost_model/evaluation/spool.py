"""Rows that are too many for memory: written to a temporary file as they come, mapped from it at the end."""

from __future__ import annotations

import tempfile

import numpy as np


class Spool:
    """float32 rows of one width. `array` is on disk, in a file without a name that goes with it."""

    def __init__(self, width: int) -> None:
        self.width, self.rows = width, 0
        self._file = tempfile.TemporaryFile(prefix="cyberhost-")

    def add(self, rows: np.ndarray) -> None:
        """Append (n, width)."""
        rows = np.ascontiguousarray(rows, np.float32)
        if rows.shape[1:] != (self.width,):
            raise ValueError(f"rows of {self.width} numbers, not {rows.shape}")
        self._file.write(rows.data)
        self.rows += len(rows)

    def array(self) -> np.ndarray:
        """All rows, (n, width)."""
        if not self.rows:
            return np.zeros((0, self.width), np.float32)
        self._file.flush()
        return np.memmap(self._file, np.float32, "r", shape=(self.rows, self.width))

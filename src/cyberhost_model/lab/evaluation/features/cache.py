"""Keep features on disk.

An entry is a folder of .npy files that appears whole or not at all, so a run that was stopped goes on at the next
video.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from cyberhost_model.errors import InputError, OutputError
from cyberhost_model.lab.evaluation.features.extractor import Features
from cyberhost_model.lab.evaluation.protocol import settings_digest
from cyberhost_model.media.files import atomic_path
from cyberhost_model.reading import one_line

_VERSION = 1
_MAP_FROM = 1 << 20  # bytes from which an array is mapped instead of read


def default_cache_folder() -> Path:
    """Return the folder of cached features: below CYBERHOST_CACHE where that is set, else the user's cache folder."""
    base = os.environ.get("CYBERHOST_CACHE")
    if base:
        return Path(base) / "evaluation"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cyberhost" / "evaluation"


class StoredFeatures(Mapping[str, np.ndarray]):
    """Read the features of one cache entry on access; long arrays stay on disk, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> np.ndarray:
        path = self._folder / f"{name}.npy"
        if not path.is_file():
            raise KeyError(name)
        try:
            return np.load(path, mmap_mode="r" if path.stat().st_size > _MAP_FROM else None, allow_pickle=False)
        except Exception as error:  # numpy raises a dozen kinds for damage
            raise InputError(
                f"{path}: features in the cache are damaged ({one_line(error)}); delete {self._folder}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self._folder.glob("*.npy")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class FeatureCache:
    """Store features in a folder, under a key of everything they depend on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def key(*parts: str) -> str:
        """Return the key of an entry from what it depends on: digests of the files and of the extractor."""
        return settings_digest(_VERSION, *parts)

    def get(self, key: str) -> Features | None:
        """Return an entry, None where there is none."""
        folder = self._entry_folder(key)
        return StoredFeatures(folder) if folder.is_dir() else None

    def put(self, key: str, features: Mapping[str, np.ndarray]) -> Features:
        """Write an entry and return it as it is read back. Raises OutputError where the disk cannot be written."""
        folder = self._entry_folder(key)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(folder) as part:
                part.mkdir()
                for name, array in features.items():
                    np.save(part / f"{name}.npy", array, allow_pickle=False)
        except OSError as error:
            if not folder.is_dir():  # a run beside this one may have been quicker
                raise OutputError(
                    f"{self.folder}: the cache cannot be written ({error.strerror or error}); free space, or give "
                    "--cache DIR"
                ) from None
        return StoredFeatures(folder)

    def _entry_folder(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]

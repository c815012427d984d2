"""What would be fetched for a name, before anything is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .cache import storage
from .download import grown
from .inventory import chosen, stored
from .locate import downloads
from .registry import WeightFile, Weights


@dataclass(frozen=True)
class Missing:
    """Weights that are not, or not all, on this machine. size: bytes still to come; licence: None where only the repository tells; spare: something inside
    the package stands in for them where they cannot be had."""

    name: str
    size: int
    licence: str | None = None
    commercial: bool = True
    spare: bool = False


def missing_weights(names: Iterable[str]) -> list[Missing]:
    """Of these models and groups of the registry, those that would be fetched. Raises ModelError for an unknown name."""
    found = [(weights, _absent(weights)) for weights in chosen(names)]
    return [Missing(weights.name, size, weights.licence, weights.commercial) for weights, size in found if size]


def _absent(weights: Weights) -> int:
    return sum(known.size - _begun(weights, known) for known, file in zip(weights.files, stored(weights), strict=True) if file.path is None)


def _begun(weights: Weights, file: WeightFile) -> int:
    """Bytes of a file that a download before has brought; it goes on from there."""
    if weights.repo is None:
        return min(grown(downloads() / weights.name / file.path), file.size)
    blobs = storage(weights.repo, weights.repo_type) / "blobs"
    return min(grown(blobs / file.sha256), file.size) if file.sha256 else 0

"""What of the registry is on this machine, whether it is what it should be, and what would be fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cyberhost_model.errors import ModelError, NetworkError
from cyberhost_model.hub.cache import cached, noted, storage
from cyberhost_model.hub.download import digest_of, grown
from cyberhost_model.hub.locate import downloads, here
from cyberhost_model.hub.registry import GROUPS, REGISTRY, WeightFile, Weights
from cyberhost_model.hub.repository import split


@dataclass(frozen=True)
class Stored:
    """A file: `path` is None where it is not here; `digest` is what it must have, None where nobody stated one."""

    of: str
    """Name of the model, or Hub id."""
    name: str
    """Its path in the repository."""
    path: Path | None
    digest: str | None


def chosen(names: Iterable[str]) -> list[Weights]:
    """The models of these names and groups of the registry, each once. Raises ModelError for an unknown one."""
    found: dict[str, Weights] = {}
    for name in names:
        for member in GROUPS.get(name, (name,)):
            if member not in REGISTRY:
                raise ModelError(
                    f"there are no weights {member!r}; `cyberhost weights list` names those that there are"
                )
            found[member] = REGISTRY[member]
    return list(found.values())


def stored(weights: Weights) -> list[Stored]:
    """All files of a model of the registry, here or not."""
    files = []
    for file in weights.files:
        folder = here(weights, [file])
        path = folder / file.path if folder else None
        files.append(
            Stored(weights.name, file.path, path, file.sha256 or (_stated(weights, file.path) if path else None))
        )
    return files


def stored_model(name: str) -> list[Stored]:
    """All files that are here of the Hub repository "user/name[@revision]". Raises ModelError where there are none."""
    repo, revision = split(name)
    folder = cached(storage(repo), [], revision)
    files = noted(storage(repo), folder.name) if folder else []
    here = {file: folder / file.path for file in files if folder and (folder / file.path).exists()}
    if not here:
        raise ModelError(f"{name} is not on this machine; `cyberhost weights pull {name}` fetches it")
    return [Stored(name, file.path, path, file.digest) for file, path in here.items()]


def _stated(weights: Weights, path: str) -> str | None:
    """The digest that the Hub stated when the file was fetched; None where another program fetched it."""
    folder = here(weights, [file for file in weights.files if file.path == path])
    files = noted(storage(weights.repo, weights.repo_type), folder.name) if weights.repo and folder else []
    return next((file.digest for file in files if file.path == path), None)


def verified(
    files: Iterable[Stored], progress: Callable[[str], None] = lambda name: None
) -> Iterator[tuple[Stored, str]]:
    """Each file with what is found: "right", "wrong" (its digest is another), "missing", or "unknown" (here, and
    nobody stated a digest).
    """
    for file in files:
        progress(file.name)
        if file.path is None:
            yield file, "missing"
        elif file.digest is None:
            yield file, "unknown"
        else:
            yield file, "right" if digest_of(file.path, file.digest) == file.digest else "wrong"


def remove(file: Stored) -> None:
    """Delete a file, with its blob where it is a link into the cache, so that it is fetched again when it is needed."""
    if file.path:
        file.path.resolve().unlink(missing_ok=True)
        file.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Missing:
    """Weights that are not, or not all, on this machine.

    size: bytes still to come; licence: None where only the repository tells; spare: something inside the package
    stands in for them where they cannot be had.
    """

    name: str
    size: int
    licence: str | None = None
    commercial: bool = True
    spare: bool = False


def missing_weights(names: Iterable[str]) -> list[Missing]:
    """Of these models and groups of the registry, those that would be fetched.

    Raises ModelError for an unknown name.
    """
    found = [(weights, _absent(weights)) for weights in chosen(names)]
    return [Missing(weights.name, size, weights.licence, weights.commercial) for weights, size in found if size]


def require_weights(name: str, download: bool) -> None:
    """Check that a model or group of the registry may be used: raises NetworkError if it is not here.

    download: whether it may be fetched when it is used; then nothing is checked.
    """
    if not download and missing_weights([name]):
        raise NetworkError(f"{name} is not on this machine; `cyberhost weights pull {name}` fetches it")


def _absent(weights: Weights) -> int:
    return sum(
        known.size - _begun(weights, known)
        for known, file in zip(weights.files, stored(weights), strict=True)
        if file.path is None
    )


def _begun(weights: Weights, file: WeightFile) -> int:
    """Bytes of a file that a download before has brought; it goes on from there."""
    if weights.repo is None:
        return min(grown(downloads() / weights.name / file.path), file.size)
    blobs = storage(weights.repo, weights.repo_type) / "blobs"
    return min(grown(blobs / file.sha256), file.size) if file.sha256 else 0

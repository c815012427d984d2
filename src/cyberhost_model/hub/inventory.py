"""Which weights of the registry are on this machine, whether they are whole, and what would be fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cyberhost_model.errors import ModelError, NetworkError
from cyberhost_model.hub.cache import blob_path, cached_snapshot, downloads_folder, listed_files, repository_folder
from cyberhost_model.hub.download import digest_of, partial_size
from cyberhost_model.hub.locate import local_folder
from cyberhost_model.hub.registry import GROUPS, REGISTRY, WeightFile, Weights
from cyberhost_model.hub.repository import split_hub_id


@dataclass(frozen=True)
class StoredFile:
    """A file: `path` is None where it is not here; `digest` is what it must have, None where nobody stated one."""

    of: str
    """Name of the model, or Hub id."""
    name: str
    """Its path in the repository."""
    path: Path | None
    digest: str | None


def select_weights(names: Iterable[str]) -> list[Weights]:
    """Look up the models of these names and groups of the registry, each once. Raises ModelError for an unknown one."""
    found: dict[str, Weights] = {}
    for name in names:
        for member in GROUPS.get(name, (name,)):
            if member not in REGISTRY:
                raise ModelError(
                    f"there are no weights {member!r}; `cyberhost weights list` names those that there are"
                )
            found[member] = REGISTRY[member]
    return list(found.values())


def stored_files(weights: Weights) -> list[StoredFile]:
    """List all files of a model of the registry, here or not."""
    files = []
    for file in weights.files:
        folder = local_folder(weights, [file])
        path = folder / file.path if folder else None
        files.append(
            StoredFile(weights.name, file.path, path, file.sha256 or (_stated(weights, file.path) if path else None))
        )
    return files


def stored_model_files(name: str) -> list[StoredFile]:
    """List all files that are here of the Hub repository "user/name[@revision]".

    Raises ModelError where there are none.
    """
    repo, revision = split_hub_id(name)
    folder = cached_snapshot(repository_folder(repo), [], revision)
    files = listed_files(repository_folder(repo), folder.name) if folder else []
    local_folder = {file: folder / file.path for file in files if folder and (folder / file.path).exists()}
    if not local_folder:
        raise ModelError(f"{name} is not on this machine; `cyberhost weights pull {name}` fetches it")
    return [StoredFile(name, file.path, path, file.digest) for file, path in local_folder.items()]


def _stated(weights: Weights, path: str) -> str | None:
    """The digest that the Hub stated when the file was fetched; None where another program fetched it."""
    folder = local_folder(weights, [file for file in weights.files if file.path == path])
    files = (
        listed_files(repository_folder(weights.repo, weights.repo_type), folder.name) if weights.repo and folder else []
    )
    return next((file.digest for file in files if file.path == path), None)


def verify_files(
    files: Iterable[StoredFile], progress: Callable[[str], None] = lambda name: None
) -> Iterator[tuple[StoredFile, str]]:
    """Check each file against its digest.

    Yields it with "right", "wrong" (its digest is another), "missing", or "unknown" (here, and nobody stated a
    digest).
    """
    for file in files:
        progress(file.name)
        if file.path is None:
            yield file, "missing"
        elif file.digest is None:
            yield file, "unknown"
        else:
            yield file, "right" if digest_of(file.path, file.digest) == file.digest else "wrong"


def remove_file(file: StoredFile) -> None:
    """Delete a file, with its blob where it is a link into the cache, so that it is fetched again when it is needed."""
    if file.path:
        file.path.resolve().unlink(missing_ok=True)
        file.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class MissingWeights:
    """Weights that are not, or not all, on this machine.

    size: bytes still to come; licence: None where only the repository tells; spare: a part of the package takes their
    place where they cannot be had.
    """

    name: str
    size: int
    licence: str | None = None
    commercial: bool = True
    spare: bool = False


def missing_weights(names: Iterable[str]) -> list[MissingWeights]:
    """List those of these models and groups of the registry that would be fetched.

    Raises ModelError for an unknown name.
    """
    found = [(weights, _absent(weights)) for weights in select_weights(names)]
    return [MissingWeights(weights.name, size, weights.licence, weights.commercial) for weights, size in found if size]


def require_weights(name: str, download: bool) -> None:
    """Check that a model or group of the registry may be used: raises NetworkError if it is not here.

    download: whether it may be fetched when it is used; then nothing is checked.
    """
    if not download and missing_weights([name]):
        raise NetworkError(f"{name} is not on this machine; `cyberhost weights pull {name}` fetches it")


def _absent(weights: Weights) -> int:
    return sum(
        known.size - _begun(weights, known)
        for known, file in zip(weights.files, stored_files(weights), strict=True)
        if file.path is None
    )


def _begun(weights: Weights, file: WeightFile) -> int:
    """Bytes of a file that an earlier download has brought; the next one goes on from there."""
    if weights.repo is None:
        return min(partial_size(downloads_folder() / weights.name / file.path), file.size)
    root = repository_folder(weights.repo, weights.repo_type)
    return min(partial_size(blob_path(root, file.sha256)), file.size) if file.sha256 else 0

"""Weights of the registry by name, fetched when they are needed."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from cyberhost_model.errors import ModelError
from cyberhost_model.hub.cache import cached_snapshot, cyberhost_home, downloads_folder, repository_folder
from cyberhost_model.hub.download import download, need_space, partial_size
from cyberhost_model.hub.errors import translated_errors
from cyberhost_model.hub.progress import advance, current_reporter
from cyberhost_model.hub.registry import WeightFile, Weights, find
from cyberhost_model.hub.repository import fetch


def locate(name: str, weights_dir: Path | None = None, download: bool = True) -> Path:
    """Find a file of the registry ("syncnet_v2.model"), or the folder of a model of it ("wav2vec2").

    weights_dir: a folder that is searched first, for a file or a folder of that name; what lies there is taken as it
    is. What is not on this machine is fetched, checked and kept in the cache; `download=False` forbids that. Raises
    ModelError for a name that is unknown or may not be read, or with `download=False` for weights that are not here,
    NetworkError, and OutputError for a disk that is full.
    """
    if weights_dir is not None and (own := Path(weights_dir) / name).exists():
        return own
    weights, file = find(name)
    folder = local_folder(weights, [file] if file else None)
    if folder is None:
        if not download:
            raise ModelError(f"{name} is not on this machine; `cyberhost weights pull {weights.name}` fetches it")
        folder = pull(weights, [file] if file else None)
    return folder / file.path if file else folder / common_folder(weights)


def local_folder(weights: Weights, files: list[WeightFile] | None = None) -> Path | None:
    """Find the folder that `WeightFile.path` counts from, if `files` (default: all) are on this machine."""
    paths = [file.path for file in files or weights.files]
    if weights.repo:
        return cached_snapshot(repository_folder(weights.repo, weights.repo_type), paths, weights.revision)
    folder = downloads_folder() / weights.name
    return folder if all((folder / path).exists() for path in paths) else None


def pull(weights: Weights, files: list[WeightFile] | None = None) -> Path:
    """Fetch `files` (default: all) as far as they are not here.

    Returns the folder that `WeightFile.path` counts from. Raises as `locate` does.
    """
    files = files or list(weights.files)
    announce_licence(weights)
    if weights.repo:
        pinned = {file.path: file.sha256 for file in files if file.sha256}
        paths = [file.path for file in files]
        return fetch(
            weights.repo,
            paths,
            revision=weights.revision,
            repo_type=weights.repo_type,
            sha256=pinned,
            what=weights.name,
        )
    return _pull_plain(weights, files)


def common_folder(weights: Weights) -> str:
    """Find the folder within the repository that all files of `weights` share, "" for its root."""
    parents = [os.path.dirname(file.path) for file in weights.files]
    return os.path.commonpath(parents) if all(parents) else ""


def announce_licence(weights: Weights) -> None:
    """Show the licence of weights, once on this machine."""
    noted, tell = cyberhost_home() / "licences" / weights.name, current_reporter().tell
    if noted.exists() or tell is None:
        return
    limits = "" if weights.commercial else "; not for commercial use"
    tell(f"{weights.name}: {weights.licence}{limits}; from {weights.source}")
    try:
        noted.parent.mkdir(parents=True, exist_ok=True)
        noted.write_text(weights.licence + "\n", encoding="utf-8")
    except OSError:
        pass  # the licence is shown again next time


def _pull_plain(weights: Weights, files: list[WeightFile]) -> Path:
    folder = downloads_folder() / weights.name
    missing = [file for file in files if not (folder / file.path).exists()]
    need_space(folder, sum(file.size - partial_size(folder / file.path) for file in missing))
    done, total = 0, sum(file.size for file in missing)
    with translated_errors(weights.name):
        for file in missing:
            assert file.sha256, f"{weights.name}: a file that is not on the Hub needs a sha256"
            download(
                f"{weights.url}/{file.path}",
                folder / file.path,
                size=file.size,
                digest=file.sha256,
                lock=folder / f".{file.path}.lock",
                progress=partial(advance, weights.name, done, total),
            )
            done += file.size
    return folder

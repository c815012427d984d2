"""Files of a Hub repository, in the cache that every program of Hugging Face shares.

The blobs are fetched by `download`, resumable and checked; huggingface_hub says what there is, authorises, and links the blobs into the snapshot.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import ModelError, NetworkError
from .download import download, growing, need_space
from .failures import explained, unreachable
from .report import advance


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub lists it; digest: sha256 for large files, git's sha1 of the blob for small ones."""

    path: str
    size: int
    digest: str


def fetch(
    repo: str,
    wanted: Iterable[str],
    *,
    revision: str | None = None,
    repo_type: str = "model",
    sha256: Mapping[str, str] | None = None,
    what: str | None = None,
) -> Path:
    """The snapshot folder with the files of `repo` that match `wanted` (names or patterns), fetched as far as they are not cached.

    revision: a commit, branch or tag; a commit that is cached needs no network. Where no server answers, what is cached is taken.
    sha256: what files must have, whatever the Hub says. Raises NetworkError, OutputError, and ModelError for what is not there or may not be read.
    """
    wanted, what = list(wanted), what or repo
    if (folder := cached(repo, wanted, revision=revision, repo_type=repo_type)) and _is_commit(revision):
        return folder
    with explained(what):
        try:
            commit, files = _listing(repo, revision, repo_type)
        except Exception as error:
            if folder and unreachable(error):
                return folder
            raise
    files = [file for file in files if any(fnmatch.fnmatchcase(file.path, pattern) for pattern in wanted)]
    for name in wanted:
        if not any(fnmatch.fnmatchcase(file.path, name) for file in files) and not _is_pattern(name):
            raise ModelError(f"{what}: the Hub's {repo} holds no {name}; check the name and the revision")
    for file in files:
        pinned = (sha256 or {}).get(file.path)
        if pinned and len(file.digest) == 64 and pinned != file.digest:
            raise NetworkError(
                f"{what}: the Hub's {file.path} is another file than this version of cyberhost knows "
                f"(checksum {file.digest[:12]}, expected {pinned[:12]}); update cyberhost, or check HF_ENDPOINT"
            )
    folder = _fill(repo, commit, files, repo_type, what)
    _remember(storage(repo, repo_type) / "refs" / (revision or "main"), commit)
    return folder


def cached(repo: str, wanted: Iterable[str], *, revision: str | None = None, repo_type: str = "model") -> Path | None:
    """The snapshot folder if the cache holds every file of `wanted` by name (patterns: at least one file), else None. No network."""
    root = storage(repo, repo_type)
    ref = root / "refs" / (revision or "main")
    commit = revision if _is_commit(revision) else ref.read_text().strip() if ref.is_file() else None
    if not commit:
        return None
    folder = root / "snapshots" / commit
    complete = all(any(folder.glob(name)) if _is_pattern(name) else (folder / name).exists() for name in wanted)
    return folder if complete and folder.is_dir() else None


def storage(repo: str, repo_type: str = "model") -> Path:
    """The folder of a repository in the cache: blobs/, snapshots/, refs/."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE).expanduser() / repo_folder_name(repo_id=repo, repo_type=repo_type)


def _listing(repo: str, revision: str | None, repo_type: str) -> tuple[str, list[RemoteFile]]:
    from huggingface_hub import HfApi

    info: Any = HfApi().repo_info(repo, revision=revision, repo_type=repo_type, files_metadata=True)
    files = [RemoteFile(s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else s.blob_id or "") for s in info.siblings or []]
    return info.sha or "", files


def _fill(repo: str, commit: str, files: list[RemoteFile], repo_type: str, what: str) -> Path:
    """Fetch the blobs that are missing, then link them into the snapshot."""
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    root = storage(repo, repo_type)
    folder = root / "snapshots" / commit
    missing = [file for file in files if not (folder / file.path).exists()]
    blobs = {file.path: root / "blobs" / file.digest for file in missing}
    started = {file.path: growing(blobs[file.path]) for file in missing}
    before = {path: part.stat().st_size if part.exists() else 0 for path, part in started.items()}
    total = sum(file.size for file in missing)
    need_space(root, sum(file.size - before[file.path] for file in missing if not blobs[file.path].exists()))
    done = 0
    with explained(what):
        for file in missing:
            download(
                hf_hub_url(repo, file.path, repo_type=repo_type, revision=commit),
                blobs[file.path],
                size=file.size,
                digest=file.digest,
                lock=root.parent / ".locks" / root.name / f"{file.digest}.lock",
                headers=build_hf_headers(),
                progress=partial(advance, what, done, total),
            )
            done += file.size
            hf_hub_download(repo, file.path, repo_type=repo_type, revision=commit)
    return folder


def _remember(ref: Path, commit: str) -> None:
    """Note which commit a branch is at, once all of it is here, so that it is found without a network."""
    if _is_commit(ref.name) or (ref.is_file() and ref.read_text() == commit):
        return
    ref.parent.mkdir(parents=True, exist_ok=True)
    part = ref.with_name(f"{ref.name}.{os.getpid()}")
    part.write_text(commit)
    part.replace(ref)


def _is_commit(revision: str | None) -> bool:
    return revision is not None and len(revision) == 40 and all(c in "0123456789abcdef" for c in revision)


def _is_pattern(name: str) -> bool:
    return any(c in name for c in "*?[")

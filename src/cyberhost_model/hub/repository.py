"""Files of a Hub repository, fetched into the shared cache as far as they are not there.

The blobs are fetched by `download`, resumable and checked; huggingface_hub says what there is, authorises, and links
the blobs into the snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cyberhost_model.errors import ModelError, NetworkError
from cyberhost_model.hub.cache import (
    RemoteFile,
    auth_headers,
    blob_path,
    cached_snapshot,
    foreign_snapshot,
    is_commit,
    is_pattern,
    lock_path,
    match_files,
    remember_branch,
    remember_files,
    repository_folder,
    snapshot_folder,
)
from cyberhost_model.hub.download import download, need_space, partial_size
from cyberhost_model.hub.errors import is_unreachable, translated_errors
from cyberhost_model.hub.progress import advance


@dataclass(frozen=True)
class Access:
    """How the Hub is reached; the names are huggingface_hub's."""

    token: str | None = None
    """In place of the one that is stored or in HF_TOKEN."""
    local_files_only: bool = False
    """Take what is cached, and ask no server."""


_access: ContextVar[Access] = ContextVar("access", default=Access())  # noqa: B039  (frozen)


@contextmanager
def accessing(access: Access) -> Iterator[None]:
    """Reach the Hub as `access` says inside the block."""
    token = _access.set(access)
    try:
        yield
    finally:
        _access.reset(token)


def fetch(
    repo: str,
    wanted: Iterable[str],
    *,
    revision: str | None = None,
    repo_type: str = "model",
    sha256: Mapping[str, str] | None = None,
    what: str | None = None,
) -> Path:
    """Fetch the files of `repo` that match `wanted` (names or patterns) as far as they are not cached.

    Returns the snapshot folder. revision: a commit, branch or tag; a commit that is cached needs no network. Where no
    server answers, what is cached is taken. sha256: what files must have, whatever the Hub says. Raises NetworkError,
    OutputError, and ModelError for what is not there or may not be read.
    """
    wanted, what = list(wanted), what or repo
    root = repository_folder(repo, repo_type)
    folder = cached_snapshot(root, wanted, revision)
    if folder and is_commit(revision):
        return folder
    if _access.get().local_files_only:
        if folder := folder or foreign_snapshot(root, wanted, revision):
            return folder
        raise NetworkError(f"{what} is not on this machine, and local_files_only forbids to fetch it")
    with translated_errors(what):
        try:
            commit, files = _listing(repo, revision, repo_type)
        except Exception as error:
            folder = folder or foreign_snapshot(root, wanted, revision)
            if folder and is_unreachable(error):
                return folder
            raise
    remember_files(root, commit, files)
    for name in wanted:
        if not is_pattern(name) and not any(file.path == name for file in files):
            raise ModelError(f"{what}: the Hub's {repo} holds no {name}; check the name and the revision")
    files = match_files(files, wanted)
    for file in files:
        pinned = (sha256 or {}).get(file.path)
        if pinned and len(file.digest) == 64 and pinned != file.digest:
            raise NetworkError(
                f"{what}: the Hub's {file.path} is another file than this version of cyberhost knows "
                f"(checksum {file.digest[:12]}, expected {pinned[:12]}); update cyberhost, or check HF_ENDPOINT"
            )
    folder = _fill(repo, commit, files, repo_type, what)
    remember_branch(root, revision, commit)
    return folder


def missing_size(repo: str, wanted: Iterable[str], *, revision: str | None = None, timeout: float | None = None) -> int:
    """Count the bytes that `fetch` would fetch now; nothing is written.

    Where no server answers and the cache would do: 0. Raises as `fetch`.
    """
    wanted, root = list(wanted), repository_folder(repo)
    folder = cached_snapshot(root, wanted, revision)
    if folder and is_commit(revision):
        return 0
    with translated_errors(repo):
        try:
            commit, files = _listing(repo, revision, "model", timeout)
        except Exception as error:
            if is_unreachable(error) and (folder or foreign_snapshot(root, wanted, revision)):
                return 0
            raise
    return sum(
        file.size for file in match_files(files, wanted) if not (snapshot_folder(root, commit) / file.path).exists()
    )


def split_hub_id(name: str) -> tuple[str, str | None]:
    """Split "user/name" or "user/name@revision" into repository and revision.

    Raises ModelError for what cannot be a Hub id.
    """
    repo, _, revision = name.partition("@")
    plain = re.fullmatch(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", repo, re.ASCII) and ".." not in repo
    if not plain or ("@" in name and not re.fullmatch(r"[!-~]{1,255}", revision)):
        raise ModelError(f"{name[:200]!r} is no Hub id; write user/name or user/name@revision")
    return repo, revision or None


def _listing(
    repo: str, revision: str | None, repo_type: str, timeout: float | None = None
) -> tuple[str, list[RemoteFile]]:
    from huggingface_hub import HfApi

    api = HfApi(token=_access.get().token)
    info: Any = api.repo_info(repo, revision=revision, repo_type=repo_type, files_metadata=True, timeout=timeout)
    files = [
        RemoteFile(s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else s.blob_id or "") for s in info.siblings or []
    ]
    if not is_commit(info.sha) or not all(_harmless(file) for file in files):
        raise NetworkError(f"{repo}: the server does not list its files as a Hub does; check HF_ENDPOINT")
    return info.sha, files


def _harmless(file: RemoteFile) -> bool:
    """Whether a file's names can become paths inside the cache."""
    parts = file.path.split("/")
    return (
        bool(re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", file.digest))
        and "\\" not in file.path
        and not {"", ".", ".."} & set(parts)
    )


def _fill(repo: str, commit: str, files: list[RemoteFile], repo_type: str, what: str) -> Path:
    """Fetch the blobs that are missing, then link them into the snapshot."""
    from huggingface_hub import hf_hub_download, hf_hub_url

    root = repository_folder(repo, repo_type)
    folder = snapshot_folder(root, commit)
    missing = [file for file in files if not (folder / file.path).exists()]
    blobs = {file.path: blob_path(root, file.digest) for file in missing}
    need_space(
        root, sum(file.size - partial_size(blobs[file.path]) for file in missing if not blobs[file.path].exists())
    )
    done, total, token = 0, sum(file.size for file in missing), _access.get().token
    with translated_errors(what):
        for file in missing:
            download(
                hf_hub_url(repo, file.path, repo_type=repo_type, revision=commit),
                blobs[file.path],
                size=file.size,
                digest=file.digest,
                lock=lock_path(root, file.digest),
                headers=auth_headers(token),
                progress=partial(advance, what, done, total),
            )
            done += file.size
            hf_hub_download(repo, file.path, repo_type=repo_type, revision=commit, token=token)
    return folder

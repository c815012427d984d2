"""Files of a Hub repository, fetched into the shared cache as far as they are not there.

The blobs are fetched by `download`, resumable and checked; huggingface_hub says what there is, authorises, and links
the blobs into the snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cyberhost_model.errors import ModelError, NetworkError
from cyberhost_model.hub.cache import (
    RemoteFile,
    cached,
    filled_by_others,
    is_commit,
    is_pattern,
    matching,
    note,
    note_branch,
    storage,
)
from cyberhost_model.hub.download import download, grown, need_space
from cyberhost_model.hub.errors import explained, unreachable
from cyberhost_model.hub.progress import advance


def fetch(
    repo: str,
    wanted: Iterable[str],
    *,
    revision: str | None = None,
    repo_type: str = "model",
    sha256: Mapping[str, str] | None = None,
    what: str | None = None,
) -> Path:
    """The snapshot folder with the files of `repo` that match `wanted` (names or patterns), fetched as far as they are
    not cached.

    revision: a commit, branch or tag; a commit that is cached needs no network. Where no server answers, what is cached
    is taken. sha256: what files must have, whatever the Hub says. Raises NetworkError, OutputError, and ModelError for
    what is not there or may not be read.
    """
    wanted, what = list(wanted), what or repo
    root = storage(repo, repo_type)
    folder = cached(root, wanted, revision)
    if folder and is_commit(revision):
        return folder
    with explained(what):
        try:
            commit, files = _listing(repo, revision, repo_type)
        except Exception as error:
            folder = folder or filled_by_others(root, wanted, revision)
            if folder and unreachable(error):
                return folder
            raise
    note(root, commit, files)
    for name in wanted:
        if not is_pattern(name) and not any(file.path == name for file in files):
            raise ModelError(f"{what}: the Hub's {repo} holds no {name}; check the name and the revision")
    files = matching(files, wanted)
    for file in files:
        pinned = (sha256 or {}).get(file.path)
        if pinned and len(file.digest) == 64 and pinned != file.digest:
            raise NetworkError(
                f"{what}: the Hub's {file.path} is another file than this version of cyberhost knows "
                f"(checksum {file.digest[:12]}, expected {pinned[:12]}); update cyberhost, or check HF_ENDPOINT"
            )
    folder = _fill(repo, commit, files, repo_type, what)
    note_branch(root, revision, commit)
    return folder


def missing_size(repo: str, wanted: Iterable[str], *, revision: str | None = None, timeout: float | None = None) -> int:
    """Bytes that `fetch` would fetch now; nothing is written.

    Where no server answers and the cache would do: 0. Raises as `fetch`.
    """
    wanted, root = list(wanted), storage(repo)
    folder = cached(root, wanted, revision)
    if folder and is_commit(revision):
        return 0
    with explained(repo):
        try:
            commit, files = _listing(repo, revision, "model", timeout)
        except Exception as error:
            if unreachable(error) and (folder or filled_by_others(root, wanted, revision)):
                return 0
            raise
    return sum(file.size for file in matching(files, wanted) if not (root / "snapshots" / commit / file.path).exists())


def split(name: str) -> tuple[str, str | None]:
    """ "user/name" or "user/name@revision" -> repository and revision.

    Raises ModelError for what cannot be a Hub id.
    """
    repo, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo, re.ASCII) or ".." in repo or ("@" in name and not revision):
        raise ModelError(f"{name!r} is no Hub id; write user/name or user/name@revision")
    return repo, revision or None


def _listing(
    repo: str, revision: str | None, repo_type: str, timeout: float | None = None
) -> tuple[str, list[RemoteFile]]:
    from huggingface_hub import HfApi

    info: Any = HfApi().repo_info(repo, revision=revision, repo_type=repo_type, files_metadata=True, timeout=timeout)
    files = [
        RemoteFile(s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else s.blob_id or "") for s in info.siblings or []
    ]
    if not is_commit(info.sha) or not all(_harmless(file) for file in files):
        raise NetworkError(f"{repo}: the server does not list its files as a Hub does; check HF_ENDPOINT")
    return info.sha, files


def _harmless(file: RemoteFile) -> bool:
    """Whether a file's names can become paths: no way out of the cache."""
    parts = file.path.split("/")
    return (
        bool(re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", file.digest))
        and "\\" not in file.path
        and not {"", ".", ".."} & set(parts)
    )


def _fill(repo: str, commit: str, files: list[RemoteFile], repo_type: str, what: str) -> Path:
    """Fetch the blobs that are missing, then link them into the snapshot."""
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    root = storage(repo, repo_type)
    folder = root / "snapshots" / commit
    missing = [file for file in files if not (folder / file.path).exists()]
    blobs = {file.path: root / "blobs" / file.digest for file in missing}
    need_space(root, sum(file.size - grown(blobs[file.path]) for file in missing if not blobs[file.path].exists()))
    done, total = 0, sum(file.size for file in missing)
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

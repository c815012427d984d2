"""The cache that every program of Hugging Face shares: which commit of a repository is in it, and whether what is
wanted is complete.

Beside Hugging Face's own folders (blobs, snapshots, refs) a repository gets cyberhost/COMMIT.json: the files that
commit holds, with their digests.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from cyberhost_model.media.files import atomic_path


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub lists it; digest: sha256 for large files, git's sha1 of the blob for small ones."""

    path: str
    size: int
    digest: str


def hub_cache() -> Path:
    """HF_HUB_CACHE as every program of Hugging Face takes it; it need not exist yet."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def storage(repo: str, repo_type: str = "model") -> Path:
    """The folder of a repository in the cache."""
    from huggingface_hub.file_download import repo_folder_name

    return hub_cache() / repo_folder_name(repo_id=repo, repo_type=repo_type)


def cached(root: Path, wanted: Iterable[str], revision: str | None = None) -> Path | None:
    """The snapshot folder of `storage` if it holds all files of the repository that match `wanted` (names or
    patterns), else None.

    Patterns can only be answered for a commit whose files are noted.
    """
    wanted = list(wanted)
    if (commit := commit_of(root, revision)) is None:
        return None
    folder, listed = root / "snapshots" / commit, noted(root, commit)
    names = [name for name in wanted if not is_pattern(name)]
    if len(names) < len(wanted):
        if not listed:
            return None
        names = [file.path for file in matching(listed, wanted)]
    return folder if folder.is_dir() and all((folder / name).exists() for name in names) else None


def filled_by_others(root: Path, wanted: Iterable[str], revision: str | None = None) -> Path | None:
    """A snapshot that another program put there, so that nothing is noted of it: complete as far as can be told."""
    commit = commit_of(root, revision)
    folder = root / "snapshots" / (commit or "none")
    if not folder.is_dir() or noted(root, commit or ""):
        return None
    complete = all((folder / name).exists() for name in wanted if not is_pattern(name))
    return folder if complete and any(folder.iterdir()) else None


def commit_of(root: Path, revision: str | None) -> str | None:
    """The commit of a revision (None: main), as far as the cache knows."""
    if is_commit(revision):
        return revision
    ref = root / "refs" / (revision or "main")
    return ref.read_text().strip() if ref.is_file() else None


def noted(root: Path, commit: str) -> list[RemoteFile]:
    """The files of a commit as the Hub listed them when it was fetched; empty if it never was."""
    try:
        return [RemoteFile(**entry) for entry in json.loads(_note_file(root, commit).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def note(root: Path, commit: str, files: list[RemoteFile]) -> None:
    """Note what a commit holds."""
    if not noted(root, commit):
        _write(_note_file(root, commit), json.dumps([asdict(file) for file in files]))


def note_branch(root: Path, revision: str | None, commit: str) -> None:
    """Note which commit a branch or tag is at, so that it is found without a network."""
    if commit_of(root, revision) != commit:
        _write(root / "refs" / (revision or "main"), commit)


def matching(files: Iterable[RemoteFile], wanted: Iterable[str]) -> list[RemoteFile]:
    """The files whose path is one of the names, or fits one of the patterns, of `wanted`."""
    wanted = list(wanted)
    return [file for file in files if any(fnmatch.fnmatchcase(file.path, pattern) for pattern in wanted)]


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit's hash."""
    return revision is not None and len(revision) == 40 and all(c in "0123456789abcdef" for c in revision)


def is_pattern(name: str) -> bool:
    """Whether a name of `wanted` is a pattern."""
    return any(c in name for c in "*?[")


def _note_file(root: Path, commit: str) -> Path:
    return root / "cyberhost" / f"{commit}.json"


def _write(path: Path, text: str) -> None:
    """Write a file, whole or not at all: another process may be reading. What may not be written stays as it is."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as part:
            part.write_text(text, encoding="utf-8")

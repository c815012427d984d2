"""Everything this project takes from inside huggingface_hub: its cache's layout, its settings, locks and connections.

Beside Hugging Face's own folders (blobs, snapshots, refs) a repository gets cyberhost/COMMIT.json: the files of that
commit, with their digests.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cyberhost_model.media.files import atomic_path
from cyberhost_model.reading import Unreadable, build, convert, read_json


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub lists it; digest: sha256 for large files, git's sha1 of the blob for small ones."""

    path: str
    size: int
    digest: str


def hub_cache() -> Path:
    """Return HF_HUB_CACHE as every program of Hugging Face takes it; it need not exist yet."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def cyberhost_home() -> Path:
    """Return the folder of this project in HF_HOME; it need not exist yet."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME).expanduser() / "cyberhost"


def downloads_folder() -> Path:
    """Return the folder of weights that are not on the Hub; it need not exist yet."""
    return cyberhost_home() / "downloads"


def endpoint() -> str:
    """Return HF_ENDPOINT, the address of the Hub."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def is_offline() -> bool:
    """Check whether HF_HUB_OFFLINE is set: then no server may be asked."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def repository_folder(repo: str, repo_type: str = "model") -> Path:
    """Return the folder of a repository in the cache."""
    from huggingface_hub.file_download import repo_folder_name

    return hub_cache() / repo_folder_name(repo_id=repo, repo_type=repo_type)


def snapshot_folder(root: Path, commit: str) -> Path:
    """Return the folder of a commit's files; `root`: its `repository_folder`."""
    return root / "snapshots" / commit


def blob_path(root: Path, digest: str) -> Path:
    """Return where the content of a file lies; `root`: its `repository_folder`."""
    return root / "blobs" / digest


def lock_path(root: Path, digest: str) -> Path:
    """Return the file that huggingface_hub locks while it fetches a blob."""
    return root.parent / ".locks" / root.name / f"{digest}.lock"


def file_lock(path: Path) -> AbstractContextManager[Any]:
    """Lock the file `path` against other processes; it waits until they are done."""
    from huggingface_hub.utils import WeakFileLock

    return WeakFileLock(path)


def http_get(url: str, file: Any, there: int, headers: Mapping[str, str]) -> None:
    """Append the bytes of `url` from `there` on to `file`, each block as it comes; raises what huggingface_hub raises.

    huggingface_hub's own function writes in blocks of 10 MB, and what a connection brought of a block is lost when it
    breaks. `file` is emptied first where the server begins from the start again.
    """
    from huggingface_hub.utils import hf_raise_for_status

    asked = {**headers, "Accept-Encoding": "identity"}  # or sizes and ranges would be those of the compressed file
    if there:
        asked["Range"] = f"bytes={there}-"
    with _stream(url, asked) as response:
        hf_raise_for_status(response)
        if there and response.status_code == 200:
            file.seek(0)
            file.truncate()
        for block in response.iter_bytes() if hasattr(response, "iter_bytes") else _blocks(response):
            file.write(block)


def _blocks(response: Any) -> Iterator[bytes]:
    """Read the body of an answer of requests; urllib3 gives what has come since 2.1, full blocks before."""
    if not hasattr(response.raw, "read1"):
        yield from response.iter_content(1 << 13)
        return
    try:
        while block := response.raw.read1(1 << 16):
            yield block
    except Exception as error:  # urllib3's own, which requests translates in `iter_content` alone
        raise transport_error()(str(error)) from error


def _stream(url: str, headers: Mapping[str, str]) -> AbstractContextManager[Any]:
    """Open an answer whose body is read bit by bit: with httpx, or with requests before huggingface_hub 1.0."""
    from huggingface_hub import constants, utils

    asked: dict[str, Any] = {"headers": dict(headers), "timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT}
    if hasattr(utils, "http_stream_backoff"):
        asked |= {"retry_on_exceptions": (), "retry_on_status_codes": (408, 429)}
        return utils.http_stream_backoff("GET", url, **asked)
    session: Any = utils.get_session()
    answer: AbstractContextManager[Any] = session.get(url, stream=True, **asked)
    return answer


def auth_headers(token: str | None = None) -> dict[str, str]:
    """Make the headers of a request to the Hub, with `token` or the user's own if there is one."""
    from huggingface_hub.utils import build_hf_headers

    return dict(build_hf_headers(token=token))


def ping(timeout: float) -> None:
    """Ask the Hub for any answer. Raises what httpx or requests raises, whichever huggingface_hub speaks through."""
    from huggingface_hub.utils import get_session

    get_session().head(endpoint(), timeout=timeout)


def transport_error() -> type[Exception]:
    """Return the HTTPError of httpx or requests, whichever this huggingface_hub speaks through."""
    from huggingface_hub.errors import HfHubHTTPError

    base: Any = HfHubHTTPError.__mro__[1]
    return base


def cached_snapshot(root: Path, wanted: Iterable[str], revision: str | None = None) -> Path | None:
    """Find the snapshot folder in `root` (a `repository_folder`), if all files that match `wanted` are in it.

    wanted: names or patterns. Patterns can only be answered for a commit whose files were listed.
    """
    wanted = list(wanted)
    if (commit := resolve_commit(root, revision)) is None:
        return None
    folder, listed = snapshot_folder(root, commit), listed_files(root, commit)
    names = [name for name in wanted if not is_pattern(name)]
    if len(names) < len(wanted):
        if not listed:
            return None
        names = [file.path for file in match_files(listed, wanted)]
    return folder if folder.is_dir() and all((folder / name).exists() for name in names) else None


def foreign_snapshot(root: Path, wanted: Iterable[str], revision: str | None = None) -> Path | None:
    """Find a snapshot that another program fetched, whose files were not listed; complete as far as can be known."""
    commit = resolve_commit(root, revision)
    folder = snapshot_folder(root, commit or "none")
    if not folder.is_dir() or listed_files(root, commit or ""):
        return None
    complete = all((folder / name).exists() for name in wanted if not is_pattern(name))
    return folder if complete and any(folder.iterdir()) else None


def resolve_commit(root: Path, revision: str | None) -> str | None:
    """Look up the commit of a revision (None: main), as far as the cache knows it."""
    if is_commit(revision):
        return revision
    ref = root / "refs" / (revision or "main")
    return ref.read_text().strip() if ref.is_file() else None


def listed_files(root: Path, commit: str) -> list[RemoteFile]:
    """Read the files of a commit as the Hub listed them when it was fetched; empty if it never was."""
    try:
        return [build(RemoteFile, entry) for entry in convert(list[Any], read_json(_list_path(root, commit)), "it")]
    except (OSError, Unreadable):
        return []


def remember_files(root: Path, commit: str, files: list[RemoteFile]) -> None:
    """Store the list of a commit's files."""
    if not listed_files(root, commit):
        _write(_list_path(root, commit), json.dumps([asdict(file) for file in files]))


def remember_branch(root: Path, revision: str | None, commit: str) -> None:
    """Store which commit a branch or tag is at, so that it is found without a network."""
    if resolve_commit(root, revision) != commit:
        _write(root / "refs" / (revision or "main"), commit)


def match_files(files: Iterable[RemoteFile], wanted: Iterable[str]) -> list[RemoteFile]:
    """Select the files whose path is one of the names, or fits one of the patterns, of `wanted`."""
    wanted = list(wanted)
    return [file for file in files if any(fnmatch.fnmatchcase(file.path, pattern) for pattern in wanted)]


def is_commit(revision: str | None) -> bool:
    """Check whether a revision is a commit's hash."""
    return revision is not None and len(revision) == 40 and all(c in "0123456789abcdef" for c in revision)


def is_pattern(name: str) -> bool:
    """Check whether a name of `wanted` is a pattern."""
    return any(c in name for c in "*?[")


def _list_path(root: Path, commit: str) -> Path:
    return root / "cyberhost" / f"{commit}.json"


def _write(path: Path, text: str) -> None:
    """Write a file, whole or not at all: another process may be reading. What may not be written stays as it is."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as part:
            part.write_text(text, encoding="utf-8")

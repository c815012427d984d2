"""Reading ordinary files alone, writing files and folders whole or not at all, and digests of files."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cyberhost_model.errors import ExistsError, InputError, OutputError

_BLOCK = 1 << 22  # bytes that are read at once
_MODEL_FILES = (".safetensors", ".json", ".npy", ".onnx")

_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/+")  # pathlib makes one slash of two; C:/ is a drive


def check_regular(path: Path, what: str, give: str) -> None:
    """Check that `path` is an ordinary file that may be read, before it is opened: a pipe could wait for ever.

    what: "video", "sound file". give: what to give in place of a folder. Raises InputError.
    """
    try:
        mode = path.stat().st_mode
    except PermissionError:
        raise InputError(f"{path}: may not be read; check the permissions of its folder") from None
    except (OSError, ValueError) as error:  # not there, a name too long, a link that leads to itself
        if _ADDRESS.match(str(path)):
            raise InputError(f"{path}: is an address, and this program reads files; download it first") from None
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        reason = "" if missing else f" ({getattr(error, 'strerror', None) or error})"
        raise InputError(f"{path}: no such {what}{reason}; check the path") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a folder; give {give}")
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
        kind = kinds.get(stat.S_IFMT(mode), "no ordinary file")
        hint = "give - to read standard input, or a file" if kind == "a pipe" else "give a file"
        raise InputError(f"{path}: is {kind}, no {what}; {hint}")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read; check the file's permissions")


@contextlib.contextmanager
def atomic_path(path: Path, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path for a file or a folder that becomes `path` when the block ends well.

    It lies in a hidden folder beside `path` and has its name, so that suffixes hold and no reader finds it. Otherwise
    it is removed, and what was at `path` stays. An empty folder at `path` is replaced by a folder; a symbolic link
    stays, and the file that it leads to is written. overwrite=False: a file that appeared at `path` meanwhile stays
    too, and the block's file becomes a free name beside it. Raises OSError, and ExistsError with that name.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path.absolute()
    with tempfile.TemporaryDirectory(prefix=".cyberhost-", suffix=".part", dir=target.parent) as beside:
        part = Path(beside) / path.name
        yield part
        if part.is_dir() and target.is_dir():
            target.rmdir()  # Windows renames no folder onto another
        if overwrite or part.is_dir():
            os.replace(part, target)
        elif not move_to_new(part, target):
            kept = keep_beside(part, target)
            raise ExistsError(
                f"{path}: appeared while this one was made and stays; what was made is {kept} (--overwrite replaces)"
            )


def move_to_new(part: Path, target: Path) -> bool:
    """Give a file the name `target` in the same file system, unless something has it. Returns whether it has it now.

    Of two processes with one target, one gets the name. Raises OSError.
    """
    try:
        if os.name == "nt":
            os.rename(part, target)  # on Windows it replaces nothing
            return True
        try:
            os.link(part, target)
        except FileExistsError:
            raise
        except OSError:  # no hard links here (FAT, some network file systems): take the name first, then fill it
            os.close(os.open(target, os.O_CREAT | os.O_EXCL))
            os.replace(part, target)
    except FileExistsError:
        return False
    return True


def keep_beside(part: Path, target: Path) -> Path:
    """Move a file to the first free name beside `target`, "out-2.mp4" for "out.mp4". Returns it. Raises OSError."""
    for number in itertools.count(2):
        name = target.with_name(f"{target.stem}-{number}{target.suffix}")
        if move_to_new(part, name):
            return name
    raise AssertionError


@contextlib.contextmanager
def written_whole(path: Path, overwrite: bool = True) -> Iterator[Path]:
    """Yield `atomic_path` for a file. Raises OutputError where the disk does not let it, and where `path` appeared."""
    try:
        with atomic_path(path, overwrite) as part:
            yield part
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); check space and rights") from None


@contextlib.contextmanager
def unused_removed(place: Path, *traces: str) -> Iterator[None]:
    """Remove after an error the folders that the block has made on the way to `place`, where they hold nothing.

    traces: names of files in the folder `place` that are nothing by themselves, such as a lock; those that were there
    before stay.
    """
    place = place.absolute()
    new = [folder for folder in (place, *place.parents) if not os.path.exists(folder)]
    own = [place / name for name in traces if not os.path.exists(place / name)]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if {*place.iterdir()} <= {*own}:
                for trace in own:
                    trace.unlink(missing_ok=True)
        for folder in new:
            with contextlib.suppress(OSError):  # it holds something, or is a file
                folder.rmdir()
        raise


@contextlib.contextmanager
def written_folder(out: Path) -> Iterator[Path]:
    """Yield a new folder that takes the name `out` when the block ends well; folders above it are made.

    Raises OutputError where `out` is a file or holds something, and where the disk does not let it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists; give a new folder")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(out) as part:
            part.mkdir()
            yield part
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror or error}); check space and rights") from error


def check_target(out: str | os.PathLike[str], suffixes: Sequence[str], overwrite: bool = False) -> Path:
    """Check, before any work, that a file whose name ends in one of `suffixes` can be written to `out`.

    Returns it as a Path; raises OutputError.
    """
    out = Path(out)
    check_name(out)
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; give the name of a file, for example {out / f'out{suffixes[0]}'}")
    if out.suffix.lower() not in suffixes:
        raise OutputError(
            f"{out}: the name must end in {' or '.join(filter(None, [', '.join(suffixes[:-1]), suffixes[-1]]))}"
        )
    if out.exists() and not overwrite:
        raise OutputError(f"{out}: exists already; give --overwrite (overwrite=True) or another name")
    if out.is_symlink():  # to a file that is written through the link
        out_file = Path(os.path.realpath(out))
        if out_file.is_symlink():
            raise OutputError(f"{out}: is a symbolic link that leads to itself; give another name")
        check_parent(out_file)
    else:
        check_parent(out)
    return out


def check_name(out: Path) -> None:
    """Check that a file can have the name `out`. Raises OutputError for one that is too long for the disk."""
    try:
        out.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except (OSError, ValueError) as error:
        raise OutputError(f"{out}: no file can have this name ({getattr(error, 'strerror', None) or error})") from None


def check_parent(out: Path) -> None:
    """Check that something can be made beside the name `out`. Raises OutputError."""
    if not out.parent.is_dir():
        raise OutputError(f"{out}: the folder {out.parent} does not exist; create it first")
    try:  # trying is the only check that also sees read-only file systems, quotas and rights given to root
        handle, probe = tempfile.mkstemp(prefix=".cyberhost-", suffix=".part", dir=out.parent)
        os.close(handle)
        Path(probe).unlink()
    except OSError as error:
        raise OutputError(f"{out}: the folder {out.parent} cannot be written to ({error.strerror})") from None


def hexdigest(path: Path, state: Any) -> str:
    """Compute the hex digest of a file with `state`, a hash of `hashlib` that may have been fed before."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def digest_of(path: Path, large: int | None = None) -> str | None:
    """Compute the SHA-256 of a file, or of a folder's model files with their names, as hex; None where nothing is.

    large: bytes from which a file of a folder is known by its size and time instead of its content, which is quick and
    holds on this machine alone. Raises OSError.
    """
    if path.is_file():
        return hexdigest(path, hashlib.sha256())
    if not path.is_dir():
        return None
    whole = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.suffix in _MODEL_FILES and file.is_file()):
        about = file.stat()
        known = large is not None and about.st_size > large
        content = f"{about.st_size} {about.st_mtime_ns}" if known else hexdigest(file, hashlib.sha256())
        whole.update(f"{file.relative_to(path).as_posix()}\n{content}\n".encode())
    return whole.hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a link to the file `source`, or a copy where links are not allowed (Windows)."""
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)

"""One training at a time in a run folder: two would write over each other's checkpoints."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from ..errors import TrainingError
from .checkpoints import unwritable
from .distributed import World

LOCK = ".lock"
_held: set[Path] = set()


@contextlib.contextmanager
def hold(run: str | Path, world: World) -> Iterator[None]:
    """Keep the folder `run`, which is made if need be, to the processes of `world` as long as the block lasts. Who holds it may hold it again.

    The first process locks RUN/.lock, all others hear from it how that went. The lock is the operating system's (POSIX record lock) and ends with the
    process, however it ends; the file stays and says who came last. Systems and file systems without such locks (Windows) are not guarded.
    Raises TrainingError, in every process and at once, when another process holds it; OutputError when the folder cannot be written.
    """
    place = Path(run).absolute()
    if place in _held:
        yield
        return
    file, error = None, None
    if world.main:
        try:
            file = _lock(place)
        except (OSError, TrainingError) as failed:
            error = failed if isinstance(failed, TrainingError) else unwritable(place, failed)
    world.raise_together(error)
    _held.add(place)
    try:
        yield
    finally:
        _held.discard(place)
        if file is not None:
            os.close(file)


def _lock(run: Path) -> int:
    """The open, locked file. Nobody else of this process may open it: closing any descriptor of it would end the lock."""
    run.mkdir(parents=True, exist_ok=True)
    file = os.open(run / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        import fcntl  # not on Windows

        # Not flock: a process that makes batches would inherit it, and outlive a trainer that is killed by some seconds.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            who = os.read(file, 200).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise TrainingError(f"{run}: {who} is training in this folder; wait until it is done, stop it, or choose another folder") from None
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return file

"""What a local process runs. Kept apart and light, so that the libraries are silent before they are imported."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from ..errors import CyberHostError
from .settings import Settings


def serve(pipe: Connection, dataset: Path, settings: Settings) -> None:
    """Take jobs and give their rows back until None comes, or the other end is gone. One of our own errors is given back and ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.filterwarnings("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    from .engines import guarded

    with suppress(EOFError, OSError):
        while (job := pipe.recv()) is not None:
            try:
                pipe.send(guarded(job, dataset, settings))
            except CyberHostError as error:
                pipe.send(error)
                return


def _end_with_parent() -> None:
    """A parent that was killed cannot end us; working on would get in the way of the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)

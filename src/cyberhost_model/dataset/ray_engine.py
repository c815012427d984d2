"""What is Ray's own about running on Ray."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ResourceError
from ..optional import need

_PATIENCE = 10.0  # seconds
_TRIES = 2  # a machine that leaves the cluster takes its video with it: it is tried once more elsewhere


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected; left as it was found. Raises ResourceError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about the user's work leaves the machine
    ray = need("ray", "ray")
    mine = not ray.is_initialized()
    if mine:
        check_answers(address)
        try:
            ray.init(address=address, include_dashboard=False if address is None else None, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            words = " ".join(str(error).split())[:200]
            raise ResourceError(f"no Ray cluster at {address or 'this machine'} ({words}); check --address, or start one with `ray start`") from None
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


def check_answers(address: str | None) -> None:
    """Raises ResourceError at once where nobody listens at host:port: Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
        except (OSError, OverflowError) as error:
            raise ResourceError(f"no Ray cluster answers at {address} ({error}); check --address, or start one with `ray start`") from None


def remote_task(ray: Any) -> Any:
    """The function Ray runs: one CPU, tried again when its machine dies."""

    @ray.remote(num_cpus=1, max_retries=_TRIES - 1)
    def prepare_one(job: Any, dataset: str, settings: Any) -> Any:
        from cyberhost_model.dataset.engines import guarded

        return guarded(job, Path(dataset), settings)

    return prepare_one

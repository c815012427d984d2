"""Connect to Ray, which spreads work over machines (extra `ray`)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from cyberhost_model.errors import ResourceError, need

_CONNECT_SECONDS = 10.0


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[Any]:
    """Connect to Ray; a connection that existed before stays open. Raises ResourceError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about the user's work leaves the machine
    ray = need("ray", "ray")
    connects = not ray.is_initialized()
    if connects:
        check_cluster_address(address)
        try:
            ray.init(
                address=address,
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level="error",
            )
        except Exception as error:  # a node that does not come up in time raises just that
            reason = " ".join(str(error).split())[:200]
            raise ResourceError(
                f"no Ray cluster at {address or 'this machine'} ({reason}); check --address, or start one with `ray "
                "start`"
            ) from None
    try:
        yield ray
    finally:
        if connects:
            ray.shutdown()


def check_cluster_address(address: str | None) -> None:
    """Raise ResourceError at once where nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise ResourceError(
                f"no Ray cluster answers at {address} ({error}); check --address, or start one with `ray start`"
            ) from None

"""Where weights are kept, and whether the Hub answers. Nothing here waits for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from cyberhost_model.errors import NetworkError
from cyberhost_model.hub.cache import endpoint, hub_cache, is_offline, ping
from cyberhost_model.hub.download import free_space

PATIENCE = 6.0  # seconds
T = TypeVar("T")


@dataclass(frozen=True)
class Cache:
    """The folder weights are fetched into, which need not exist yet, and the free bytes of its disk."""

    folder: str
    free: int


@dataclass(frozen=True)
class Hub:
    """Whether the Hub answers at `endpoint`; proxies: scheme -> host, without names and passwords."""

    endpoint: str
    reachable: bool
    seconds: float | None
    why: str | None
    """Why it is not reachable."""
    proxies: dict[str, str]


def find_cache() -> Cache:
    """Find HF_HUB_CACHE as every program of Hugging Face takes it, and the free bytes of its disk."""
    folder = hub_cache()
    return Cache(str(folder), free_space(folder))


def ask_hub(patience: float = PATIENCE) -> Hub:
    """Ask the Hub for an answer, any answer. HF_ENDPOINT, HF_HUB_OFFLINE and proxies count."""
    address = endpoint()
    proxies = {scheme: _host(url) for scheme, url in getproxies().items() if scheme in ("http", "https", "all")}
    if is_offline():
        return Hub(address, False, None, "HF_HUB_OFFLINE is set", proxies)
    began = time.monotonic()
    try:
        within(patience, lambda: ping(patience), address)
    except Exception as error:  # those of httpx or requests, whichever huggingface_hub speaks through
        return Hub(address, False, None, " ".join(str(error).split())[:200] or type(error).__name__, proxies)
    return Hub(address, True, time.monotonic() - began, None, proxies)


def within(patience: float, action: Callable[[], T], what: str) -> T:
    """Return or raise what `action` does, if it ends in `patience` seconds; else raise NetworkError.

    The system waits without a limit for a name server that does not answer, so the waiting is left to a thread that
    ends with the program.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(action())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(patience)
    if failed:
        raise failed[0]
    if not done:
        raise NetworkError(
            f"{what} does not answer within {patience:g} s; check the network and the proxy, or set HF_ENDPOINT"
        )
    return done[0]


def _host(url: str) -> str:
    parts = urlsplit(url if "//" in url else f"//{url}")
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or "?"

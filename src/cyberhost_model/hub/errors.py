"""Errors between here and a server, as one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cyberhost_model.errors import CyberHostError, ModelError, NetworkError
from cyberhost_model.hub.cache import transport_error


@contextmanager
def translated_errors(what: str, done: str = "fetched") -> Iterator[None]:
    """Turn the errors of huggingface_hub and of the network below it into NetworkError and ModelError.

    `what` is to be fetched meanwhile, or what `done` says.
    """
    try:
        yield
    except CyberHostError:
        raise
    except (transport_error(), OSError) as error:
        raise _explanation(what, done, error) from error


def is_unreachable(error: BaseException) -> bool:
    """Check whether `error` says that no server answered, or that none may be asked (HF_HUB_OFFLINE).

    Then what is cached must do.
    """
    return _status(error) is None or _status(error) in (429, 500, 502, 503, 504)


def is_interrupted(error: BaseException) -> bool:
    """Check whether a connection ended in the middle: neither did the server refuse, nor the disk fail."""
    is_disk = isinstance(error, OSError) and error.errno is not None and type(error) in (OSError, PermissionError)
    return isinstance(error, (transport_error(), OSError)) and _status(error) is None and not is_disk


def _explanation(what: str, done: str, error: BaseException) -> CyberHostError:
    from huggingface_hub.errors import GatedRepoError, LocalTokenNotFoundError, OfflineModeIsEnabled

    chain = list(_chain(error))
    status = next((s for s in map(_status, chain) if s), None)
    again = "then run it again, it goes on where it stopped"
    if any(isinstance(e, OfflineModeIsEnabled) for e in chain):
        return NetworkError(
            f"{what} cannot be {done}: HF_HUB_OFFLINE is set; unset it, or use a machine with a network"
        )
    if any(isinstance(e, GatedRepoError) for e in chain):
        return ModelError(
            f"{what} is gated; accept its terms on its page of the Hub, then log in with `hf auth login` or set "
            "HF_TOKEN"
        )
    if status in (401, 403) or any(isinstance(e, LocalTokenNotFoundError) for e in chain):
        why = f" ({status})" if status else ""
        return ModelError(
            f"{what} may not be {done}{why}; check the name, or log in with `hf auth login` or set HF_TOKEN"
        )
    if status == 404:
        return ModelError(f"{what} does not exist (404); check the name and the revision")
    if status == 429:
        wait = next((w for w in map(_wait, chain) if w), None)
        return NetworkError(
            f"{what}: too many requests (429); try again {f'in {wait} s' if wait else 'later'}, or log in with `hf "
            "auth login`"
        )
    if status:
        return NetworkError(f"{what}: the server failed ({status}); try again later")
    if any("Timeout" in type(e).__name__ for e in chain):
        return NetworkError(f"{what}: the server is too slow; raise HF_HUB_DOWNLOAD_TIMEOUT (seconds), {again}")
    reason = " ".join(str(chain[-1]).split())[:160] or type(chain[-1]).__name__
    return NetworkError(f"{what} could not be {done} ({reason}); check the network and the proxy, {again}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _wait(error: BaseException) -> str | None:
    response = getattr(error, "response", None)
    return response.headers.get("Retry-After") if response is not None else None

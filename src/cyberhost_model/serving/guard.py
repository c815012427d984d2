"""What stands before every request: the token, who may ask a server on this machine, and the size of uploads."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cyberhost_model.serving.failures import RequestFailed
from cyberhost_model.serving.settings import LOOPBACK, ServingConfig

OPEN = ("/health", "/")
"""Paths that need no token: they tell nothing of any job."""


class Guard:
    """Middleware of ASGI. answer: makes the application that answers with a failure; received: counts bytes."""

    def __init__(
        self,
        app: ASGIApp,
        config: ServingConfig,
        answer: Callable[[RequestFailed], ASGIApp],
        received: Callable[[int], None],
    ) -> None:
        self.app, self.config, self.answer, self.received = app, config, answer, received

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it.

        A websocket's token may come with its first message, and what it sends has no end: `Sessions` checks both.
        """
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers, size = Headers(scope=scope), 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += (more := len(message.get("body") or message.get("bytes") or b""))
            self.received(more)
            if scope["type"] == "http":
                self._check_size(size)
            return message

        try:
            self._check_sender(headers)
            if scope["type"] == "http":
                self._check_token(scope["path"], headers)
            stated = headers.get("content-length", "0")
            self._check_size(int(stated) if stated.isdecimal() else 0)
        except RequestFailed as failure:
            await self.answer(failure)(scope, receive, send)
            return
        await self.app(scope, counted, send)

    def _check_sender(self, headers: Headers) -> None:
        """Refuse pages of other sites, which a browser on this machine would let ask a server without a token.

        A site may also give its own name the address of this machine, so the name that was asked for counts too.
        """
        if self.config.token is not None:
            return
        name, place = _place(f"//{headers.get('host', '')}")
        if name not in LOOPBACK:
            raise RequestFailed(403, "forbidden", "ask for this server by localhost or 127.0.0.1")
        if (origin := headers.get("origin")) is not None and _place(origin)[1] != place:
            raise RequestFailed(403, "forbidden", "pages of other sites may not ask this server")

    def _check_token(self, path: str, headers: Headers) -> None:
        if path not in OPEN and not is_allowed(self.config, headers.get("authorization", "").encode("latin-1")):
            wanted = {"WWW-Authenticate": "Bearer"}
            raise RequestFailed(401, "unauthorized", "send the token as Authorization: Bearer TOKEN", headers=wanted)

    def _check_size(self, size: int) -> None:
        if size > self.config.upload_bytes:
            told = f"the upload is larger than {self.config.max_upload} MiB, the most that this server takes"
            raise RequestFailed(413, "too_large", told)


def is_allowed(config: ServingConfig, authorization: bytes) -> bool:
    """Whether a value of the header Authorization opens a server."""
    return config.token is None or hmac.compare_digest(authorization, f"Bearer {config.token}".encode())


def _place(address: str) -> tuple[str, str]:
    """Read an address -> (name of the machine, the same with the port); nothing of what is no address."""
    try:
        parts = urlsplit(address)
        return parts.hostname or "", parts.netloc
    except ValueError:
        return "", ""

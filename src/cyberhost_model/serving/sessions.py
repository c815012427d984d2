"""Live sessions over a websocket, `/v1/sessions`: a picture and samples come, messages and pieces of an MP4 go.

docs/user/serve.md describes the messages. Both directions are bounded: no frame is made for a client that does not
read, and one that is far ahead of its video, for that or another reason, is ended. Reading on is what lets an
interruption through, and answers pings.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.websockets import WebSocket, WebSocketDisconnect

from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.fragments import mime_type
from cyberhost_model.media.image import load_picture
from cyberhost_model.media.pcm import PcmFormat
from cyberhost_model.runtime.live import LiveSession
from cyberhost_model.runtime.pipeline import CyberHost
from cyberhost_model.serving.failures import RequestFailed, failure_of, public_line
from cyberhost_model.serving.guard import is_allowed
from cyberhost_model.serving.live_stream import LiveStream
from cyberhost_model.serving.making import PICTURE
from cyberhost_model.serving.metrics import Counters
from cyberhost_model.serving.settings import ServingConfig, SessionOptions
from cyberhost_model.serving.turns import Turns
from cyberhost_model.serving.uploads import read_options

LOG = logging.getLogger("cyberhost.serving")
MESSAGE_BYTES = 16 << 20
"""The largest message: a picture."""
MOST_AHEAD = 30.0
"""Seconds of sound without frames, beyond those that must be, that a client may be ahead."""
_START_BYTES = 1 << 16
_START_SECONDS = 10.0  # for the first message, until which nobody knows who the client is
_QUIET_SECONDS = 60.0  # a client that sends nothing, or reads nothing, for so long is gone
_RATES, _CHANNELS = (8_000, 96_000), (1, 2)  # what waits is kept as floats
_CLOSE = 4000  # and a status of HTTP: the code of a close after an error
_ENDED = 1000


@dataclass(frozen=True)
class Start:
    """What the first message of a session says."""

    form: PcmFormat
    options: dict[str, Any]


class Places:
    """How many clients may be somewhere at the same time."""

    def __init__(self, most: int, told: str) -> None:
        """Begin with none. told: what a client reads that finds no place."""
        self.most, self.told, self.taken = most, told, 0

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Take a place for the block. Raises RequestFailed."""
        if self.taken >= self.most:
            raise RequestFailed(429, "queue_full", self.told)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Sessions:
    """The endpoint of live sessions, which speak with the model of the videos."""

    def __init__(self, host: CyberHost, marks: Marks, turns: Turns, config: ServingConfig, counters: Counters) -> None:
        self.host, self.marks, self.turns, self.config, self.counters = host, marks, turns, config, counters
        self._arriving = Places(config.max_uploads, "as many clients arrive as this server takes at a time")
        self._open = Places(config.max_sessions, "as many live sessions are open as this server takes")

    async def talk(self, socket: WebSocket) -> None:
        """Speak with one client until the sound ends, something is wrong, or the client is gone."""
        await socket.accept()
        try:
            await self._talk(socket)
        except WebSocketDisconnect:
            return
        except RequestFailed as failed:
            await self._refuse(socket, failed)
        except Exception as error:
            await self._refuse(socket, _logged(error, {}))

    async def _talk(self, socket: WebSocket) -> None:
        with self._arriving.take():
            message = await _in_time(_next_message(socket), "sent", _START_SECONDS)
            start = read_start(self.config, message, socket.headers.get("authorization", ""))
        with self._open.take():
            picture = (await _receive(socket)).get("bytes")
            if picture is None:
                raise _invalid("the second message must be the picture's bytes", PICTURE)
            if len(picture) > self.config.upload_bytes:
                told = f"the picture is larger than {self.config.max_upload} MiB"
                raise RequestFailed(413, "too_large", told, PICTURE)
            with self.turns.session():
                session, tags = await anyio.to_thread.run_sync(self._prepare, picture, start)
                self.counters.add("sessions")
                await self._exchange(socket, LiveStream(session, start.form, self.marks, tags, self.turns.model))

    def _prepare(self, picture: bytes, start: Start) -> tuple[LiveSession, dict[str, str]]:
        """Begin the session of a picture -> it, and the tags of its video. Raises RequestFailed."""
        with tempfile.TemporaryDirectory() as folder, self.turns.model:
            file = Path(folder) / PICTURE
            file.write_bytes(picture)
            try:
                return self.host.live(load_picture(file), **start.options), self.marks.tags((file,))
            except Exception as error:
                raise _logged(error, {str(file): PICTURE}, PICTURE) from error

    async def _exchange(self, socket: WebSocket, stream: LiveStream) -> None:
        """Listen and send until the video ends. Raises what ends one of them early."""
        session = stream.session
        told = [line for text in session.warnings if (line := public_line(text, {})) is not None]
        ready = {
            "size": "{}x{}".format(*session.size),
            "fps": session.fps,
            "steps": session.steps,
            "delay": session.delay,
            "warnings": told,
        }
        await _tell(socket, "ready", ready)
        with contextlib.ExitStack() as stack:
            stack.enter_context(stream)
            tasks = [asyncio.ensure_future(work(socket, stream)) for work in (self._send, self._listen)]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await anyio.to_thread.run_sync(stack.close)  # the thread that reads pieces ends with the stream
                await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()
        await _tell(socket, "ended", {"frames": stream.frames, "time": session.time})
        await socket.close(_ENDED)

    async def _send(self, socket: WebSocket, stream: LiveStream) -> None:
        """Send the pieces as they come, and after each how far the video is."""
        pieces, begun = stream.pieces(), False
        while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
            if not begun:
                await _tell(socket, "video", {"mime": mime_type(piece)})
                begun = True
            await _in_time(socket.send_bytes(piece), "read")
            await _tell(socket, "state", {"heard": stream.session.heard, "time": stream.session.time})

    async def _listen(self, socket: WebSocket, stream: LiveStream) -> None:
        """Take sound and commands; does not end by itself."""
        while True:
            message = await (_next_message(socket) if stream.ended else _receive(socket))
            if (data := message.get("bytes")) is not None:
                take_sound(self.config, stream, data)
                continue
            command = _object(message.get("text")).get("type")
            if command == "interrupt":
                seconds = await anyio.to_thread.run_sync(stream.interrupt)
                await _tell(socket, "interrupted", {"time": seconds})
            elif command == "end":
                stream.end()
            else:
                raise _invalid("a message must be samples, or have the type interrupt or end", "type")

    async def _refuse(self, socket: WebSocket, failed: RequestFailed) -> None:
        """Tell an error and close; a client that does not read is left."""
        self.counters.add("refused")
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, RequestFailed):
            await _in_time(socket.send_json({"type": "error", **failed.failure.body()}), "read", 5.0)
            await socket.close(_CLOSE + failed.failure.status, failed.failure.code)


def read_start(config: ServingConfig, message: Mapping[str, Any], authorization: str) -> Start:
    """Read the first message of a session: its token, how samples lie, and options. Raises RequestFailed."""
    values = _object(message.get("text"))
    if values.pop("type", None) != "start":
        raise _invalid("the first message must have the type start", "type")
    token = values.pop("token", None)
    given = authorization.encode("latin-1") if token is None else f"Bearer {token}".encode(errors="replace")
    if not is_allowed(config, given):
        told = "send the token in the first message, or as Authorization: Bearer TOKEN"
        raise RequestFailed(401, "unauthorized", told)
    rate, channels = values.pop("rate", None), values.pop("channels", 1)
    for name, value, (least, most) in (("rate", rate, _RATES), ("channels", channels, _CHANNELS)):
        if type(value) is not int or not least <= value <= most:
            raise _invalid(f"{name} must be a whole number between {least} and {most}", name)
    texts = {}
    for name, value in values.items():
        if not isinstance(value, str | int | float | None):
            raise _invalid("an option must be a number, a word, true or false", name)
        texts[name] = "" if value is None else str(value)
    return Start(PcmFormat(rate, channels), read_options(texts, config, SessionOptions))


def take_sound(config: ServingConfig, stream: LiveStream, data: bytes) -> None:
    """Push a message of sound. Raises RequestFailed for a part of a sample, and for more than may wait or be made."""
    if len(data) % stream.form.width:
        raise _invalid(f"a message must hold whole samples, of {stream.form.width} bytes each")
    stream.push(data)
    if stream.session.heard > config.max_live:
        told = f"the session is longer than {config.max_live:g} s, the most that this server takes"
        raise RequestFailed(413, "too_long", told)
    if stream.ahead > MOST_AHEAD + stream.session.delay:
        told = f"the sound is more than {MOST_AHEAD:g} s ahead of the video; send it as it is spoken"
        raise RequestFailed(413, "too_far_ahead", told)


def _object(text: str | None) -> dict[str, Any]:
    """Read a message that is a JSON object. Raises RequestFailed."""
    if text is None or len(text) > _START_BYTES:
        raise _invalid("this message must be a short JSON object")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise _invalid("this message must be a JSON object")
    return values


def _logged(error: Exception, names: Mapping[str, str], param: str | None = None) -> RequestFailed:
    """Log an error, and say of it what a client may know. names: as `failure_of` takes them."""
    failure = failure_of(error, names)
    level = logging.ERROR if failure.status >= 500 else logging.INFO  # what the server's owner can mend
    LOG.log(level, "a live session failed: %s", error, exc_info=failure.code == "error")
    return RequestFailed(failure.status, failure.code, failure.message, param)


def _invalid(message: str, param: str | None = None) -> RequestFailed:
    return RequestFailed(400, "invalid_request", message, param and param[:60])


async def _receive(socket: WebSocket) -> Mapping[str, Any]:
    """Receive the next message in time. Raises RequestFailed and WebSocketDisconnect."""
    return await _in_time(_next_message(socket), "sent")


async def _next_message(socket: WebSocket) -> Mapping[str, Any]:
    """Receive the next message. Raises WebSocketDisconnect."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    return message


async def _in_time(work: Any, done: str, seconds: float = _QUIET_SECONDS) -> Any:
    """Await what a client has to do. Raises RequestFailed where it does not."""
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        raise RequestFailed(408, "timeout", f"nothing was {done} for {seconds:g} s") from None


async def _tell(socket: WebSocket, kind: str, values: Mapping[str, Any]) -> None:
    await _in_time(socket.send_json({"type": kind, **values}), "read")

"""Running a server: a model that is loaded once, a queue on a folder, and the web interface over it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from cyberhost_model.config import RuntimeConfig
from cyberhost_model.errors import InputError
from cyberhost_model.marks.content_credentials import data_folder
from cyberhost_model.marks.marking import Marks
from cyberhost_model.runtime.pipeline import CyberHost
from cyberhost_model.serving.app import build_app
from cyberhost_model.serving.making import HostMaker
from cyberhost_model.serving.page import page
from cyberhost_model.serving.queue import JobQueue
from cyberhost_model.serving.sessions import MESSAGE_BYTES, Sessions
from cyberhost_model.serving.settings import ServedModel, ServingConfig
from cyberhost_model.serving.store import VIDEO, JobStore
from cyberhost_model.serving.turns import Turns

_GRACE = 5  # seconds that open connections have where the server is ended
_CHANGING_FRAMES = ("precision", "allow_untrained")


def serve(
    config: ServingConfig,
    runtime: RuntimeConfig,
    marks: Marks,
    *,
    with_page: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve until SIGINT or SIGTERM, which uvicorn raises again when the server has ended.

    tell: called with the address when requests are taken. Raises InputError for an address that is not this machine's
    without a token, OutputError, ResourceError, and what `CyberHost.from_pretrained` does.
    """
    if not config.on_loopback and not config.token:
        raise InputError(f"{config.host}: others reach this address; give --token, or CYBERHOST_TOKEN, first")
    marks.signing(VIDEO)  # an error of the certificate comes before the model is loaded
    store = JobStore(config.folder or data_folder() / "serve")
    try:
        listening = _listen(config)
        host, turns = CyberHost.from_pretrained(**asdict(runtime)), Turns()
        queue = JobQueue(store, HostMaker(host, marks, turns), config.max_waiting, 3600 * config.keep_hours)
        sessions = Sessions(host, marks, turns, config, queue.counters)
        model = served_model(runtime, marks)
        app = build_app(queue, config, model, page(config, model) if with_page else None, sessions)
        address, port = listening.getsockname()[:2]
        tell(f"http://{f'[{address}]' if ':' in address else address}:{port}")
        uvicorn.Server(server_settings(app)).run(sockets=[listening])
    finally:
        store.close()


def server_settings(app: FastAPI) -> uvicorn.Config:
    """Make the settings of the server that runs an application."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE,
        server_header=False,
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,  # video is compressed already
        ws_ping_interval=None,  # `Sessions` has limits of its own, and reads no answers while a picture is prepared
    )


def served_model(runtime: RuntimeConfig, marks: Marks) -> ServedModel:
    """Say what clients may know of the model that is loaded."""
    name = Path(runtime.model).name if Path(runtime.model).exists() else runtime.model
    defaults = {entry.name: entry.default for entry in fields(RuntimeConfig)}
    values = asdict(runtime)
    changed = {option: values[option] for option in _CHANGING_FRAMES if values[option] != defaults[option]}
    return ServedModel(name, changed, bool(marks.c2pa or marks.certificate))


def _listen(config: ServingConfig) -> socket.socket:
    """Take the port before the model is loaded. Raises InputError."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listening = socket.create_server((config.host, config.port), family=family, backlog=2048)
    except OSError as error:
        where = f"{config.host}, port {config.port}"
        raise InputError(f"{where}: cannot be listened on ({error.strerror or error}); give another --port") from None
    return listening

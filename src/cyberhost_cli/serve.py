"""`cyberhost serve` and `cyberhost ui`: videos over HTTP, for programs and for people."""

from __future__ import annotations

import os
from dataclasses import replace

import typer

from cyberhost_cli.console import Console
from cyberhost_cli.generate import prepare_imports
from cyberhost_cli.options import expand_options
from cyberhost_model.config import RuntimeConfig
from cyberhost_model.errors import need
from cyberhost_model.marks.marking import Marks
from cyberhost_model.serving.settings import ServingConfig

TOKEN_VARIABLE = "CYBERHOST_TOKEN"
_LIBRARIES = ("fastapi", "uvicorn", "python_multipart", "websockets")


@expand_options
def serve(*, config: ServingConfig, runtime: RuntimeConfig, marks: Marks, console: Console) -> None:
    """Make videos over HTTP: POST /v1/videos takes a picture and a sound.

    The model is loaded once; jobs are made one after the other and go on after a restart. Only this machine reaches the
    server, unless --host and --token are given.
    """
    _run(config, runtime, marks, console, with_page=False)


@expand_options
def ui(*, config: ServingConfig, runtime: RuntimeConfig, marks: Marks, console: Console) -> None:
    """Make videos on a page in the browser: cyberhost serve, and a page at its address.

    A picture or the webcam, a recording or the microphone, the options of animate, progress and the video.
    """
    _run(config, runtime, marks, console, with_page=True)


def _run(config: ServingConfig, runtime: RuntimeConfig, marks: Marks, console: Console, with_page: bool) -> None:
    """Serve until Ctrl-C."""
    config = replace(config, token=config.token or os.environ.get(TOKEN_VARIABLE) or None)
    if not config.on_loopback and config.token is None:
        raise typer.BadParameter(
            f"others reach --host {config.host}: give --token TOKEN, or set {TOKEN_VARIABLE}, first"
        )
    console.silence_libraries()
    for library in _LIBRARIES:
        need(library, "serve")
    prepare_imports(runtime)
    from cyberhost_model.serving.server import serve as run

    def tell(address: str) -> None:
        console.note(f"{'open' if with_page else 'listening on'} {address} (Ctrl-C ends)")
        console.data({"address": address})

    run(config, runtime, marks, with_page=with_page, tell=tell)

"""A server on a folder of the test, with the embedded model or with a maker that the test holds in its hand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from serving_helpers import wait_for

from cyberhost_model.marks.marking import Marks
from cyberhost_model.serving.app import build_app
from cyberhost_model.serving.making import HostMaker, Made, Maker, Tick
from cyberhost_model.serving.page import page as render
from cyberhost_model.serving.queue import JobQueue
from cyberhost_model.serving.server import server_settings
from cyberhost_model.serving.sessions import Sessions
from cyberhost_model.serving.settings import ServedModel, ServingConfig
from cyberhost_model.serving.store import JobStore, VideoJob
from cyberhost_model.serving.turns import Turns


@dataclass
class HeldMaker:
    """Makes no frames: a job is done when the test lets it."""

    go: threading.Event = field(default_factory=threading.Event)
    begun: list[str] = field(default_factory=list)

    def __call__(self, job: VideoJob, folder: Path, tick: Tick) -> Made:
        self.begun.append(job.id)
        while not self.go.wait(0.01):
            tick(1, 4)
        (folder / job.video).write_bytes(job.id.encode())
        return Made(4, 25.0, (64, 64), 0.16, (f"{folder / 'image_reference.jpg'}: the largest face is animated",))


class Served:
    """Starts applications on the folder `folder`, and ends them with the test."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.queue: JobQueue

    def __call__(self, maker: Maker, page: str | None = None, **limits: Any) -> TestClient:
        config = ServingConfig(folder=self.folder, **limits)
        store = JobStore(self.folder)
        self.stack.callback(store.close)
        self.queue = JobQueue(store, maker, config.max_waiting, 3600 * config.keep_hours)
        app = build_app(self.queue, config, ServedModel("tiny"), page)
        client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
        return self.stack.enter_context(client)

    @property
    def left(self) -> list[str]:
        """What lies in the folders of jobs."""
        return sorted(path.name for path in (self.folder / "videos").rglob("*") if path.is_file())


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with ExitStack() as stack:
        yield Served(tmp_path / "served", stack)


@pytest.fixture
def held() -> Iterator[HeldMaker]:
    maker = HeldMaker()
    yield maker
    maker.go.set()


@pytest.fixture
def real(served: Served, host) -> TestClient:
    """A server with the embedded model. A watermark would hold the number of its run."""
    return served(HostMaker(host, Marks(watermark=False)), max_seconds=5)


@contextmanager
def running(host: Any, folder: Path, **limits: Any) -> Iterator[str]:
    """Run a server with live sessions and the page; yields its address, http://127.0.0.1:PORT/."""
    config, model = ServingConfig(folder=folder, max_seconds=20, **limits), ServedModel("tiny")
    store, marks, turns = JobStore(folder), Marks(), Turns()
    queue = JobQueue(store, HostMaker(host, marks, turns), config.max_waiting, 3600)
    sessions = Sessions(host, marks, turns, config, queue.counters)
    server = uvicorn.Server(server_settings(build_app(queue, config, model, render(config, model), sessions)))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join(60)
    store.close()


@pytest.fixture(scope="module")
def address(host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the embedded model."""
    with running(host, tmp_path_factory.mktemp("served")) as place:
        yield place


@pytest.fixture
def run_server(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Run a server with another host, or other limits -> its address."""
    with ExitStack() as stack:
        yield lambda host, **limits: stack.enter_context(running(host, tmp_path / "run", **limits))


@pytest.fixture
def files(portrait_file: Path, tone) -> dict[str, Any]:
    """The files of a form that can be made."""
    sound = tone("speech.wav", seconds=0.2)
    return {
        "image_reference": ("anna.jpg", portrait_file.read_bytes()),
        "audio_reference": ("hello.wav", sound.read_bytes()),
    }


@pytest.fixture
def finished():
    """Wait for a job to be finished -> its description."""

    def wait(client: TestClient, identity: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            job = client.get(f"/v1/videos/{identity}").json()
            return job if job["status"] in ("completed", "failed") else None

        return wait_for(look)

    return wait

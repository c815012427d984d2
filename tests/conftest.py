"""Pictures and sounds the tests are fed with, made on the spot."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# Tests share the machine with others; this must be set before numpy or torch are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import pytest
import soundfile
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


# The outermost wrapper: pytest's own, which prints the counts, has ended when the line is printed.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
    """Say in the last line what was not tested here, and why."""
    yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    ran = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not session.config.option.collectonly
    if ran and terminal is not None:
        skipped = terminal.stats.get("skipped", [])
        reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
        told = [f"{count} x {why}" for why, count in reasons.most_common()]
        terminal.write_line(f"skipped: {'; '.join(told) or 'nothing'}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on Ray come first, one after another: one process starts it, and they overlap with many short ones.

    Files with slow tests are next, so that no process is left with one of these when the others have ended.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: ("ray_address" not in getattr(item, "fixturenames", ()), item.path not in slow))


# Libraries' objects are many and stay: the collector looks neither at them while they are imported, nor ever after.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test keeps a certificate in the user's data folder."""
    os.environ["XDG_DATA_HOME"] = os.environ["LOCALAPPDATA"] = str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def portrait_file() -> Path:
    return EXAMPLES / "astronaut.jpg"


@pytest.fixture(scope="session")
def speech_file() -> Path:
    return EXAMPLES / "speech.wav"


@pytest.fixture(scope="session")
def host():
    """The embedded model on the CPU, in fp32: `auto` is bf16 where the CPU has units for it."""
    from cyberhost_model import CyberHost

    return CyberHost.from_pretrained("tiny", device="cpu", precision="fp32")


@pytest.fixture
def loaded_once(host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process share `host`: loading the embedded model takes as long as a clip."""
    from cyberhost_model import CyberHost
    from cyberhost_model.device import choose_device

    load = CyberHost.from_pretrained

    def share(model: str = "tiny", device: str = "auto", precision: str = "auto", **options: Any) -> CyberHost:
        same = model == "tiny" and choose_device(device, precision) == (host.device, host.dtype)
        return host if same and not any(options.values()) else load(model, device, precision, **options)

    monkeypatch.setattr(CyberHost, "from_pretrained", share)


@pytest.fixture
def counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a job by a published model would take is known: counting it takes ten seconds, and has a test."""
    from cyberhost_model.doctor.costs import CountedEstimate

    monkeypatch.setattr("cyberhost_model.doctor.costs._count", lambda *_: CountedEstimate(3600.0, 9 * 10**9, 27.0))


@pytest.fixture
def timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a job would take is measured with one trial of each part."""
    monkeypatch.setattr("cyberhost_model.doctor.costs.TRIALS", 1)


@pytest.fixture(scope="session")
def picture(portrait_file: Path) -> np.ndarray:
    """The astronaut, uint8 (512, 512, 3)."""
    from cyberhost_model.media.image import load_picture

    return load_picture(portrait_file)


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a Ray cluster of two nodes, which this process stays connected to."""
    pytest.importorskip("ray", reason="ray is an extra: pip install 'cyberhost[ray]'")
    from ray.cluster_utils import Cluster

    from cyberhost_model.runtime.ray_cluster import ray_cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_prestart_worker_first_driver", "0")  # no processes that nothing is given to
        patch.setenv("RAY_worker_niceness", "0")  # 15 by default: beside the other tests they would stand still
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # its processes find the packages as this one does
        try:
            cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        except Exception as error:
            if "timed out during startup" in str(error):
                pytest.skip("Ray gives its node 30 seconds to start, and this machine is too busy")
            raise
        try:
            cluster.add_node(**node)
            cluster.wait_for_nodes()
            with ray_cluster(cluster.address):
                yield cluster.address
        finally:
            with suppress(Exception):
                cluster.shutdown()


@pytest.fixture
def picture_file(tmp_path: Path) -> Path:
    """A smooth 200x150 picture without a person."""
    y, x = np.mgrid[0:150, 0:200]
    pixels = np.stack([x, y, (x + y) // 2], axis=-1).astype(np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def tone(tmp_path: Path):
    """tone(name, rate, seconds, channels, gain) -> path of a 220 Hz tone."""

    def make(name: str = "tone.wav", rate: int = 16_000, seconds: float = 0.5, channels: int = 1, gain: float = 0.3):
        time = np.arange(round(rate * seconds)) / rate
        wave = gain * np.sin(2 * np.pi * 220 * time)
        path = tmp_path / name
        soundfile.write(str(path), np.repeat(wave[:, None], channels, axis=1), rate)
        return path

    return make


@pytest.fixture(scope="session")
def command() -> list[str]:
    """How a test starts the command line in a process of its own."""
    return [sys.executable, "-m", "cyberhost_cli"]


# A shell starts its background jobs with SIGINT ignored, and what they start inherits that: a test of Ctrl-C must say
# which it wants. A handler here is the default in a process that is started; SIG_IGN stays SIG_IGN.
@pytest.fixture
def ctrl_c_stops() -> Iterator[None]:
    """Processes that the test starts end at SIGINT, however pytest itself was started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def ctrl_c_ignored() -> Iterator[None]:
    """Processes that the test starts are those of a shell's background job."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)

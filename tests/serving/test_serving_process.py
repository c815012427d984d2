"""`cyberhost serve` as a process of its own: killed in the middle of a video, started again, ended by SIGTERM."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from serving_helpers import frames_digest, wait_for

from cyberhost_cli.exit_status import ExitStatus
from cyberhost_cli.main import main
from cyberhost_model.marks.marking import Marks


@contextlib.contextmanager
def serving(command: list[str], *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server; yields the process and its address."""
    call = [*command, "serve", "--port", "0", "--json", "--device", "cpu", "--precision", "fp32", *options]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["address"]
    finally:
        process.kill()
        process.wait()


def empty_upload(address: str) -> requests.Response:
    return requests.post(f"{address}/v1/videos", timeout=60)


@contextlib.contextmanager
def slow_upload(address: str) -> Iterator[None]:
    """Begin an upload and leave it at that; the connection is closed in the end."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/videos HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n"
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n".encode())
        yield


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and SIGTERM")
def test_a_killed_server_goes_on_with_its_video(command, host, tmp_path: Path, portrait_file: Path, tone) -> None:
    sound, kept = tone("speech.wav", seconds=1.2), tmp_path / "kept"
    files = {"image_reference": portrait_file.read_bytes(), "audio_reference": sound.read_bytes()}
    options = {"steps": 1, "size": 256, "seed": 5}
    with serving(command, "--folder", str(kept), "--no-watermark", "--max-uploads", "1") as (process, address):
        with slow_upload(address):
            refused = wait_for(lambda: answer.json() if (answer := empty_upload(address)).status_code == 429 else None)
            assert refused["error"]["code"] == "queue_full"
        wait_for(lambda: empty_upload(address).status_code == 400)  # a free place again
        job = requests.post(f"{address}/v1/videos", files=files, data=options, timeout=60).json()
        place = f"/v1/videos/{job['id']}"
        wait_for(lambda: requests.get(address + place, timeout=60).json()["progress"] > 30)
        process.kill()  # SIGKILL
    assert list(kept.glob("videos/*/.video.mp4.part/clip-*"))  # what is finished lies there
    with serving(command, "--folder", str(kept), "--no-watermark") as (process, address):
        wait_for(lambda: requests.get(address + place, timeout=60).json()["status"] == "completed")
        (tmp_path / "served.mp4").write_bytes(requests.get(f"{address}{place}/content", timeout=60).content)
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == ExitStatus.TERMINATED
    host.animate(portrait_file, sound, **options).save(tmp_path / "own.mp4", marks=Marks(watermark=False))
    assert frames_digest(tmp_path / "served.mp4") == frames_digest(tmp_path / "own.mp4")
    assert [path.name for path in kept.glob("videos/*/*")] == ["video.mp4"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
def test_an_address_of_others_needs_a_token(host: str, capsys, monkeypatch) -> None:
    monkeypatch.delenv("CYBERHOST_TOKEN", raising=False)
    assert main(["serve", "--host", host]) == ExitStatus.USAGE
    assert "--token" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded(capsys, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port, "--folder", str(tmp_path), "--model", "nothing"]) == ExitStatus.INPUT
    err = capsys.readouterr().err
    assert port in err and err.count("\n") == 1

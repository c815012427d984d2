"""Live sessions over a websocket: samples in, pieces of an MP4 out, and everything that is refused."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving_helpers import frames_digest, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from cyberhost_model import OutputError
from cyberhost_model.marks.container import read_tags
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.audio import load_audio
from cyberhost_model.media.fragments import mime_type, pieces
from cyberhost_model.media.pcm import PcmFormat
from cyberhost_model.media.video_reader import probe_video, read_frames
from cyberhost_model.serving.failures import RequestFailed
from cyberhost_model.serving.live_stream import LiveStream
from cyberhost_model.serving.sessions import read_start, take_sound
from cyberhost_model.serving.settings import ServingConfig
from cyberhost_model.serving.turns import Turns
from data_helpers import voice

RATE, WAIT = 16_000, 60
SMALL = {"size": 256, "steps": 1, "seed": 3}
pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes for a second input of ffmpeg")


def samples(seconds: float) -> bytes:
    return (voice(seconds) * 32767).astype("<i2").tobytes()


@contextmanager
def talking(address: str, picture: Path | bytes | None = None, **start: Any) -> Iterator[ClientConnection]:
    """A session that has begun, as far as it is let."""
    place = address.replace("http", "ws") + "v1/sessions"
    with connect(place, open_timeout=WAIT, close_timeout=5, max_size=None) as socket:
        socket.send(json.dumps({"type": "start", "rate": RATE, **SMALL, **start}))
        if picture is not None:
            socket.send(picture if isinstance(picture, bytes) else picture.read_bytes())
        yield socket


def told(socket: ClientConnection, kind: str, video: list[bytes] | None = None) -> dict[str, Any]:
    """The next message of a kind; pieces of the video on the way are kept."""
    while True:
        message = socket.recv(timeout=WAIT)
        if isinstance(message, bytes):
            assert video is not None, "video before it was expected"
            video.append(message)
        elif (said := json.loads(message))["type"] == kind:
            return said
        else:
            assert said["type"] == "state" or video is not None, said


def refused(socket: ClientConnection) -> tuple[int, str, str | None]:
    """The error of a session -> the code it is closed with, and what is told."""
    error = told(socket, "error", [])["error"]
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=WAIT)
    assert closed.value.rcvd is not None and "\n" not in error["message"]
    return closed.value.rcvd.code, error["code"], error["param"]


def test_samples_in_and_fragments_out(address: str, portrait_file: Path, tmp_path: Path) -> None:
    sound, video = samples(0.48), list[bytes]()
    with talking(address, portrait_file) as socket:
        ready = told(socket, "ready")
        assert ready["size"] == "256x256" and ready["fps"] == 25 and ready["delay"] == pytest.approx(0.68)
        assert ready["steps"] == 1
        socket.send(sound[:8000])  # of which no frame is certain yet
        socket.send('{"type": "interrupt"}')
        assert told(socket, "interrupted")["time"] == 0
        for start in range(0, len(sound), 3000):
            socket.send(sound[start : start + 3000])
        socket.send('{"type": "end"}')
        assert told(socket, "video")["mime"].startswith('video/mp4; codecs="avc1.')
        assert told(socket, "ended", video) == {"type": "ended", "frames": 12, "time": 0.48}
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=WAIT)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
    assert b"moov" in video[0] and b"moof" not in video[0] and all(piece[4:8] == b"moof" for piece in video[1:])
    out = tmp_path / "out.mp4"
    out.write_bytes(b"".join(video))
    assert frames_digest(out)[0] == 12 and "AI generated" in read_tags(out)["comment"]
    heard = load_audio(out)
    assert heard.rate == 44_100 and 0.48 <= heard.duration < 0.65 and np.abs(heard.mono16k()).max() > 0.1


STARTS: list[tuple[Any, int, str | None]] = [
    ("no JSON", 400, None),
    (b"bytes", 400, None),
    ("[1]", 400, None),
    ("[" * 60_000, 400, None),
    ({"type": "end"}, 400, "type"),
    ({"rate": None}, 400, "rate"),
    ({"rate": 16_000.5}, 400, "rate"),
    ({"rate": True}, 400, "rate"),
    ({"rate": 1 << 40}, 400, "rate"),
    ({"channels": 3}, 400, "channels"),
    ({"seed": -1}, 400, "seed"),
    ({"seed": [3]}, 400, "seed"),
    ({"fps": "nan"}, 400, "fps"),
    ({"gesture": "wave"}, 400, "gesture"),
    ({"look_ahead": 3}, 400, "look_ahead"),
    ({"picture": "/etc/passwd"}, 400, "picture"),
    ({"size": 2048}, 413, "size"),
    ({"token": "\ud800"}, 401, None),
    ({"token": None}, 401, None),
]


@pytest.mark.parametrize(("change", "status", "param"), STARTS)
def test_a_beginning_that_is_refused(change: Any, status: int, param: str | None) -> None:
    said = {"type": "start", "rate": RATE, "token": "hush"}
    texts = {"text": json.dumps({**said, **change}) if isinstance(change, dict) else change}
    message = {"bytes": change} if isinstance(change, bytes) else texts
    with pytest.raises(RequestFailed) as failed:
        read_start(ServingConfig(token="hush"), message, "")
    assert (failed.value.failure.status, failed.value.failure.param) == (status, param)


def test_a_beginning_with_options_and_token() -> None:
    config = ServingConfig(token="hüsh")
    message = {"type": "start", "rate": 48_000, "channels": 2, "seed": 3, "blink": False, "steps": None, "clip": 6}
    start = read_start(config, {"text": json.dumps({**message, "token": "hüsh"})}, "")
    assert start.form == PcmFormat(48_000, 2) and start.options == {"seed": 3, "blink": False, "clip": 6}
    assert read_start(config, {"text": json.dumps(message)}, "Bearer hüsh".encode().decode("latin-1")) == start


def test_errors_have_a_message_and_a_code(address: str, portrait_file: Path, picture_file: Path) -> None:
    with talking(address, size=2048) as socket:
        assert refused(socket) == (4413, "too_large", "size")
    with talking(address, b"no picture") as socket:
        assert refused(socket) == (4422, "input", "image_reference")
    with talking(address, picture_file) as socket:
        assert refused(socket) == (4422, "no_face", "image_reference")
    with talking(address) as socket:
        socket.send("no bytes")
        assert refused(socket) == (4400, "invalid_request", "image_reference")
    with talking(address, portrait_file) as socket:
        told(socket, "ready")
        with talking(address) as another:
            assert refused(another) == (4429, "queue_full", None)
        socket.send('{"type": "sing"}')
        assert refused(socket) == (4400, "invalid_request", "type")


def test_pages_of_other_sites_may_not_talk(address: str) -> None:
    place = address.replace("http", "ws") + "v1/sessions"
    with pytest.raises(InvalidStatus) as refusal:
        connect(place, additional_headers={"Origin": "https://example.org"}, open_timeout=WAIT)
    assert refusal.value.response.status_code == 403


class Shown:
    """Stands for a live session: frames of noise, as bright as the picture, that cost nothing."""

    size, fps, steps, delay, warnings = (64, 64), 25.0, 1, 0.0, ()

    def __init__(self, picture: np.ndarray | None = None, **options: Any) -> None:
        self.bright = 128 if picture is None else int(picture.mean())
        self.heard, self.shown, self.closed = 0.0, 0, False

    @property
    def time(self) -> float:
        return self.shown / self.fps

    def push(self, block: np.ndarray, rate: int) -> None:
        self.heard += len(block) / rate

    def close(self) -> None:
        self.closed = True

    def frames(self) -> Iterator[tuple[np.ndarray, float]]:
        rng = np.random.default_rng(self.shown)
        while self.time < self.heard:
            self.shown += 1
            noise = rng.integers(-30, 31, (64, 64, 1)) + self.bright
            yield np.repeat(noise, 3, 2).astype(np.uint8), (self.shown - 1) / self.fps


class Unhurried(Shown):
    """It hears all that is said, and shows nothing of it yet."""

    def frames(self) -> Iterator[tuple[np.ndarray, float]]:
        return iter(())


class ShownHost:
    """Stands for a model."""

    live: type[Shown] = Shown


class UnhurriedHost(ShownHost):
    """Stands for a model that is far slower than what it hears."""

    live = Unhurried


def test_nothing_is_made_for_who_does_not_read() -> None:
    session: Any = Shown()
    with LiveStream(session, PcmFormat(RATE), Marks(watermark=False), {}, threading.Lock()) as stream:
        stream.push(bytes(2 * RATE * 20))
        read = stream.pieces()
        header = next(read)
        assert mime_type(header).endswith('mp4a.40.2"')

        def stands() -> bool:
            before = stream.frames
            time.sleep(0.3)
            return before == stream.frames > 0

        assert wait_for(stands, WAIT)
        assert session.shown < 25 * 8 and stream.ahead > 12
        stream.end()
        rest = list(read)  # who reads again gets all of it
        assert session.shown == 25 * 20 and len(rest) > 60
    with LiveStream(session, PcmFormat(RATE), Marks(), {}, threading.Lock()) as stream:
        stream.end()
        assert list(stream.pieces()) == []


def test_sessions_are_not_mixed_up(run_server: Callable[..., str], tmp_path: Path) -> None:
    address, clients = run_server(ShownHost(), max_sessions=6), 6
    bright: dict[int, float] = {}

    def speak(number: int) -> None:
        picture, video = io.BytesIO(), list[bytes]()
        Image.new("L", (64, 64), 40 + 30 * number).save(picture, "png")
        with talking(address, picture.getvalue()) as socket:
            told(socket, "ready")
            socket.send(bytes(2 * RATE))
            socket.send('{"type": "end"}')
            assert told(socket, "ended", video)["frames"] == 25
        out = tmp_path / f"{number}.mp4"
        out.write_bytes(b"".join(video))
        bright[number] = float(np.mean([frames.mean() for frames in read_frames(probe_video(out))]))

    threads = [threading.Thread(target=speak, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert bright == pytest.approx({number: 40 + 30 * number for number in range(clients)}, abs=3)


def test_a_client_that_sends_on_without_a_frame_is_ended(run_server: Callable[..., str], portrait_file: Path) -> None:
    with talking(run_server(UnhurriedHost()), portrait_file) as socket:
        told(socket, "ready")
        with contextlib.suppress(ConnectionClosed):
            for _ in range(60):  # seconds
                socket.send(bytes(2 * RATE))
        assert refused(socket) == (4413, "too_far_ahead", None)


@pytest.mark.parametrize(
    ("seconds", "odd", "code"), [(0.5, b"x", "invalid_request"), (18, b"", "too_far_ahead"), (41, b"", "too_long")]
)
def test_sound_that_is_refused(seconds: float, odd: bytes, code: str) -> None:
    session: Any = Shown()
    stream = LiveStream(session, PcmFormat(RATE, 2), Marks(), {}, threading.Lock())
    config, sound = ServingConfig(max_live=40), bytes(round(4 * RATE * seconds))
    with pytest.raises(RequestFailed) as failed:
        for _ in range(3):
            take_sound(config, stream, sound + odd)
    assert failed.value.failure.code == code


def test_videos_wait_for_sessions() -> None:
    turns, said = Turns(), list[str]()

    def video() -> None:
        with turns.model:
            turns.give_way(lambda: said.append("looks"))
            said.append("goes on")

    with turns.session():
        thread = threading.Thread(target=video, daemon=True)
        thread.start()
        assert wait_for(lambda: said, WAIT) == ["looks"] * len(said)
        with turns.model:  # free while the video waits
            assert "goes on" not in said
    thread.join(WAIT)
    assert said[-1] == "goes on"


def test_a_stream_that_breaks_off() -> None:
    for data in (b"\0\0\0\x10mdat", b"\0\0", b"\0\0\0\x01mdat"):
        with pytest.raises(OutputError, match="breaks off"):
            list(pieces(io.BytesIO(data)))
    with pytest.raises(OutputError, match=r"H\.264"):
        mime_type(b"ftyp")

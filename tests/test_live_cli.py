"""`cyberhost live`: sound through a pipe, video out of one; a microphone and a player by stand-ins."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.ndimage
import soundfile

from cyberhost_cli import live
from cyberhost_cli import main as cli
from cyberhost_cli.console import Console
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_model import InputError, OutputError
from cyberhost_model.marks.container import read_tags
from cyberhost_model.marks.marking import Marks
from cyberhost_model.marks.watermark import detect
from cyberhost_model.media import live_writer, watchdog
from cyberhost_model.media.audio import load_audio
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.live_writer import LiveWriter
from cyberhost_model.media.pcm import PcmFormat, read_wav_header
from data_helpers import voice

RATE, SIDE = 16_000, 256
QUICK = ["--size", str(SIDE), "--steps", "1"]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes for a second input of ffmpeg")


def wav(samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV", subtype=subtype)
    return out.getvalue()


def frames_of(video: Path) -> np.ndarray:
    arguments = ["-v", "error", "-i", str(video), "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    data = subprocess.run([ffmpeg_binary(), *arguments, "-"], capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, SIDE, SIDE, 3)


@pytest.mark.parametrize(("subtype", "kind"), [("PCM_16", "s16le"), ("FLOAT", "f32le")])
def test_a_wav_whose_length_is_not_known(subtype, kind):
    sound = np.stack([voice(0.2), -voice(0.2)], 1)
    data = bytearray(wav(sound, 22_050, subtype))
    data[4:8] = b"\xff" * 4  # as a program that still records writes it
    stream = io.BufferedReader(io.BytesIO(bytes(data)))  # type: ignore[arg-type]
    form = read_wav_header(stream)
    assert form == PcmFormat(22_050, 2, kind)
    np.testing.assert_allclose(np.concatenate(list(form.blocks(stream))), sound, atol=1e-4)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"RIFF", "ends within"),
        (b"fLaC" + bytes(40), "is no WAV"),
        (wav(voice(0.1), subtype="PCM_24"), "24 bits"),
        (b"RIFF\0\0\0\0WAVEdata" + bytes(8), "does not say"),
        (b"RIFF\0\0\0\0WAVEjunk" + struct.pack("<I", 1 << 31), "damaged"),
        (b"RIFF\0\0\0\0WAVEfmt \x04\0\0\0" + bytes(4), "damaged"),
    ],
)
def test_standard_input_that_is_no_sound(data, words):
    with pytest.raises(InputError, match=words):
        read_wav_header(io.BytesIO(data))


@pytest.mark.parametrize(
    "options",
    [
        ["-o", "-"],
        ["--stdin", "--mic", "-o", "-"],
        ["--stdin"],
        ["--stdin", "--window", "-o", "-"],
        ["--stdin", "--raw", "-o", "out.mp4"],
        ["--stdin", "--json", "-o", "-"],
        ["--stdin", "--c2pa", "-o", "-"],
        ["--mic", "--rate", "16000", "-o", "-"],
    ],
)
def test_options_that_do_not_fit(options, portrait_file, capsys):
    assert cli.main(["live", str(portrait_file), *options]) == ExitStatus.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_a_kind_of_file_that_live_does_not_write_is_told_before_the_model_is_loaded(
    portrait_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("cyberhost_model.CyberHost.from_pretrained", lambda *a, **k: pytest.fail("loaded"))
    out = tmp_path / "out.mkv"
    assert cli.main(["live", str(portrait_file), "--stdin", "--rate", str(RATE), "-o", str(out)]) == ExitStatus.OUTPUT
    assert "must end in .mp4, .m4v or .mov" in capsys.readouterr().err and not out.exists()


def test_raw_samples_in_pieces_and_fragments_out(command, portrait_file, tmp_path):
    """The video has the sound, a frame for every begun 40 ms, and the marks."""
    sound, out = (voice(0.7) * 32767).astype("<i2").tobytes(), tmp_path / "out.mp4"
    options = ["--stdin", "--rate", str(RATE), "-o", "-", *QUICK]
    with (
        out.open("wb") as file,
        subprocess.Popen(
            [*command, "live", str(portrait_file), *options], stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE
        ) as process,
    ):
        assert process.stdin is not None and process.stderr is not None
        for start in range(0, len(sound), 3001):  # pieces that end within a sample
            process.stdin.write(sound[start : start + 3001])
            process.stdin.flush()
        process.stdin.close()
        words = process.stderr.read().decode()
        assert process.wait(timeout=600) == 0, words
    assert "18 frames, 0.72 s of video" in words
    frames = frames_of(out)
    assert len(frames) == 18 and detect(frames).found
    assert "AI generated" in read_tags(out)["comment"]
    heard = load_audio(out)
    assert heard.rate == 44_100 and 0.7 <= heard.duration < 0.9 and np.abs(heard.mono16k()).max() > 0.1
    assert b"moof" in out.read_bytes()


@pytest.fixture
def connected(monkeypatch):
    """As on Windows: no second pipe, and nothing that tells whether a reader is gone."""
    monkeypatch.setattr(live_writer, "_CONNECTS", True)
    monkeypatch.delattr(select, "poll")


@pytest.mark.parametrize("stream", [False, True])
def test_without_a_second_pipe_the_sound_goes_over_a_connection(stream, connected, tmp_path):
    out = tmp_path / "out.mp4"
    sound = voice(1.0).astype(np.float32)[:, None]
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(out.open("wb")) if stream else out
        writer = stack.enter_context(LiveWriter(target, (SIDE, SIDE), 25, RATE))
        for i in range(25):
            writer.add(np.full((SIDE, SIDE, 3), 10 * i, np.uint8), sound[640 * i : 640 * (i + 1)])
    frames, heard = frames_of(out), load_audio(out)
    assert len(frames) == 25 and frames[20].mean() > 150 > 50 > frames[2].mean()
    spoken = heard.mono16k()[:15_000]
    assert 0.95 <= heard.duration < 1.2 and np.corrcoef(spoken, sound[:15_000, 0])[0, 1] > 0.9


@pytest.fixture
def way(request):
    """How the sound goes to ffmpeg: by "pipe" or "connection"."""
    if request.param == "connection":
        request.getfixturevalue("connected")


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("stream", [False, True])
def test_sound_is_where_its_frames_are(stream, rate, tmp_path):
    out, noise = tmp_path / "out.mp4", np.random.default_rng(0).normal(0, 0.1, (rate, 1)).astype(np.float32)
    noise = scipy.ndimage.gaussian_filter1d(noise, 2, axis=0)
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(out.open("wb")) if stream else out
        writer = stack.enter_context(LiveWriter(target, (64, 64), 25, rate))
        for block in np.split(noise, 25):
            writer.add(np.zeros((64, 64, 3), np.uint8), block)
    arguments = ["-v", "error", "-i", str(out), "-f", "f32le", "-ac", "1", "-ar", str(rate), "-"]
    heard = np.frombuffer(subprocess.run([ffmpeg_binary(), *arguments], capture_output=True, check=True).stdout, "<f4")
    lag = np.correlate(heard, noise[:, 0], "full").argmax() - (len(noise) - 1)
    assert abs(lag) <= rate // 2000, "half a millisecond"


def test_fragments_come_while_frames_are_made():
    frame, sound = np.zeros((64, 64, 3), np.uint8), np.zeros((640, 1), np.float32)
    reader, end = os.pipe()
    seen = b""
    with os.fdopen(end, "wb") as out, LiveWriter(out, (64, 64), 25, RATE) as writer:
        for _ in range(50):
            writer.add(frame, sound)
        while b"moof" not in seen:  # before the writer is closed
            seen += os.read(reader, 1 << 16)
    os.close(reader)
    assert seen[4:8] == b"ftyp"


def test_a_frame_is_not_kept_for_long():
    """At 16 kHz too, of which 1,024 samples are 64 ms: the frames that are written before the first fragment comes."""
    frame, sound = np.zeros((64, 64, 3), np.uint8), np.zeros((640, 1), np.float32)
    reader, end = os.pipe()
    seen, count = b"", 0
    with os.fdopen(end, "wb") as out, LiveWriter(out, (64, 64), 25, RATE) as writer:
        while b"moof" not in seen:
            writer.add(frame, sound)
            count += 1
            if select.select([reader], [], [], 5.0 if count >= 4 else 0.2)[0]:
                seen += os.read(reader, 1 << 16)
    os.close(reader)
    assert count <= 5


def add_many(writer: LiveWriter) -> None:
    for _ in range(1000):
        writer.add(np.zeros((64, 64, 3), np.uint8), np.zeros((640, 1), np.float32))


@pytest.mark.parametrize(("way", "stopped"), [("pipe", False), ("pipe", True), ("connection", False)], indirect=["way"])
def test_a_reader_that_goes_away(way, stopped):
    """ffmpeg need not notice: after an error it may wait for sound while frames wait for it."""
    reader, end = os.pipe()
    os.close(reader)
    with os.fdopen(end, "wb") as out, pytest.raises(OutputError, match="standard output"):
        with LiveWriter(out, (64, 64), 25, RATE) as writer:
            if stopped:
                writer._process.send_signal(signal.SIGSTOP)
            add_many(writer)


@pytest.mark.parametrize("way", ["pipe", "connection"], indirect=True)
def test_an_ffmpeg_that_stops_ends_a_file(way, tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "IDLE_SECONDS", 1.0)
    with pytest.raises(OutputError, match="stopped taking frames"):
        with LiveWriter(tmp_path / "out.mp4", (64, 64), 25, RATE) as writer:
            writer._process.send_signal(signal.SIGSTOP)
            add_many(writer)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def given(monkeypatch):
    """Call it with what standard input of this process gives."""

    def give(data: bytes) -> None:
        stream = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream, closed=False, isatty=lambda: False))

    return give


def test_raw_frames(portrait_file, given, capsysbinary):
    given(wav(voice(0.3)))
    assert cli.main(["live", str(portrait_file), "--stdin", "--raw", "-o", "-", "-q", *QUICK]) == ExitStatus.OK
    shown = capsysbinary.readouterr()
    assert len(shown.out) == 8 * SIDE * SIDE * 3 and shown.err == b""


@pytest.mark.parametrize(("data", "rate"), [(wav(np.zeros(0)), []), (b"", ["--rate", str(RATE)])])
def test_a_sound_without_a_sample_writes_nothing(data, rate, portrait_file, given, tmp_path, capsys):
    given(data)
    out = tmp_path / "out.mp4"
    assert cli.main(["live", str(portrait_file), "--stdin", *rate, "-o", str(out), "-q", *QUICK]) == ExitStatus.INPUT
    said = capsys.readouterr().err
    assert "ends before the first sample" in said and said.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_standard_input_that_is_no_wav(portrait_file, given, capsys):
    given(b"not a sound at all")
    assert cli.main(["live", str(portrait_file), "--stdin", "-o", "-", *QUICK]) == ExitStatus.INPUT
    assert "--rate" in capsys.readouterr().err


def test_a_microphone(portrait_file, tmp_path, monkeypatch, capsys):
    """A stand-in for the library: it hears half a second, then Ctrl-C is typed."""

    class InputStream:
        def __init__(self, rate, channels, dtype, callback):
            assert (rate, channels, dtype) == (RATE, 1, "float32")
            self.callback = callback

        def __enter__(self):
            for piece in np.array_split(voice(0.5)[:, None], 9):
                self.callback(piece, len(piece), None, None)
            signal.raise_signal(signal.SIGINT)
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setitem(
        sys.modules, "sounddevice", SimpleNamespace(InputStream=InputStream, PortAudioError=RuntimeError)
    )
    out = tmp_path / "out.mp4"
    code = cli.main(["live", str(portrait_file), "--mic", "-o", str(out), *QUICK])
    assert code == ExitStatus.OK, capsys.readouterr().err
    assert len(frames_of(out)) == 13 and "AI generated" in read_tags(out)["comment"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_without_the_library_or_the_player(portrait_file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert cli.main(["live", str(portrait_file), "--mic", "-o", "out.mp4"]) == ExitStatus.RESOURCE
    assert "cyberhost[live]" in capsys.readouterr().err


def test_a_window(portrait_file, given, tmp_path, monkeypatch):
    """A stand-in for ffplay keeps what it is given."""
    shown, player = tmp_path / "shown.mp4", tmp_path / "ffplay"
    player.write_text(f"#!/bin/sh\ncat > '{shown}'\n")
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    given(wav(voice(0.2)))
    assert cli.main(["live", str(portrait_file), "--stdin", "--window", *QUICK]) == ExitStatus.OK
    assert len(frames_of(shown)) == 5


def test_a_pipe_that_stays_silent_at_first_is_not_behind(monkeypatch, capsys):
    """Time is counted from the first sound; a machine that is too slow for it is told once."""
    clock = [0.0]

    class Session:
        delay, fps, shown = 0.0, 25.0, 0

        def push(self, samples, rate):
            self.heard = len(samples) / rate

        def frames(self):
            for _ in range(25):
                clock[0] += slowness / 25
                self.shown += 1
                yield np.zeros((4, 4, 3), np.uint8), self.shown / 25

        def close(self):
            self.frames = lambda: iter(())

    def blocks():
        clock[0] += 60.0
        for _ in range(4):
            yield np.zeros((RATE, 1), np.float32)

    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    for slowness, told in ((1.0, 0), (3.0, 1)):
        count, seconds = live.show(Session(), blocks(), RATE, Marks(watermark=False), lambda *_: None, Console())
        assert (count, round(seconds)) == (100, 4 * slowness)
        assert capsys.readouterr().err.count("behind the sound") == told

"""`cyberhost animate` from end to end on the embedded model: good input, odd input, and being stopped in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

import cyberhost_model
from cyberhost_cli import main as cli
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_model.media.audio import load_audio
from cyberhost_model.media.ffmpeg import ffmpeg_binary

WEIGHTS = Path(cyberhost_model.__file__).parent / "weights" / "tiny"
pytestmark = pytest.mark.skipif(not list(WEIGHTS.rglob("*.safetensors")), reason="this checkout has no embedded model")
POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and limits")
QUICK = ["--steps", "1", "--json"]

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def animate(loaded_once, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process; returns the JSON object it prints."""

    def run(picture: Path, sound: Path, *options: str) -> dict[str, Any]:
        out = tmp_path / "out.mp4"
        code = cli.main(["animate", str(picture), str(sound), "-o", str(out), *QUICK, *options])
        shown = capsys.readouterr()
        assert code == ExitStatus.OK, shown.err
        assert shown.out.count("\n") == 1
        told = json.loads(shown.out)
        assert told["output"] == str(out) and out.is_file()
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".cyberhost")] == []
        return told

    return run


def count_frames(video: Path, size: list[int]) -> int:
    command = [ffmpeg_binary(), "-v", "error", "-i", str(video), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return len(data) // (size[0] * size[1] * 3)


def test_speech(animate: Run, portrait_file: Path, speech_file: Path, tmp_path: Path) -> None:
    samples, rate = soundfile.read(speech_file)
    short = tmp_path / "short.wav"
    soundfile.write(str(short), samples[: round(0.9 * rate)], rate)
    told = animate(portrait_file, short, "--seed", "3")
    assert set(told) == {"output", "frames", "fps", "size", "seconds", "duration", "seed", "model", "warnings"}
    assert (told["frames"], told["fps"], told["seed"], told["model"]) == (23, 25.0, 3, "tiny")
    assert told["duration"] == pytest.approx(0.9) and told["warnings"] == []
    assert told["size"][0] == told["size"][1]  # the picture is square
    assert count_frames(Path(told["output"]), told["size"]) == 23
    muxed = load_audio(told["output"])
    assert muxed.rate == rate and abs(muxed.duration - 0.9) <= 1 / 25


def test_picture_keeps_its_aspect(animate: Run, portrait_file: Path, tmp_path: Path, tone) -> None:
    portrait = Image.open(portrait_file).crop((64, 0, 384, 426))
    portrait.save(tmp_path / "upright.webp")
    width, height = animate(tmp_path / "upright.webp", tone(seconds=0.05))["size"]
    assert abs(width - height * 320 / 426) <= 2  # one pixel of the network's canvas, shown twice as large


ODD_SOUNDS: dict[str, tuple[dict[str, float], str]] = {
    "0.05 s": ({"seconds": 0.05}, ""),
    "8 kHz": ({"rate": 8_000, "seconds": 0.2}, ""),
    "8 channels": ({"rate": 48_000, "channels": 8, "seconds": 0.2}, ""),
    "silent": ({"gain": 0.0, "seconds": 0.2}, "silent"),
    "clipped": ({"gain": 9.0, "seconds": 0.2}, "clipped"),
}


@pytest.mark.parametrize("name", ODD_SOUNDS)
def test_odd_sounds(name: str, animate: Run, portrait_file: Path, tone) -> None:
    making, warning = ODD_SOUNDS[name]
    path = tone(**making)
    told = animate(portrait_file, path)
    sound = load_audio(path)
    assert told["frames"] == sound.n_frames(25)
    assert abs(load_audio(told["output"]).duration - sound.duration) <= 1 / 25
    assert all(warning in line for line in told["warnings"]) and bool(told["warnings"]) == bool(warning)


def test_12000x9000(animate: Run, portrait_file: Path, tmp_path: Path, tone) -> None:
    portrait = Image.open(portrait_file).crop((0, 0, 512, 384))
    portrait.resize((12000, 9000), Image.Resampling.NEAREST).save(tmp_path / "large.jpg")
    width, height = animate(tmp_path / "large.jpg", tone(seconds=0.05))["size"]
    assert abs(width - height * 4 / 3) <= 2


def test_several_faces(animate: Run, portrait_file: Path, tmp_path: Path, tone) -> None:
    portrait = Image.open(portrait_file)
    pair = Image.new("RGB", (1024, 512), "grey")
    pair.paste(portrait, (0, 0))
    pair.paste(portrait.resize((480, 480)), (530, 16))
    pair.save(tmp_path / "pair.png")
    told = animate(tmp_path / "pair.png", tone(seconds=0.05))
    assert len(told["warnings"]) == 1 and "largest" in told["warnings"][0]


def test_no_face(picture_file: Path, tone, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    code = cli.main(["animate", str(picture_file), str(tone()), "-o", str(out), *QUICK])
    shown = capsys.readouterr()
    assert code == ExitStatus.NO_FACE and shown.out == ""
    assert shown.err.count("\n") == 1 and "no face" in shown.err
    assert not out.exists()


def test_unknown_model(portrait_file: Path, tone, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "model"
    empty.mkdir()
    out = str(tmp_path / "out.mp4")
    code = cli.main(["animate", str(portrait_file), str(tone()), "-o", out, "--model", str(empty)])
    shown = capsys.readouterr()
    assert code == ExitStatus.MODEL and shown.err.count("\n") == 1


def test_device_that_is_not_there(
    portrait_file: Path, tone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    out = str(tmp_path / "out.mp4")
    code = cli.main(["animate", str(portrait_file), str(tone()), "-o", out, "--device", "cuda"])
    shown = capsys.readouterr()
    assert code == ExitStatus.RESOURCE and shown.err.count("\n") == 1


def start(command: list[str], picture: Path, sound: Path, out: Path, *before: str) -> subprocess.Popen[str]:
    call = [*before, *command, "animate", str(picture), str(sound), "-o", str(out), "--steps", "1", "--overwrite"]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def one_line(errors: str) -> bool:
    return errors.count("\n") == 1 and errors.startswith("cyberhost: ")


@POSIX
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle(
    ctrl_c_stops, command: list[str], portrait_file: Path, tone, tmp_path: Path, number: int, code: int
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    old = folder / "out.mp4"
    old.write_text("old")
    process = start(command, portrait_file, tone(seconds=60.0), old)
    state, deadline = folder / ".out.mp4.part", time.monotonic() + 300
    while not list(state.glob("clip-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)  # until a clip is finished
    assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code and one_line(errors) and "goes on from second" in errors, errors
    assert sorted(folder.iterdir()) == [state, old] and old.read_text() == "old"
    assert not list(state.glob(".cyberhost*"))  # the segment that was being written is gone


@POSIX
def test_disk_full(command: list[str], portrait_file: Path, tone, tmp_path: Path) -> None:
    """A limit of 32 KB a file: enough for the sound's samples, and not for the video."""
    folder = tmp_path / "out"
    folder.mkdir()
    limit = ["sh", "-c", 'ulimit -f 64; exec "$@"', "sh"]
    process = start(command, portrait_file, tone(seconds=0.3), folder / "out.mp4", *limit)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == ExitStatus.OUTPUT and one_line(errors) and "free some space" in errors, errors
    assert list(folder.iterdir()) == []


def test_same_seed_same_video(animate: Run, portrait_file: Path, tone) -> None:
    sound = tone(seconds=0.2)
    videos = []
    for seed in ("1", "1"):
        told = animate(portrait_file, sound, "--seed", seed, "--overwrite", "--no-c2pa")
        videos.append(np.frombuffer(Path(told["output"]).read_bytes(), dtype=np.uint8))
    np.testing.assert_array_equal(*videos)

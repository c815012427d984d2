"""The MP4 that is written: length, sound, colour; and that nothing is left behind when writing fails."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cyberhost_model.errors import OutputError
from cyberhost_model.media import watchdog
from cyberhost_model.media.audio import Sound, load_audio
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.video_writer import VideoWriter, check_output, write_video

POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and limits")


def flat(count: int, size: tuple[int, int] = (64, 48), colour: tuple[int, int, int] = (128, 128, 128)) -> Iterator:
    for _ in range(count):
        yield np.full((size[1], size[0], 3), colour, dtype=np.uint8)


def noise(count: int, size: tuple[int, int] = (256, 256)) -> Iterator:
    random = np.random.default_rng(0)
    for _ in range(count):
        yield random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)


def facts(path: Path) -> str:
    return subprocess.run([ffmpeg_binary(), "-hide_banner", "-i", str(path)], capture_output=True, text=True).stderr


def read_frames(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Decode as a player does: by the colour tags in the file."""
    command = [ffmpeg_binary(), "-v", "error", "-i", str(path), "-vf", "scale=in_range=tv:flags=accurate_rnd+bicubic"]
    data = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    ).stdout
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, size[1], size[0], 3)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_length_rate_and_layout(tone, tmp_path: Path, rate: int) -> None:
    sound = load_audio(tone(rate=rate, seconds=1.13))
    out = write_video(flat(sound.n_frames(25)), tmp_path / "out.mp4", 25, sound)
    text = facts(out)
    assert "h264" in text and "yuv420p(tv, bt709" in text and "25 fps" in text
    assert "aac" in text and f"{rate} Hz" in text
    assert len(read_frames(out, (64, 48))) == 29
    muxed = load_audio(out)
    assert muxed.rate == rate and abs(muxed.duration - 1.13) < 1 / 25
    data = out.read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")  # +faststart
    assert [p.name for p in tmp_path.iterdir() if "cyberhost" in p.name] == []


def test_sound_is_in_sync(tmp_path: Path) -> None:
    samples = np.zeros(48_000)
    samples[24_000:24_480] = 0.8 * np.sin(np.arange(480) * 0.3)
    out = write_video(flat(25), tmp_path / "click.mp4", 25, Sound.from_samples(samples, 48_000))
    heard = np.abs(load_audio(out).samples[:, 0])
    assert abs(int(np.argmax(heard > 0.3)) - 24_000) < 240  # 5 ms


def test_sound_of_a_video_that_begins_late_begins_as_late(tone, tmp_path: Path) -> None:
    source = tmp_path / "late.mkv"
    pattern = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=10:duration=2"]
    late = ["-itsoffset", "0.6", "-i", str(tone(seconds=1.0))]
    subprocess.run(
        [ffmpeg_binary(), "-v", "error", *pattern, *late, "-map", "0:v", "-map", "1:a", str(source)], check=True
    )
    sound = load_audio(source)
    out = write_video(flat(sound.n_frames(25)), tmp_path / "out.mp4", 25, sound)
    heard = np.abs(load_audio(out).samples[:, 0])
    assert abs(int(np.argmax(heard > 0.1)) / 16_000 - 0.6) < 0.02 and abs(len(heard) / 16_000 - 1.6) < 1 / 25


@pytest.mark.parametrize("channels", [3, 8])
def test_many_channels_become_stereo(tone, tmp_path: Path, channels: int) -> None:
    out = write_video(flat(13), tmp_path / "out.mp4", 25, tone(channels=channels, rate=48_000))
    assert load_audio(out).channels == 2


def test_very_short_sound(tone, tmp_path: Path) -> None:
    sound = load_audio(tone(seconds=0.05))
    out = write_video(flat(sound.n_frames(25)), tmp_path / "short.mp4", 25, sound)
    assert len(read_frames(out, (64, 48))) == 2 and load_audio(out).length == 800


def test_a_minute_and_a_rate_that_is_no_whole_number(tone, tmp_path: Path) -> None:
    sound = load_audio(tone(seconds=60.0, rate=8_000))
    out = write_video(flat(sound.n_frames(30000 / 1001), (32, 32)), tmp_path / "out.mp4", 30000 / 1001, sound)
    duration = re.search(r"Duration: 00:(\d+):([\d.]+)", facts(out))
    assert duration is not None
    assert abs(int(duration[1]) * 60 + float(duration[2]) - 60.0) < 1 / 25


def test_flat_colours_come_back(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (224, 172, 140), (90, 60, 45)]
    for colour in colours:
        out = write_video(flat(3, (64, 48), colour), tmp_path / "c.mp4", overwrite=True)
        back = read_frames(out, (64, 48)).astype(int)
        assert np.abs(back - colour).max() <= 3, (colour, back[0, 0])


def test_progress_counts_frames(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    write_video(flat(4), tmp_path / "a.mp4", total=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_wrong_frames(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even"):
        VideoWriter(tmp_path / "a.mp4", (63, 48))
    with pytest.raises(ValueError, match="at least one"):
        write_video(iter(()), tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="uint8"), VideoWriter(tmp_path / "a.mp4", (64, 48)) as writer:
        writer.add(np.zeros((48, 64, 3), dtype=np.float32))
    assert list(tmp_path.iterdir()) == []


def test_check_output(tmp_path: Path) -> None:
    cases = {
        tmp_path / "none" / "a.mp4": "does not exist",
        tmp_path / "a.avi": "must end in",
        tmp_path / "a": "must end in",
        tmp_path: "is a folder",
    }
    for path, words in cases.items():
        with pytest.raises(OutputError, match=words):
            check_output(path)
    there = tmp_path / "there.mp4"
    there.write_text("kept")
    with pytest.raises(OutputError, match="--overwrite"):
        check_output(there)
    assert check_output(there, overwrite=True) == there and there.read_text() == "kept"


def unwritable_folder(tmp_path: Path) -> Path:
    if os.geteuid() == 0:
        return Path("/proc")  # root may write to any ordinary folder
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    return folder


@POSIX
def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = unwritable_folder(tmp_path)
    if not folder.is_dir():
        pytest.skip("no folder here that root cannot write to")
    with pytest.raises(OutputError, match="cannot be written"):
        check_output(folder / "a.mp4")


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_nothing_is_left_when_the_frames_fail(tmp_path: Path, error: BaseException) -> None:
    def frames() -> Iterator:
        yield from flat(3)
        raise error

    old = tmp_path / "a.mp4"
    old.write_text("old")
    with pytest.raises(type(error)):
        write_video(frames(), old, overwrite=True)
    assert old.read_text() == "old" and list(tmp_path.iterdir()) == [old]


@POSIX
def test_disk_full(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *options], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        with pytest.raises(OutputError, match="no space left"):
            write_video(noise(60), folder / "a.mp4")
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@POSIX
def test_file_size_limit(tmp_path: Path) -> None:
    """The quota of a shell (`ulimit -f`), which needs no rights to set."""
    script = (
        "import resource, sys, numpy as np\n"
        "from cyberhost_model.media.video_writer import write_video\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "r = np.random.default_rng(0)\n"
        "frames = (r.integers(0, 255, (256, 256, 3), dtype=np.uint8) for _ in range(60))\n"
        "try:\n    write_video(frames, sys.argv[1])\n"
        "except Exception as e:\n    print(type(e).__name__, e)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.mp4")], capture_output=True, text=True)
    assert run.stdout.startswith("OutputError") and "free some space" in run.stdout, run.stdout + run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no process is stopped by a signal here")
@pytest.mark.parametrize("moment", ["while frames are added", "at the end"])
def test_ffmpeg_that_stops_taking_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    monkeypatch.setattr(watchdog, "IDLE_SECONDS", 1.0)
    with pytest.raises(OutputError, match="stopped taking frames"):
        with VideoWriter(tmp_path / "out.mp4", (256, 256)) as writer:
            writer._process.send_signal(signal.SIGSTOP)
            for frame in noise(60 if moment == "while frames are added" else 1):
                writer.add(frame)
    assert list(tmp_path.iterdir()) == []


def test_ffmpeg_that_dies(tmp_path: Path) -> None:
    with pytest.raises(OutputError), VideoWriter(tmp_path / "a.mp4", (256, 256)) as writer:
        assert writer._process is not None
        writer._process.kill()
        for frame in noise(20):
            writer.add(frame)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A command of endless frames, run by the real entry point, and the folder that it writes to; ffmpeg works by
    now.
    """
    (tmp_path / "endless.py").write_text(
        "import sys, numpy as np\n"
        "from cyberhost_model.media.video_writer import write_video\n"
        "def run(out: str) -> None:\n"
        "    frame = np.zeros((64, 64, 3), dtype=np.uint8)\n"
        "    def frames():\n        while True:\n            yield frame\n"
        "    write_video(frames(), out, progress=lambda d, t: d % 200 == 0 and print('working', flush=True))\n"
    )
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from cyberhost_cli import main\n"
        "main.COMMANDS['endless'] = main.Entry('endless', 'run', '')\n"
        "sys.exit(main.main(['endless', sys.argv[2]]))\n"
    )
    folder = tmp_path / "out"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), str(folder / "a.mp4")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    assert len(list(folder.iterdir())) == 1  # the temporary file
    yield process, folder
    process.kill()
    process.communicate()


@POSIX
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_in_the_middle_of_writing(ctrl_c_stops, endless, number: int, code: int) -> None:
    process, folder = endless
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code
    assert errors.count("\n") == 1 and "cyberhost: " in errors
    assert list(folder.iterdir()) == []


@POSIX
def test_a_job_in_the_background_does_not_hear_ctrl_c(ctrl_c_ignored, endless) -> None:
    """A shell starts such a job with SIGINT ignored. That is kept: Ctrl-C is for what runs in the foreground."""
    process, folder = endless
    process.send_signal(signal.SIGINT)
    assert [process.stdout.readline() for _ in range(5)] == ["working\n"] * 5
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=300)
    assert process.returncode == 143 and list(folder.iterdir()) == []


def test_memory_does_not_grow(tmp_path: Path) -> None:
    """1500 frames of 256x256 would be 295 MB if they were kept."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_video(flat(1500, (256, 256)), tmp_path / "a.mp4")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 60_000 * (1024 if sys.platform == "darwin" else 1)

"""Films of every kind that cameras and phones make, and readers that never wait for ever."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest

from cyberhost_cli import main as cli
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_model.errors import InputError
from cyberhost_model.media import watchdog
from cyberhost_model.media.audio import load_audio
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.video_reader import probe_video, read_frames, stream_frames

BARS = ["-f", "lavfi", "-i", "smptebars=size=128x96:rate=25:duration=0.4"]
TO_BT709 = "scale=out_color_matrix=bt709:out_range=tv"
X265 = ["-c:v", "libx265", "-x265-params", "log-level=none:crf=10", "-pix_fmt", "yuv420p10le"]
BT709 = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]


def make(path: Path, *options: str, source: list[str] = BARS) -> Path:
    subprocess.run([ffmpeg_binary(), "-v", "error", "-y", *source, *options, str(path)], check=True)
    return path


def plain(tmp_path: Path) -> Path:
    """An 8-bit film of the bars."""
    return make(tmp_path / "plain.mp4", "-vf", TO_BT709, "-c:v", "libx264", "-crf", "10", *BT709)


def frames(path: Path) -> np.ndarray:
    return np.stack(list(stream_frames(path))).astype(int)


def every_frame(path: Path) -> np.ndarray:
    return np.concatenate([batch.copy() for batch in read_frames(probe_video(path))]).astype(int)


@pytest.mark.parametrize("kind", ["10 bit", "12 bit", "10 bit 4:4:4", "ProRes", "ProRes 4444", "VP9 10 bit"])
def test_deep_films_are_read_like_those_of_8_bit(tmp_path: Path, kind: str) -> None:
    name, options = {
        "10 bit": ("a.mp4", X265),
        "12 bit": ("a.mp4", [*X265[:-1], "yuv420p12le"]),
        "10 bit 4:4:4": ("a.mp4", ["-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv444p10le"]),
        "ProRes": ("a.mov", ["-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"]),
        "ProRes 4444": ("a.mov", ["-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"]),
        "VP9 10 bit": ("a.webm", ["-c:v", "libvpx-vp9", "-crf", "10", "-pix_fmt", "yuv420p10le"]),
    }[kind]
    path = make(tmp_path / name, "-vf", TO_BT709, *options, *BT709)
    for read in (frames, every_frame):
        found, expected = read(path), read(plain(tmp_path))
        assert found.shape == expected.shape == (10, 96, 128, 3)
        assert np.abs(found - expected).mean() < 5  # 4:4:4 has sharper colours at the bars' edges


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_tone_mapped(tmp_path: Path, transfer: str) -> None:
    """A film whose diffuse white is that of HDR looks like the one it was made from."""
    to_hdr = f"{TO_BT709},zscale=tin=bt709:pin=bt709:min=bt709:rin=limited:p=bt709:t=linear:npl=203"
    to_hdr += ",format=gbrpf32le,zscale=p=bt2020"
    to_hdr += f",zscale=t={transfer}:m=bt2020nc:r=limited:npl=203,format=yuv420p10le"
    tags = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:range=limited"
    options = ["-vf", to_hdr, "-c:v", "libx265", "-x265-params", f"log-level=none:crf=10:{tags}"]
    path = make(tmp_path / "hdr.mp4", *options, "-color_trc", transfer, "-color_primaries", "bt2020")
    for read in (frames, every_frame):
        found, expected = read(path), read(plain(tmp_path))
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < 20


def test_variable_rate(tmp_path: Path) -> None:
    """The first ten frames at 25 a second, the others at 5: the last one is shown from 1.0 s on."""
    path = tmp_path / "vfr.mkv"
    slower = "setpts='if(lt(N,10),N/25,0.4+(N-10)/5)/TB'"
    source = ["-f", "lavfi", "-i", "testsrc=size=96x64:rate=25:duration=0.56"]
    make(path, "-vf", slower, "-fps_mode", "vfr", "-c:v", "libx264", source=source)
    found = frames(path)
    assert 26 <= len(found) <= 31
    assert probe_video(path).packets == 14


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotated(tmp_path: Path, turn: int) -> None:
    upright = make(tmp_path / "upright.mp4", "-vf", TO_BT709, *BT709)
    source = ["-display_rotation", str(turn), "-i", str(upright)]
    found = frames(make(tmp_path / "turned.mp4", "-c", "copy", source=source))
    expected = np.rot90(frames(upright), turn // 90, (1, 2))
    assert found.shape == expected.shape and np.abs(found - expected).mean() < 3


@pytest.mark.skipif(os.name == "nt", reason="POSIX files")
def test_what_is_no_ordinary_file_ends_with_3_at_once(
    tmp_path: Path, portrait_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    out = str(tmp_path / "out.mp4")
    for command in (
        ["reenact", str(portrait_file), str(fifo), "-o", out],
        ["reenact", str(fifo), str(fifo), "-o", out],
        ["animate", str(portrait_file), str(fifo), "-o", out],
        ["multimodal", str(portrait_file), "--audio", "/dev/zero", "-o", out],
        ["template", "extract", str(fifo), "-o", str(tmp_path / "out.npz")],
        ["reenact", str(portrait_file), "https://example.org/film.mp4", "-o", out],
    ):
        assert cli.main(command) == ExitStatus.INPUT
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1 and ("is a pipe" in shown or "is a device" in shown or "is an address" in shown)
    assert [path.name for path in tmp_path.iterdir()] == ["fifo.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_ffmpeg_that_stops_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "IDLE_SECONDS", 2.0)
    path = make(tmp_path / "long.mp4", source=["-f", "lavfi", "-i", "testsrc=size=640x480:rate=25:duration=8"])
    film = stream_frames(path)
    next(film)
    (child,) = psutil.Process().children()
    child.suspend()
    with pytest.raises(InputError, match=r"long\.mp4: ffmpeg stopped"):
        for _ in film:
            pass


def test_two_inputs_from_standard_input_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["animate", "-", "-", "-o", str(tmp_path / "out.mp4")]) == ExitStatus.USAGE
    assert "standard input" in capsys.readouterr().err


CASES = Path(__file__).parents[2] / "shared" / "cases"


@pytest.mark.skipif(not CASES.is_dir(), reason="no folder of cases")
def test_the_cases() -> None:
    assert len(frames(CASES / "ten_bit.mp4")) in (15, 16)
    assert abs(load_audio(CASES / "concat.mp3").duration - 6.6) < 0.1

"""Subtitles as a track, another background, an alpha channel."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cyberhost_model.errors import InputError
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.output_form import OutputForm
from cyberhost_model.media.subtitles import load_subtitles
from cyberhost_model.media.video_writer import write_video

SRT = "1\n00:00:00,040 --> 00:00:00,200\nHello there\n\n2\n00:01:00,000 --> 00:01:01,000\nafter the end\n"
VTT = "WEBVTT\n\n00:00.040 --> 00:00.200\nHello there\n\n01:00.000 --> 01:01.000\nafter the end\n"
ASS = (
    "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\nStyle: Default,Arial,20\n\n"
    "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    "Dialogue: 0,0:00:00.04,0:00:00.20,Default,,0,0,0,,Hello there\n"
)


def run_ffmpeg(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([ffmpeg_binary(), "-nostdin", *arguments], capture_output=True, timeout=60, check=False)


def streams(video: Path) -> str:
    return run_ffmpeg("-i", str(video)).stderr.decode()


def frames(count: int = 6, channels: int = 3) -> list[np.ndarray]:
    return [np.full((64, 64, channels), 20 * number + 40, np.uint8) for number in range(count)]


@pytest.fixture
def subtitles(tmp_path: Path):
    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return make


@pytest.mark.parametrize(
    ("name", "text", "out", "codec"),
    [
        ("a.eng.srt", SRT, "a.mp4", "mov_text"),
        ("a.vtt", VTT, "a.mov", "mov_text"),
        ("a.srt", SRT, "a.webm", "webvtt"),
        ("a.ass", ASS, "a.mkv", "ass"),
    ],
)
def test_subtitles_are_a_track(subtitles, tone, tmp_path: Path, name: str, text: str, out: str, codec: str) -> None:
    video = tmp_path / out
    kept = load_subtitles(subtitles(name, text))
    write_video(frames(), video, 25, tone(seconds=0.24), subtitles=kept, sound_seconds=0.24)
    told = streams(video)
    assert re.search(rf"Subtitle: {codec}", told)
    assert "Duration: 00:00:00." in told, "what comes after the video's end is dropped"
    assert ("(eng)" in told) == (".eng." in name)
    shown = run_ffmpeg("-v", "error", "-i", str(video), "-f", "srt", "-").stdout.decode()
    assert "Hello there" in shown and "after the end" not in shown
    assert shown.replace("\r", "").split("\n")[1].startswith("00:00:00,040 --> 00:00:00,200")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.srt", "Hello there\n", "holds no subtitles"),
        ("a.srt", "1\n00:00:02,000 --> 00:00:01,000\nHello\n", "line 2: ends before it begins"),
        ("a.vtt", SRT, "is no VTT file"),
        ("a.ass", SRT, "is no ASS file"),
        ("a.txt", SRT, "must be a file whose name ends in"),
    ],
)
def test_bad_subtitles(subtitles, name: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_subtitles(subtitles(name, text))


def test_subtitles_that_are_no_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes(SRT.replace("Hello", "Grüße").encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        load_subtitles(tmp_path / "a.srt")
    with pytest.raises(InputError, match="no such file of subtitles"):
        load_subtitles(tmp_path / "b.srt")


@pytest.mark.parametrize("out", ["a.webm", "a.mov"])
def test_alpha_comes_back(tmp_path: Path, out: str) -> None:
    video, shown = tmp_path / out, frames(4, 4)
    for frame in shown:
        frame[:, :32, 3] = 0
        frame[:, 32:, 3] = 200
    write_video(shown, video, 25)
    decoder = ["-c:v", "libvpx-vp9"] if out.endswith("webm") else []
    raw = run_ffmpeg("-v", "error", *decoder, "-i", str(video), "-pix_fmt", "rgba", "-f", "rawvideo", "-").stdout
    read = np.frombuffer(raw, np.uint8).reshape(4, 64, 64, 4)
    assert read[..., :28, 3].max() <= 4 and abs(read[..., 36:, 3].astype(int) - 200).max() <= 4
    assert np.abs(read[:, 32, 48, 0].astype(int) - [40, 60, 80, 100]).max() <= 4


def test_the_label_is_opaque_and_the_watermark_leaves_the_alpha() -> None:
    clear = np.zeros((128, 160, 4), np.uint8)
    clear[60:, :80] = 200
    (marked,) = Marks(label=True).frames([clear])
    assert marked.shape == clear.shape and marked.dtype == np.uint8
    corner = marked[:24, 80:]
    assert (corner[..., 3] == 255).mean() > 0.3 and corner[..., :3].max() > 200, "words in a field that is seen"
    assert np.array_equal(marked[60:, ..., 3], clear[60:, ..., 3])
    (unlabelled,) = Marks().frames([clear])
    assert np.array_equal(unlabelled[..., 3], clear[..., 3]) and not np.array_equal(unlabelled, clear)


def test_forms_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in .webm \(VP9\) or .mov"):
        OutputForm(alpha=True).check(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="give one of them"):
        OutputForm(alpha=True, background="green").check(tmp_path / "a.webm")
    with pytest.raises(InputError, match="neither a colour"):
        OutputForm(background=str(tmp_path / "nothing.png")).open_background()
    assert OutputForm(background="#00b140").open_background().tolist() == [[[0, 177, 64]]]

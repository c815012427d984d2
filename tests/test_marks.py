"""Marks of a video: the invisible watermark and the visible label, on frames and on files that the model made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cyberhost_model.marks import run_code
from cyberhost_model.marks.label import draw_label
from cyberhost_model.marks.marking import Marks
from cyberhost_model.marks.watermark import FALSE_ALARM, detect, mark, marked
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.video_reader import stream_frames
from cyberhost_model.media.video_writer import write_video
from data_helpers import voice


@pytest.fixture(scope="module")
def plain(portrait_file: Path) -> list[np.ndarray]:
    """Twelve frames of a portrait that comes nearer."""
    with Image.open(portrait_file) as picture:
        whole = picture.convert("RGB")
    w, h = whole.size
    return [np.asarray(whole.resize((384, 384), box=(i, i, w - i, h - i))) for i in range(12)]


RUN = 0x0C3FA91E


@pytest.fixture(scope="module")
def written(plain: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(marked(plain, RUN), tmp_path_factory.mktemp("marked") / "marked.mp4", 24)


ATTACKS = {
    "crf 30": ["-crf", "30"],
    "half size": ["-vf", "scale=iw/2:ih/2"],
    "half size, crf 25": ["-vf", "scale=iw/2:ih/2", "-crf", "25"],
    "cropped": ["-vf", "crop=346:346"],
    "cropped at a corner": ["-vf", "crop=346:346:0:0", "-crf", "26"],
    "30 a second": ["-vf", "fps=30"],
    "mirrored": ["-vf", "hflip"],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_watermark_outlives(written: Path, tmp_path: Path, attack: str) -> None:
    attacked = tmp_path / "attacked.mp4"
    command = [ffmpeg_binary(), "-v", "error", "-i", str(written), *ATTACKS[attack], str(attacked)]
    subprocess.run(command, check=True)
    found = detect(stream_frames(attacked))
    assert found.found and found.mirrored == (attack == "mirrored")
    assert found.scale == pytest.approx(346 / 384 if "cropped" in attack else 1, abs=0.015)
    assert found.run in (RUN, None) and (found.run == RUN or "-crf" in ATTACKS[attack] or "half" in attack)


def test_a_mark_without_a_number_is_found_and_none_is_read(plain: list[np.ndarray]) -> None:
    found = detect([mark(plain[0])])
    assert found.found and found.run is None


def test_the_code_of_a_number_is_read_through_noise() -> None:
    noise = np.random.default_rng(3)
    for run in (0, 1, RUN, 2**32 - 1):
        agreement = run_code.signs(run, 2412) * 0.22 + noise.normal(0, 0.7, 2412)  # a score of about 15
        assert run_code.read(agreement / np.sqrt(2412 / 2)).run == run
    for _ in range(20):
        assert run_code.read(noise.normal(0, 0.7, 2412) / np.sqrt(2412 / 2)).run is None


def test_the_same_facts_make_the_same_number() -> None:
    first, again = run_code.number_of({"picture": "a", "seed": "0"}), run_code.number_of({"seed": "0", "picture": "a"})
    assert first == again != run_code.number_of({"picture": "a", "seed": "1"})
    assert run_code.name_of(RUN) == "0c3fa91e"


def test_the_watermark_is_faint_and_changes_brightness_alone(plain: list[np.ndarray]) -> None:
    difference = mark(plain[0]).astype(float) - plain[0]
    assert 10 * np.log10(255**2 / np.square(difference).mean()) > 39
    inside = (plain[0] > 12).all(2) & (plain[0] < 243).all(2)
    assert np.abs(difference[inside] - difference[inside].mean(1, keepdims=True)).max() == 0


def test_frames_without_the_watermark_are_not_called_marked(plain: list[np.ndarray]) -> None:
    assert not detect(plain).found
    noise = np.random.default_rng(1)
    for _ in range(10):  # the bound is small in all of them, not just under the limit
        made = noise.normal(128, 30, (200, 160, 3)).clip(0, 255).astype(np.uint8)
        assert detect([made]).false_alarm > 100 * FALSE_ALARM
    stripes = np.broadcast_to((np.arange(256)[:, None] // 4 % 2 * 255)[..., None], (256, 256, 3)).astype(np.uint8)
    assert not detect([np.ascontiguousarray(stripes)]).found
    assert not detect([np.zeros((256, 256, 3), np.uint8)]).found


def test_frames_too_small_for_the_watermark_stay_as_they_are() -> None:
    small = np.full((48, 320, 3), 90, np.uint8)
    assert mark(small) is small
    assert not detect([small]).found


@pytest.mark.parametrize(("width", "height"), [(256, 256), (768, 512), (144, 256), (64, 64)])
def test_the_label_is_in_the_upper_right_corner(width: int, height: int) -> None:
    grey = np.full((height, width, 3), 140, np.uint8)
    changed = (draw_label(grey) != grey).any(2)
    rows, columns = np.nonzero(changed)
    assert columns.max() < width and rows.max() < height * 0.4
    assert columns.min() > width * 0.4 or width < 256
    letters = (draw_label(grey).min(2) > 170).nonzero()[0]
    assert np.ptp(letters) + 1 >= (8 if width > 64 else 2)  # pixels from the top of the letters to their foot


def test_videos_carry_the_watermark_unless_it_is_left_out(host, picture: np.ndarray, tmp_path: Path) -> None:
    def make(name: str, **options) -> Path:
        made = host.animate(picture, Sound.from_samples(voice(0.3, 0), 16000), steps=1, size=256)
        return made.save(tmp_path / name, **options)

    assert detect(stream_frames(make("marked.mp4"))).found
    assert not detect(stream_frames(make("plain.mp4", marks=Marks(watermark=False)))).found
    first = next(iter(stream_frames(make("label.mp4", marks=Marks(label=True)))))
    plain = next(iter(stream_frames(tmp_path / "marked.mp4")))
    difference = np.abs(first.astype(int) - plain).mean(2)
    assert difference[:30, -100:].mean() > 20 > 2 > difference[60:].mean()

"""Reading videos: rates, damage, odd sizes, and which frames belong together."""

from __future__ import annotations

import itertools
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from eval_helpers import moving, write

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.features.alignment import Resampler, match_frames, matching_frame
from cyberhost_model.lab.evaluation.features.extraction import (
    VideoInput,
    extract_features,
    extract_picture_features,
    first_frame,
    resize_frame,
)
from cyberhost_model.lab.evaluation.features.extractor import VideoInfo
from cyberhost_model.lab.evaluation.metrics.psnr import psnr
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.video_reader import MAX_BATCH, VideoStream, probe_video, read_frames


def ffmpeg(*arguments: object) -> None:
    subprocess.run([ffmpeg_binary(), "-v", "error", "-y", *map(str, arguments)], check=True)


def read(path: Path) -> np.ndarray:
    return np.concatenate([batch.copy() for batch in read_frames(probe_video(path))])


@pytest.mark.parametrize(
    ("fps", "rate"),
    [(25, Fraction(25)), (29.97, Fraction(30000, 1001)), (23.976, Fraction(24000, 1001)), (12.5, Fraction(25, 2))],
)
def test_rates_and_frames(fps: float, rate: Fraction, tmp_path: Path) -> None:
    frames = moving(0, MAX_BATCH + 5)
    path = write(tmp_path / "a.mp4", frames, fps)
    assert probe_video(path) == VideoStream(path, rate, MAX_BATCH + 5, False, False)
    back = read(path)
    assert back.shape == frames.shape and back.dtype == np.uint8
    assert min(psnr(a, b) for a, b in zip(back, frames, strict=True)) > 30
    assert np.array_equal(first_frame(probe_video(path)), back[0])


def test_sound_turned_pictures_and_other_containers(tmp_path: Path) -> None:
    tone = Sound.from_samples(0.1 * np.sin(np.arange(12800) / 9).astype(np.float32), 16000)
    path = write(tmp_path / "a.mp4", moving(0, 20), sound=tone)
    assert probe_video(path).has_sound and probe_video(path).packets == 20
    ffmpeg("-display_rotation", "90", "-i", path, "-c", "copy", tmp_path / "turned.mp4")
    assert read(tmp_path / "turned.mp4").shape == (20, 96, 64, 3)
    ffmpeg("-i", path, "-c:v", "mjpeg", "-an", tmp_path / "a.avi")
    assert read(tmp_path / "a.avi").shape == (20, 64, 96, 3) and not probe_video(tmp_path / "a.avi").has_sound


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4"])
def test_a_variable_rate_is_put_on_a_grid(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving(0, 60))
    ffmpeg("-i", path, "-vf", "setpts='if(lt(N,30),N,30+(N-30)*3)/25/TB'", "-fps_mode", "vfr", tmp_path / name)
    stream = probe_video(tmp_path / name)
    assert stream.variable and stream.packets == 60
    frames = read(tmp_path / name)
    assert abs(len(frames) / stream.fps - (30 / 25 + 30 * 3 / 25)) < 0.25  # seconds
    still = [np.array_equal(a, b) for a, b in itertools.pairwise(frames)]
    assert (
        np.mean(still[: len(still) // 4]) < 0.2 < np.mean(still[-len(still) // 2 :])
    )  # the slow half shows each frame for longer


def test_damaged_and_other_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving(0, 40))
    cut = tmp_path / "cut.mkv"
    ffmpeg("-i", path, "-c:v", "libx264", "-g", "10", cut)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 6 // 10])
    assert 0 < len(read(cut)) < 40
    for name, content in {
        "junk.mp4": b"junk" * 99,
        "empty.mp4": b"",
        "list.mp4": b"#EXTM3U\nfile:///etc/passwd\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as told:
            probe_video(tmp_path / name)
        assert "\n" not in str(told.value) and name in str(told.value)
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "tone.m4a")
    with pytest.raises(InputError, match="holds no video"):
        probe_video(tmp_path / "tone.m4a")
    with pytest.raises(InputError, match="no such video"):
        probe_video(tmp_path / "none.mp4")


@pytest.mark.parametrize(("fps", "other"), [(25, 25), (25, 30), (30, 25), (25, 50), (24, 60), (30000 / 1001, 25)])
def test_frames_that_belong_together(fps: float, other: float) -> None:
    count, seconds = 100, 100 / fps
    pairs = match_frames(count, fps, round(seconds * other), other)
    assert [matching_frame(i, fps, other) for i in range(len(pairs))] == pairs[:, 1].tolist()
    middle = (pairs[:, 0] + 0.5) / fps
    assert np.all(pairs[:, 1] / other <= middle + 1e-9) and np.all(middle <= (pairs[:, 1] + 1) / other + 1e-9)
    grid = Resampler(fps, other)
    taken = [place for i in range(count) for place in grid.positions(i)]
    assert taken == list(range(len(taken))) and abs(len(taken) - grid.resampled_count(count)) <= 1
    assert np.allclose(len(taken) / other, seconds, atol=1 / other)


class Seen:
    """Keeps what it is shown."""

    uses_audio = False

    def __init__(self, name: str, fps: float | None = None, fail: str = "") -> None:
        self.name, self.digest, self.fps, self.fail = name, name, fps, fail

    def begin(self, info: VideoInfo) -> None:
        self.info, self.frames = info, []

    def push(self, frames: np.ndarray, *others: np.ndarray) -> None:
        if self.fail:
            raise InputError(self.fail)
        self.frames += [np.stack(together) for together in zip(frames, *others, strict=True)]

    def finish(self) -> dict[str, np.ndarray]:
        return {"frames": np.stack(self.frames), "fps": np.array(self.info.fps), "expected": np.array(self.info.frames)}


def test_one_pass_feeds_everyone(tmp_path: Path) -> None:
    """A generated video of another rate, size and length; the same extractor looks at both; one fails."""
    generated = probe_video(write(tmp_path / "g.mp4", moving(0, 24, (48, 32)), 12.5))
    reference = probe_video(write(tmp_path / "r.mp4", moving(0, 40), 25))
    own, even, poor, both = Seen("own"), Seen("even", 25.0), Seen("poor", fail="too dark"), Seen("both")
    ticks: list[int] = []
    made, true, pairs = extract_features(
        VideoInput(generated, None, [own, even, poor]),
        VideoInput(reference, None, [own, even]),
        [both],
        lambda: ticks.append(1),
    )
    assert len(ticks) == 64
    frames, others = read(tmp_path / "g.mp4"), read(tmp_path / "r.mp4")
    assert np.array_equal(made.features["own"]["frames"][:, 0], frames) and np.array_equal(
        true.features["own"]["frames"][:, 0], others
    )
    assert (
        np.array_equal(made.features["even"]["frames"][:, 0], np.repeat(frames, 2, 0))
        and made.features["even"]["expected"] == 48
    )
    assert made.reasons == {"poor": "too dark"} and not true.reasons and "poor" not in made.features
    expected = match_frames(24, 12.5, 40, 25)
    together = pairs.features["both"]["frames"]
    assert len(together) == len(expected) == 20
    for (i, j), (a, b) in zip(expected, together, strict=True):
        assert np.array_equal(a, resize_frame(frames[i], (96, 64))) and np.array_equal(b, others[j])


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    picture = moving(0, 1)[0]
    made = extract_picture_features(picture, tmp_path / "a.png", [Seen("own")])
    assert np.array_equal(made.features["own"]["frames"], picture[None, None])

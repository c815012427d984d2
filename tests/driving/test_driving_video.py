"""Driving videos: any rate and shape in, one person's key points out, everything odd told."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from PIL import Image

from cyberhost_model.driving.video import read_poses
from cyberhost_model.errors import InputError
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.video_reader import stream_frames
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.perception.detector import WholeBodyDetector
from cyberhost_model.perception.keypoint_detector import KeypointDetector
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.perception.registry import embedded_detector

SIDE = 256
SWAY = 14.0  # pixels, once in two seconds


@pytest.fixture(scope="module")
def detector() -> KeypointDetector:
    return embedded_detector()


@pytest.fixture(scope="module")
def person(portrait_file: Path) -> np.ndarray:
    return np.asarray(Image.open(portrait_file).convert("RGB").resize((SIDE, SIDE)))


def sway(t: float) -> float:
    return SWAY * float(np.sin(np.pi * t))


def swaying(picture: np.ndarray, frames: int, fps: float = 25, start: int = 0) -> Iterator[np.ndarray]:
    for i in range(start, start + frames):
        shift = np.array([[1, 0, sway(i / fps)], [0, 1, 0]], np.float32)
        yield cv2.warpAffine(picture, shift, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def encode(path: Path, *arguments: str) -> Path:
    subprocess.run([ffmpeg_binary(), "-nostdin", "-v", "error", "-y", *arguments, str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def film(person: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of 25 frames each."""
    return write_video(swaying(person, 50), tmp_path_factory.mktemp("film") / "film.mp4", 25)


def eyes(sequence, step: int = 1) -> np.ndarray:
    """x of the point between the eyes in pixels, less that of the first frame."""
    x = sequence.body[::step, [14, 15], 0].mean(1) * sequence.size[0]
    return x - x[0]


def test_the_person_is_followed_in_time(film: Path, detector: KeypointDetector) -> None:
    told: list[int] = []
    poses = read_poses(film, detector, lambda done, total: told.append(done))
    assert (poses.fps, poses.size, len(poses), poses.warnings) == (25, (SIDE, SIDE), 50, [])
    assert told == list(range(1, 51))
    np.testing.assert_allclose(eyes(poses), [sway(i / 25) for i in range(50)], atol=1.5)
    assert poses.face_score.min() > 0.5 and poses.body_score[:, [2, 5]].min() > 0.3


def test_following_is_as_good_as_searching(
    film: Path, detector: KeypointDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cyberhost_model.driving import video as follow

    followed = read_poses(film, detector, max_seconds=1)
    monkeypatch.setattr(follow, "SEARCH", 1)
    searched = read_poses(film, detector, max_seconds=1)
    seen = (followed.scores() > 0.3) & (searched.scores() > 0.3)
    assert seen.sum() > 0.95 * max((followed.scores() > 0.3).sum(), (searched.scores() > 0.3).sum())
    assert SIDE * np.linalg.norm(followed.points() - searched.points(), axis=-1)[seen].mean() < 0.5


@pytest.mark.parametrize("fps", [10, 60])
def test_any_frame_rate(fps: int, person: np.ndarray, detector: KeypointDetector, tmp_path: Path) -> None:
    poses = read_poses(write_video(swaying(person, fps, fps), tmp_path / "film.mp4", fps), detector)
    assert len(poses) == 25
    # A slow video is seen at its own times and put in between; a repeated frame would stand still, up to a tenth of a
    # second behind.
    np.testing.assert_allclose(eyes(poses)[:22], [sway(i / 25) for i in range(22)], atol=2.5)
    assert np.abs(np.diff(eyes(poses)[:22])).min() > 0.0 or fps == 60


def test_a_variable_rate_a_late_picture_a_turned_phone_and_wide_pixels(film: Path, tmp_path: Path) -> None:
    shape = lambda path, **k: (lambda f: (len(f), f[0].shape))(list(stream_frames(path, **k)))  # noqa: E731
    source = str(film)
    variable = encode(
        tmp_path / "variable.mkv", "-i", source, "-vf", "select='not(between(n,10,19))'", "-fps_mode", "vfr"
    )
    assert shape(variable) == (50, (SIDE, SIDE, 3))
    late = encode(
        tmp_path / "late.mkv",
        "-f",
        "lavfi",
        "-t",
        "2.4",
        "-i",
        "sine",
        "-itsoffset",
        "0.4",
        "-i",
        source,
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "copy",
    )
    assert shape(late)[0] == 60
    wide = encode(tmp_path / "wide.mp4", "-i", source, "-vf", "scale=128:256,setsar=2")
    assert shape(wide) == (50, (256, 256, 3))
    long = encode(tmp_path / "long.mp4", "-i", source, "-vf", "crop=256:128")
    turned = encode(tmp_path / "turned.mp4", "-display_rotation", "90", "-i", str(long), "-c", "copy")
    assert shape(turned) == (50, (256, 128, 3))
    assert shape(film, longest=64) == (50, (64, 64, 3))
    assert shape(film, max_seconds=0.4)[0] == 10


def test_cuts_and_gaps_are_told(person: np.ndarray, detector: KeypointDetector, tmp_path: Path) -> None:
    grey = [np.full((SIDE, SIDE, 3), 90, np.uint8)] * 20
    other = np.ascontiguousarray(person[:, ::-1] // 2 + 60)
    frames = [*swaying(person, 20), *grey, *swaying(other, 20)]
    poses = read_poses(write_video(frames, tmp_path / "cut.mp4", 25), detector)
    assert len(poses) == 60
    assert poses.warnings == [
        "nobody is seen at 0.80-1.60 s: there the driving says nothing",
        "the picture is cut at 0.80, 1.60 s: the pose jumps there; give a single shot",
    ]
    assert poses.scores()[20:40].max() == 0 and poses.face_score[40:].min() > 0.3


def test_several_people_are_told_and_the_same_one_is_followed(
    person: np.ndarray, detector: KeypointDetector, tmp_path: Path
) -> None:
    both = np.concatenate([person, np.full_like(person, 100)], 1)
    both[20:240, SIDE + 20 : SIDE + 240] = cv2.resize(person, (220, 220), interpolation=cv2.INTER_AREA)
    poses = read_poses(write_video([both] * 14, tmp_path / "two.mp4", 25), detector)
    assert poses.warnings == [
        "several people of similar size are seen at 0.00-0.56 s: the one with the largest face is followed"
    ]
    assert (poses.body[:, 0, 0] * poses.size[0] < SIDE).all()


def test_a_detector_that_finds_everybody_whole(tmp_path: Path) -> None:
    """As DWPose does: it is asked for each frame, and its scores may exceed 1."""

    class Finder(WholeBodyDetector):
        def people(self, frame: np.ndarray) -> list[Keypoints]:
            found = []
            for x, size in ((0.2, 0.3), (0.7, 0.2)) if frame[0, 0, 0] < 128 else ((0.7, 0.4), (0.2, 0.3)):
                k = Keypoints.empty()
                k.face[:] = np.random.default_rng(0).uniform(-0.5, 0.5, (68, 2)) * size + [x, 0.4]
                k.face_score[:] = 1.2
                found.append(k)
            return found

    frames = [np.full((64, 96, 3), 20, np.uint8)] * 3 + [np.full((64, 96, 3), 20 + n, np.uint8) for n in (1, 2, 3)]
    frames += [np.full((64, 96, 3), 25, np.uint8)]
    poses = read_poses(write_video(frames, tmp_path / "two.mp4", 25), Finder())
    assert poses.face_score.max() == 1
    assert np.abs(poses.face[..., 0].mean(1) - 0.2).max() < 0.05
    assert len(poses.warnings) == 1 and "several people" in poses.warnings[0]


def test_what_cannot_work(tmp_path: Path, detector: KeypointDetector) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            read_poses(path, detector)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)

    refused(tmp_path / "none.mp4", "no such video")
    refused(tmp_path, "is a folder")
    (tmp_path / "empty.mp4").write_bytes(b"")
    refused(tmp_path / "empty.mp4", "0 bytes")
    (tmp_path / "text.mp4").write_text("no video " * 50)
    refused(tmp_path / "text.mp4", "not a video that can be read")
    soundfile.write(tmp_path / "sound.wav", np.zeros(8000), 16_000)
    refused(tmp_path / "sound.wav", "holds no picture")
    sound = encode(tmp_path / "sound.mp4", "-i", str(tmp_path / "sound.wav"))
    refused(sound, "holds no picture")
    cover = encode(
        tmp_path / "cover.m4a",
        "-i",
        str(sound),
        "-f",
        "lavfi",
        "-i",
        "testsrc=s=64x64",
        "-frames:v",
        "1",
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "mjpeg",
        "-disposition:v:0",
        "attached_pic",
    )
    refused(cover, "holds no picture")
    nobody = encode(tmp_path / "nobody.mp4", "-f", "lavfi", "-t", "0.2", "-i", "testsrc2=s=128x128")
    refused(nobody, "nobody is found in it")


def test_a_damaged_video_gives_what_it_has(film: Path, detector: KeypointDetector, tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mkv", "-i", str(film), "-c:v", "mjpeg", "-q:v", "3")
    (tmp_path / "half.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    poses = read_poses(tmp_path / "half.mkv", detector)
    assert 5 < len(poses) < 45
    assert len(poses.warnings) == 1 and "parts of it are damaged (File ended prematurely)" in poses.warnings[0]


def test_ffmpeg_is_ended_when_nobody_reads_on(film: Path) -> None:
    frames = stream_frames(film)
    next(frames)
    frames.close()
    assert list(stream_frames(film, max_seconds=0.04))

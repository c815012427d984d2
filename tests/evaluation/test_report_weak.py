"""Weak seconds: planted ones are found where they are, a smooth video has none."""

import numpy as np
import pytest

from cyberhost_model.errors import OutputError
from cyberhost_model.lab.evaluation.report.single import check_page, frame_changes
from cyberhost_model.lab.evaluation.report.weak import (
    format_clock,
    merge_stretches,
    point_jitter,
    split_seconds,
    weak_faces,
    weak_hands,
    weak_jitter,
    weak_motion,
)
from cyberhost_model.media.video_writer import write_video

FPS = 25


def test_seconds_cover_all_frames():
    assert split_seconds(50, 25) == [(0, 25), (25, 50)]
    assert split_seconds(55, 25) == [(0, 25), (25, 55)], "a short rest belongs to the second before"
    assert split_seconds(60, 25) == [(0, 25), (25, 50), (50, 60)]
    assert split_seconds(3, 25) == [(0, 3)]
    assert split_seconds(90, 29.97)[1] == (30, 60)


def test_a_face_that_changes_and_one_that_is_lost():
    similarity = np.random.default_rng(0).normal(0.7, 0.02, 250)
    assert weak_faces(similarity, FPS) == []
    similarity[75:100] -= 0.3
    similarity[200:212] = np.nan
    lost, unlike = weak_faces(similarity, FPS)
    assert (lost.start, lost.kind, lost.words) == (8.0, "no face", "no face is found in 12 of 25 frames")
    assert (
        (unlike.start, unlike.stop) == (3.0, 4.0) and "similarity 0.4" in unlike.words and "usually 0.7" in unlike.words
    )


def test_hands_that_fade_and_hands_that_were_never_there():
    confidence = np.full(200, 0.8)
    confidence[100:150] = 0.2
    assert [(w.start, w.stop) for w in weak_hands(confidence, FPS)] == [(4.0, 5.0), (5.0, 6.0)]
    assert weak_hands(np.full(200, 0.05), FPS) == [] and weak_hands(np.zeros(200), FPS) == []


def test_shaking_is_the_noise_about_a_smooth_way():
    t = np.arange(2000)[:, None]
    way = np.stack([300 + 100 * np.sin(t / 12 + np.arange(21)), 200 + 60 * np.cos(t / 9 + np.arange(21))], -1)
    scores = np.ones(way.shape[:2])
    assert point_jitter(way, scores) == 0.0
    noisy = way + np.random.default_rng(0).normal(0, 2.0, way.shape)
    assert point_jitter(noisy, scores) == pytest.approx(2.0, rel=0.1)
    scores[:, 0] = 0
    noisy[:, 0] += 1e6 * (t % 2)
    assert point_jitter(noisy, scores) == pytest.approx(2.0, rel=0.1), "points that are not seen do not count"
    assert np.isnan(point_jitter(way[:4], scores[:4])) and np.isnan(point_jitter(way, np.zeros_like(scores)))


def test_a_shaking_second_stands_out_from_the_rest():
    shakes = {"hands": np.array([0.5, 0.6, 6.0, np.nan, 0.4]), "face": np.array([0.2, 0.2, 4.0, 0.2, 0.2])}
    (found,) = weak_jitter(shakes, FPS, 125)
    assert (found.start, found.stop, found.kind) == (2.0, 3.0, "jitter")
    assert found.words == "shaking from frame to frame (hands, face): up to 6.0 pixels of a frame 640 high, usually 0.6"
    assert weak_jitter({"hands": np.array([5.0, 5.5, 6.0])}, FPS, 75) == [], (
        "alike throughout: no second is weaker than the others"
    )


def test_a_picture_that_stands_still_in_a_real_file(tmp_path):
    random = np.random.default_rng(0)
    frames = [np.roll(random.integers(0, 255, (64, 64, 3), np.uint8), i, 1) // 2 + 60 for i in range(1)]
    frames = [np.roll(frames[0], 2 * i, 1) for i in range(50)]
    frames[20:35] = [frames[20]] * 15
    (found,) = weak_motion(frame_changes(write_video(frames, tmp_path / "still.mp4", FPS, crf=23)), FPS)
    assert found.kind == "frozen" and found.words.startswith("the picture stands still: 14 frames")
    assert found.start == pytest.approx(20 / FPS) and found.stop == pytest.approx(35 / FPS)


def test_stretches_are_joined_and_in_order():
    confidence = np.full(200, 0.8)
    confidence[100:150] = 0.2
    similarity = np.full(200, 0.7)
    similarity[25:50] = 0.2
    joined = merge_stretches(weak_hands(confidence, FPS) + weak_faces(similarity, FPS))
    assert [(w.start, w.stop, w.kind) for w in joined] == [(1.0, 2.0, "face"), (4.0, 6.0, "hands")]
    assert format_clock(4.24) == "0:04.2" and format_clock(3723.0) == "1:02:03.0" and format_clock(59.96) == "1:00.0"


def test_the_page_needs_a_name_and_a_folder(tmp_path):
    assert check_page(tmp_path / "a.html") == tmp_path / "a.html"
    assert (
        check_page(tmp_path) == tmp_path / "report.html"
        and check_page(tmp_path / "new") == tmp_path / "new" / "report.html"
    )
    (tmp_path / "old.html").touch()
    (tmp_path / "file").touch()
    for wrong in (
        tmp_path / "a.pdf",
        tmp_path / "no" / "a.html",
        tmp_path / "no" / "new",
        tmp_path / "old.html",
        tmp_path / "file",
    ):
        with pytest.raises(OutputError):
            check_page(wrong, overwrite=False)
    assert check_page(tmp_path / "old.html", overwrite=True) == tmp_path / "old.html"
    assert not (tmp_path / "new").exists()

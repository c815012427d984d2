"""Raw videos with planted faults become a dataset: each fault is found, and its reason is right."""

import dataclasses
import os
import shutil

import numpy as np
import pyarrow.parquet as parquet
import pytest
from raw_videos import SETTINGS, speaker

from cyberhost_model.errors import InputError, NetworkError
from cyberhost_model.lab.filmed.build import prepare_dataset
from cyberhost_model.lab.filmed.clip import correlation
from cyberhost_model.lab.filmed.labels import ALWAYS, read_labels
from cyberhost_model.lab.filmed.manifest import COLUMNS, MEANING, NAME, Reason, Row, read_manifest, read_table, schema
from cyberhost_model.lab.filmed.prepare import VIDEOS, Job, list_videos, load_networks, process_video, record_path
from cyberhost_model.lab.filmed.sound_checks import Synchrony
from cyberhost_model.lab.filmed.source import open_video, sound_between, to_rgb
from cyberhost_model.lab.training.filmed_clips import read_filmed
from cyberhost_model.perception.keypoints import VISIBLE

EXPECTED = {
    "good": ["accepted"],
    "variable": ["accepted"],
    "cuts": ["accepted", "no_hands", "cut_too_short"],
    "two": ["several_people"],
    "no_face": ["no_face"],
    "silent": ["silent"],
    "mute": ["no_audio"],
    "noise": ["no_speech"],
    "slow": ["low_frame_rate"],
    "still": ["still"],
    "short": ["cut_too_short"],
    "head": ["no_hands"],
    "truncated": ["cut_too_short", "truncated"],
    "text": ["undecodable"],
    "sound": ["no_video"],
}


def of(dataset, path) -> list[Row]:
    return [row for row in read_manifest(dataset) if row.source == str(path)]


@pytest.mark.parametrize("fault", EXPECTED)
def test_each_fault_is_found_and_its_reason_is_right(prepared, raw, fault):
    rows = of(prepared[0], raw[fault])
    assert [row.reason or row.status for row in rows] == EXPECTED[fault]
    assert all((row.reason is None) == row.accepted for row in rows)


def test_the_report_counts_and_names_what_is_broken(prepared, raw):
    _, report, warnings = prepared
    statuses = [s for expected in EXPECTED.values() for s in expected]
    assert report.videos == len(raw) and report.kept == 0
    assert report.accepted == statuses.count("accepted") and report.rejected == len(statuses) - report.accepted
    broken = {str(raw[name]) for name in ("truncated", "text", "sound")}
    assert {source for source, *_ in report.skipped} == broken
    assert len(warnings) == 3 and all(any(path in line for line in warnings) for path in broken)


def test_the_cuts_are_where_they_were_made(prepared, raw):
    rows = of(prepared[0], raw["cuts"])
    assert np.allclose([(row.start, row.end) for row in rows], [(0.0, 1.12), (1.12, 2.24), (2.24, 2.56)], atol=0.021)


def test_an_accepted_clip_has_video_sound_and_labels(prepared, raw):
    dataset = prepared[0]
    (row,) = of(dataset, raw["good"])
    assert (row.frames, row.fps, row.source_fps) == (28, 25.0, 25.0) and row.width % 64 == row.height % 64 == 0
    labels = read_labels(dataset / row.labels)
    assert set(labels) == set(ALWAYS) and all(len(labels[name]) == 28 for name in ALWAYS if name != "identity")
    with open_video(dataset / row.video) as video:
        frames = list(video.frames())
        first = to_rgb(frames[0].frame)
    assert len(frames) == 28 and first.shape == (row.height, row.width, 3)
    assert abs(len(sound_between(dataset / row.video, 0.0, row.seconds)) - 28 * 640) < 700
    # The points lie on the stored crop: the face's centre is inside its box, inside the picture.
    centre = labels["face"].mean(1) * [row.width, row.height]
    assert ((centre > labels["face_box"][:, :2]) & (centre < labels["face_box"][:, 2:])).all()
    assert ((centre > 0) & (centre < [row.width, row.height])).all()
    low, high = np.nanmin(labels["thorax"], 0), np.nanmax(labels["thorax"], 0)
    assert np.allclose(row.thorax_range, [*low, *high], atol=0.02)
    left, right = (labels["hands_score"].max(2) > VISIBLE).mean(0)
    assert (row.left_hand_share, row.right_hand_share) == pytest.approx((left, right))
    assert max(left, right) <= row.hands_share <= left + right
    assert 0 < row.clarity < 3 and row.face_share == 1.0 and row.speech_share > 0.5 and row.sync_confidence is None
    # The embedded detector reads lips: what it saw follows what the person did, and the sound.
    assert np.corrcoef(labels["opening"], speaker(1).heard[:, 0])[0, 1] > 0.8 and np.isfinite(labels["width"]).all()
    # This one's lips follow loudness, which an encoder that was taught by phonemes does not expect of people.
    assert row.lip_correlation is not None and row.lip_correlation > 0.2
    assert len(row.descriptor) == 63 and row.split in ("train", "held_out") and row.detector == "embedded"


def test_lips_and_sound_may_be_a_few_frames_apart():
    rng = np.random.default_rng(0)
    heard = np.convolve(rng.normal(0, 1, 84), np.ones(5) / 5, "valid")
    for shift in (-3, 0, 2, 3):
        seen = np.roll(heard, shift)
        seen[::9] = np.nan
        assert correlation(seen, heard) > 0.9
        assert correlation(np.roll(heard, shift + 20), heard) < 0.6
    assert correlation(heard, np.zeros(80)) is None and correlation(np.full(80, np.nan), heard) is None
    assert correlation(heard, None) is None and correlation(heard[:9], heard) is None


def test_the_crop_shows_what_its_box_says(prepared, raw):
    """The stored picture is the source's, inside the box, scaled: this holds for the key points' frame, too."""
    dataset = prepared[0]
    (row,) = of(dataset, raw["good"])
    with open_video(raw["good"]) as video:
        source = to_rgb(next(video.frames()).frame).astype(float)
    with open_video(dataset / row.video) as video:
        stored = to_rgb(next(video.frames()).frame).astype(float)
    x0, y0, x1, y1 = map(int, row.box)
    part = source[y0:y1, x0:x1]
    rows = ((np.arange(row.height) + 0.5) * part.shape[0] / row.height).astype(int)
    columns = ((np.arange(row.width) + 0.5) * part.shape[1] / row.width).astype(int)
    assert np.abs(part[rows][:, columns] - stored).mean() < 6


def test_variable_frame_rate_shows_the_same_as_constant(prepared, raw):
    dataset = prepared[0]
    (steady,), (variable,) = of(dataset, raw["good"]), of(dataset, raw["variable"])
    assert variable.frames == steady.frames and variable.source_fps < 25
    assert variable.box == pytest.approx(steady.box, abs=8)
    a, b = (read_labels(dataset / r.labels)["face"] * [r.width, r.height] for r in (steady, variable))
    assert np.abs(a.mean(1) - b.mean(1)).max() < 6  # pixels, of a moving head


def test_a_second_run_does_nothing_and_a_changed_video_is_done_again(prepared, raw, tmp_path):
    dataset = tmp_path / "copy"
    shutil.copytree(prepared[0], dataset)
    before = read_table(dataset)
    stamps = {p: p.stat().st_mtime_ns for p in dataset.rglob("*.mp4")}
    again = prepare_dataset(list(raw.values()), dataset, SETTINGS, workers=0)
    assert again.kept == again.videos == len(raw) and again.accepted == prepared[1].accepted
    assert read_table(dataset).equals(before) and {p: p.stat().st_mtime_ns for p in dataset.rglob("*.mp4")} == stamps
    stat = raw["text"].stat()
    os.utime(raw["text"], ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert prepare_dataset(list(raw.values()), dataset, SETTINGS, workers=0).kept == len(raw) - 1
    os.utime(raw["text"], ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_killed_run_loses_one_video(prepared, raw, tmp_path):
    dataset = tmp_path / "copy"
    shutil.copytree(prepared[0], dataset)
    job = Job.of(raw["mute"])
    record_path(dataset, job).unlink()  # as when it is killed before the record is written
    (dataset / "clips" / f".{job.key}.part").mkdir()
    report = prepare_dataset(list(raw.values()), dataset, SETTINGS, workers=0)
    assert report.kept == len(raw) - 1
    assert read_table(dataset).equals(read_table(prepared[0]))
    assert not list((dataset / "clips").glob(".*"))


def test_other_settings_are_not_mixed_in(prepared, raw):
    with pytest.raises(InputError, match="other settings .crop"):
        prepare_dataset([raw["text"]], prepared[0], dataclasses.replace(SETTINGS, crop="head"), workers=0)


def test_the_manifest_has_its_columns_and_a_missing_one_is_told(prepared, tmp_path):
    table = read_table(prepared[0])
    assert table.column_names == list(COLUMNS) == schema().names
    assert set(table["reason"].to_pylist()) - {None} <= {r.value for r in Reason} == {r.value for r in MEANING}
    parquet.write_table(table.drop_columns(["clarity", "split"]), tmp_path / NAME)
    with pytest.raises(InputError, match="'clarity', 'split'"):
        read_manifest(tmp_path)
    parquet.write_table(table.drop_columns(["left_hand_share", "right_hand_share"]), tmp_path / NAME)
    old = read_manifest(tmp_path)  # written before there were these columns
    assert len(old) == table.num_rows and all(row.left_hand_share is None is row.right_hand_share for row in old)
    assert read_table(tmp_path).schema.equals(table.schema)
    parquet.write_table(table.drop_columns(["clarity", "split"]), tmp_path / NAME)
    assert read_table(tmp_path, ["clip", "status"]).num_rows == table.num_rows
    (tmp_path / NAME).write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="holds no manifest"):
        read_manifest(tmp_path / "nowhere")


def test_the_head_crop_needs_no_hands(raw, tmp_path):
    settings = dataclasses.replace(SETTINGS, crop="head", area=(128, 128))
    prepare_dataset([raw["head"]], tmp_path / "set", settings, workers=0)
    (row,) = read_manifest(tmp_path / "set", accepted=True)
    labels = read_labels(tmp_path / "set" / row.labels)
    face = np.ptp(labels["face"], axis=1).mean(0)
    assert 0.25 < face[1] < 0.7 and abs(row.width / row.height - 1) < 0.6


def test_syncnet_is_asked_only_where_wanted_and_its_verdict_counts(raw, tmp_path, monkeypatch):
    """With a check in place of the public network, whose weights are not here; its numbers: tests/evaluation."""
    asked, says = [], iter([None, Synchrony(1.5, 0), Synchrony(6.0, -5)])

    def check(video):
        asked.append(len(read_pictures(video)))
        return next(says)

    networks = dataclasses.replace(load_networks("embedded"), sync=check)
    monkeypatch.setattr("cyberhost_model.lab.filmed.prepare.load_networks", lambda *_: networks)
    wanted = dataclasses.replace(SETTINGS, min_sync=3.0)
    sets = [tmp_path / name for name in ("0", "1", "2")]
    for dataset in sets:
        (dataset / VIDEOS).mkdir(parents=True)
    rows = [process_video(Job.of(raw["good"]), dataset, wanted)[0] for dataset in sets]
    assert [row.reason for row in rows] == [None, "out_of_sync", "out_of_sync"]
    assert [row.sync_confidence for row in rows] == [None, 1.5, 6.0]
    assert [row.detail for row in rows[1:]] == ["confidence 1.5", "the sound is 5 frames late"]
    assert asked == [rows[0].frames] * 3 and not list(sets[1].rglob("*.mp4"))
    assert SETTINGS.fingerprint() != wanted.fingerprint()


def test_without_its_weights_syncnet_is_told_before_any_work(raw, tmp_path, monkeypatch):
    for name, value in {
        "HF_HUB_OFFLINE": True,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_CACHE": str(tmp_path / "home/hub"),
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    with pytest.raises(NetworkError):
        prepare_dataset([raw["good"]], tmp_path / "set", dataclasses.replace(SETTINGS, min_sync=3.0), workers=0)
    assert not (tmp_path / "set").exists()


def read_pictures(video) -> list[np.ndarray]:
    with open_video(video) as opened:
        return [to_rgb(stamped.frame) for stamped in opened.frames()]


def test_videos_that_are_not_there_are_told_before_any_work(tmp_path):
    with pytest.raises(InputError, match="no such video"):
        prepare_dataset([tmp_path / "none.mp4"], tmp_path / "set", SETTINGS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no video"):
        prepare_dataset([tmp_path / "empty"], tmp_path / "set", SETTINGS)
    assert not os.path.exists(tmp_path / "set")


def test_folders_are_searched_but_not_the_dataset_in_them(tmp_path):
    for name in ("b.mp4", "deep/a.MKV", "note.txt", "set/clips/x/0000.mp4"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    found = list_videos([tmp_path, tmp_path / "b.mp4", tmp_path / "deep" / ".." / "b.mp4"], tmp_path / "set")
    assert [p.name for p in found] == ["b.mp4", "a.MKV"]


def test_clips_without_sound_are_taken_where_no_speech_is_wanted(raw, tmp_path):
    silent = dataclasses.replace(SETTINGS, min_speech=0.0)
    prepare_dataset([raw["mute"]], tmp_path / "set", silent, workers=0)
    (row,) = read_manifest(tmp_path / "set", accepted=True)
    assert row.speech_share == 0
    assert not read_filmed(tmp_path / "set", row).samples.any()

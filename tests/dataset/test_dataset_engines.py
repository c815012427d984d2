"""Processes and Ray do what one process does; a process that dies costs one video."""

import multiprocessing
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from raw_videos import SETTINGS, pictures, speaker, voice, write

from cyberhost_model.errors import ResourceError
from cyberhost_model.lab.engines import run_local
from cyberhost_model.lab.filmed import prepare as filmed_prepare
from cyberhost_model.lab.filmed.build import prepare_dataset
from cyberhost_model.lab.filmed.manifest import read_manifest, read_table
from cyberhost_model.lab.filmed.prepare import VIDEOS, Job, PrepareVideos, is_finished, record_path
from cyberhost_model.runtime.ray_cluster import check_cluster_address


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A good video and three that are refused."""
    folder, clip = tmp_path_factory.mktemp("raw"), speaker(1)
    shown, said = pictures(clip), voice(clip)
    (folder / "text.mp4").write_text("this is not a video\n" * 50)
    return [
        write(folder / "good.mp4", shown, said),
        folder / "text.mp4",
        write(folder / "mute.mp4", shown, None),
        write(folder / "short.mp4", shown[:10], said[: 10 * 640]),
    ]


@pytest.fixture(scope="module")
def alone(raw: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset that one process prepares of them. Its paths are relative: others have an equal manifest."""
    dataset = tmp_path_factory.mktemp("alone") / "set"
    prepare_dataset(raw, dataset, SETTINGS, workers=0)
    return dataset


def test_two_processes_give_the_same_manifest(raw, alone, tmp_path):
    ticks = []
    prepare_dataset(raw, tmp_path / "two", SETTINGS, workers=2, progress=lambda *t: ticks.append(t))
    assert read_manifest(tmp_path / "two") == read_manifest(alone)
    assert ticks == [(i, len(raw)) for i in range(len(raw) + 1)]


def test_a_long_video_is_prepared_in_pieces(tmp_path, monkeypatch):
    """Each piece is a job with a record of its own; what is finished of it stays."""
    monkeypatch.setattr(filmed_prepare, "PIECE", 1.08)
    clip = speaker(0)
    there, sound = pictures(clip), voice(clip)
    path = write(tmp_path / "talk.mp4", [*there, *there[-2::-1]], np.tile(sound, 2))
    pieces = Job.of(path).in_pieces()
    assert [(job.piece, job.pieces) for job in pieces] == [(0, 3), (1, 3), (2, 3)]
    ticks: list[tuple[int, int]] = []
    report = prepare_dataset([path], tmp_path / "set", SETTINGS, 0, progress=lambda *t: ticks.append(t))
    rows = read_manifest(tmp_path / "set", accepted=True)
    assert report.videos == 1 and ticks == [(i, 3) for i in range(4)]
    assert [round(row.start, 2) for row in rows] == [0.0, 1.08] and all(row.end <= row.start + 1.09 for row in rows)
    assert {row.identity for row in rows} == {"talk"} and [row.clip[-10:] for row in rows] == [
        "p0000/0000",
        "p0001/0000",
    ]
    record_path(tmp_path / "set", pieces[1]).unlink()
    again = prepare_dataset([path], tmp_path / "set", SETTINGS, 0, progress=lambda *t: ticks.append(t))
    assert again.kept == 0 and ticks[4:] == [(2, 3), (3, 3)]
    assert read_manifest(tmp_path / "set", accepted=True) == rows
    assert prepare_dataset([path], tmp_path / "set", SETTINGS, 0).kept == 1


def test_a_process_that_dies_costs_its_video_and_it_is_tried_again(raw, tmp_path):
    (tmp_path / VIDEOS).mkdir()
    job = Job.of(raw[1])

    def kill() -> None:
        for _ in range(200):
            for child in multiprocessing.active_children():
                child.kill()
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    ((done, rows),) = list(run_local(PrepareVideos(tmp_path, SETTINGS), [job], 1))
    killer.join()
    assert done == job and [row.reason for row in rows] == ["crashed"] and "ended with code" in rows[0].detail
    assert not is_finished(tmp_path, job, SETTINGS)
    assert not multiprocessing.active_children()


def test_a_cluster_that_is_not_there_is_told_at_once():
    with pytest.raises(ResourceError, match="no Ray cluster answers at 127.0.0.1:1 "):
        check_cluster_address("127.0.0.1:1")
    check_cluster_address("auto")
    check_cluster_address(None)


def test_a_ray_cluster_of_two_nodes_gives_the_same_manifest(raw, alone, ray_address, tmp_path):
    report = prepare_dataset(raw, tmp_path / "ray", SETTINGS, engine="ray", address=ray_address)
    assert report.videos == len(raw) and report.accepted == 1
    assert read_manifest(tmp_path / "ray") == read_manifest(alone)
    assert read_table(tmp_path / "ray").schema.equals(read_table(alone).schema)

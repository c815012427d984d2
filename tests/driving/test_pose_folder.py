"""Pose folders of EchoMimicV2: read without running anything in them, and placed as its program draws them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cyberhost_model.driving.pose_folder import is_pose_folder, read_pose_folder
from cyberhost_model.driving.template import load_template
from cyberhost_model.driving.video import read_driving
from cyberhost_model.errors import InputError


def frame(i: int = 0, **changes) -> dict:
    rng = np.random.default_rng(i)
    return {
        "bodies": {"candidate": rng.uniform(0, 1, (18, 2)), "subset": np.arange(18.0)[None], "score": np.ones((1, 18))},
        "hands": rng.uniform(0.2, 0.8, (2, 21, 2)),
        "hands_score": rng.uniform(0.5, 1.2, (2, 21)),
        "faces": rng.uniform(0.4, 0.6, (1, 68, 2)),
        "faces_score": np.ones((1, 68)),
        "num": i,
        "draw_pose_params": [768, 768, 0, 768, 0, 768],
        **changes,
    }


def folder_of(folder: Path, frames: list[dict]) -> Path:
    folder.mkdir()
    for i, values in enumerate(frames):
        np.save(folder / f"{i}.npy", values, allow_pickle=True)  # type: ignore[arg-type]
    return folder


def test_a_folder_is_a_template_and_a_driving(tmp_path):
    folder = folder_of(tmp_path / "poses", [frame(i) for i in range(11)])
    found = load_template(folder)
    assert (len(found), found.fps, found.size) == (11, 24.0, (768, 768))
    for i in (0, 2, 10):  # in the order of numbers, not of names
        np.testing.assert_allclose(found.hands[i], frame(i)["hands"], atol=1e-6)
        np.testing.assert_allclose(found.hands_score[i], np.clip(frame(i)["hands_score"], 0, 1), atol=1e-6)
        np.testing.assert_allclose(found.body[i], frame(i)["bodies"]["candidate"], atol=1e-6)
    assert np.array_equal(read_driving(folder).points(), found.points())
    alone = load_template(folder / "2.npy")
    assert len(alone) == 1 and np.array_equal(alone.hands[0], found.hands[2]) and is_pose_folder(folder / "2.npy")


def test_where_its_program_draws_them(tmp_path):
    """A picture of 768x512 in the middle of 768x768."""
    folder = folder_of(tmp_path / "poses", [frame(0, draw_pose_params=[512, 768, 128, 640, 0, 768])])
    found = read_pose_folder(folder)
    expected = (frame(0)["hands"] * [768, 512] + [0, 128]) / 768
    np.testing.assert_allclose(found.hands[0], expected, atol=1e-6)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = folder_of(tmp_path / "poses", [frame(0, num=Harmful())])
    with pytest.raises(InputError, match=r"0.npy: no pose of EchoMimicV2 \(it names (posix|nt).mkdir\)"):
        read_pose_folder(folder)
    assert not Path("harm").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hands": np.zeros((2, 20, 2))}, "its hands has another shape"),
        ({"draw_pose_params": [768, 768, 0, 0, 0, 768]}, "place in the picture is impossible"),
        ({"draw_pose_params": [1, 2]}, "no pose of EchoMimicV2"),
        ({"bodies": 3}, "no pose of EchoMimicV2"),
    ],
)
def test_other_contents_are_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_pose_folder(folder_of(tmp_path / "poses", [frame(0, **change)]))


def test_other_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="no such pose folder"):
        read_pose_folder(tmp_path / "none")
    with pytest.raises(InputError, match="holds no poses"):
        read_pose_folder(tmp_path)
    folder = folder_of(tmp_path / "poses", [frame(i) for i in range(4)])
    (folder / "2.npy").unlink()
    with pytest.raises(InputError, match=r"lacks 2.npy between its frames"):
        read_pose_folder(folder)
    np.save(folder / "2.npy", np.zeros(3))
    with pytest.raises(InputError, match="it is a plain array"):
        read_pose_folder(folder)
    (folder / "2.npy").write_bytes(b"text")
    with pytest.raises(InputError, match="no pose of EchoMimicV2"):
        read_pose_folder(folder)
    np.save(folder / "2.npy", frame(2, draw_pose_params=[512, 512, 0, 512, 0, 512]), allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="pictures of different sizes"):
        read_pose_folder(folder)

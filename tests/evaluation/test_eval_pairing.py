"""Which files belong together, and that whatever does not fit is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.pairing import MISMATCH_RULES, pair_videos
from cyberhost_model.lab.evaluation.results import VideoPaths


def files(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def told(mismatches) -> set[tuple[str, str]]:
    assert all(m.rule == MISMATCH_RULES[m.kind] for m in mismatches)
    return {(m.video, m.kind) for m in mismatches}


def test_folders_by_name(tmp_path: Path) -> None:
    made = files(tmp_path / "made", "anna/1.mp4", "anna/2.MP4", "bob.mov", ".hidden.mp4", "notes.txt")
    true = files(tmp_path / "true", "anna/1.mkv", "bob.mp4", "carl.mp4")
    images = files(tmp_path / "images", "anna.png", "x.jpg")
    audio = files(tmp_path / "audio", "anna/1.wav", "anna/2.mp3", "bob.mp4")
    items, mismatches = pair_videos(made, true, images, audio)
    assert [(i.name, i.identity) for i in items] == [("anna/1", "anna"), ("anna/2", "anna"), ("bob", "bob")]
    assert items[0].paths == VideoPaths(
        made / "anna/1.mp4", true / "anna/1.mkv", images / "anna.png", audio / "anna/1.wav"
    )
    assert (
        items[1].paths.ground_truth is None
        and items[2].paths.image is None
        and items[2].paths.audio == audio / "bob.mp4"
    )
    assert told(mismatches) == {("anna/2", "extra"), ("carl", "missing"), ("bob", "image")}


def test_single_files(tmp_path: Path) -> None:
    folder = files(tmp_path, "a.mp4", "b.mp4", "a.png")
    items, mismatches = pair_videos(folder / "a.mp4", folder / "b.mp4", folder / "a.png")
    assert items[0].paths == VideoPaths(folder / "a.mp4", folder / "b.mp4", folder / "a.png") and mismatches == []


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_manifests(tmp_path: Path, suffix: str) -> None:
    files(tmp_path, "m/g1.mp4", "m/g2.mp4", "t.mp4", "s.wav")
    rows = [
        {"generated": "m/g1.mp4", "identity": "eve", "reference": "t.mp4", "audio": ""},
        {"generated": "m/g2.mp4", "name": "two", "audio": "s.wav"},
    ]
    path = tmp_path / f"list.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("generated,identity,reference,name,audio\nm/g1.mp4,eve,t.mp4,,\nm/g2.mp4,,,two,s.wav\n")
    items, mismatches = pair_videos(path)
    assert [(i.name, i.identity) for i in items] == [("m/g1", "eve"), ("two", "two")] and not mismatches
    assert (
        items[0].paths == VideoPaths(tmp_path / "m/g1.mp4", tmp_path / "t.mp4")
        and items[1].paths.audio == tmp_path / "s.wav"
    )


WRONG = {
    "generated,colour\na.mp4,red\n": "unknown column 'colour'",
    "name\nx\n": "no 'generated'",
    "generated\nnone.mp4\n": "not there",
    "generated\na.mp4\na.mp4\n": "name 'a' again",
    "generated\na.mp4,b,c\n": "each row",
    "generated\n": "names no videos",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_manifests(tmp_path: Path, text: str) -> None:
    files(tmp_path, "a.mp4")
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=WRONG[text]):
        pair_videos(tmp_path / "m.csv")
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(InputError, match="not a manifest"):
        pair_videos(tmp_path / "m.json")


def test_what_cannot_be_matched(tmp_path: Path) -> None:
    made, true = files(tmp_path / "made", "a.mp4", "b.mp4"), files(tmp_path / "true", "c.mp4")
    with pytest.raises(InputError, match="'a' there, 'c' here"):
        pair_videos(made, true)
    with pytest.raises(InputError, match="one file for 2 videos"):
        pair_videos(made, true / "c.mp4")
    with pytest.raises(InputError, match="is not there"):
        pair_videos(made, tmp_path / "none")
    with pytest.raises(InputError, match="holds no videos"):
        pair_videos(files(tmp_path / "empty", "a.txt"))
    with pytest.raises(InputError, match="have one name"):
        pair_videos(files(tmp_path / "twice", "a.mp4", "a.mov"))
    with pytest.raises(InputError, match="holds no picture"):
        pair_videos(made, None, files(tmp_path / "none_here", "a.txt"))

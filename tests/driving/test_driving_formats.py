"""Key point files: what is written comes back, and everything that is wrong is named in one line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figures import Person, perform

from cyberhost_model.driving.sequence import ARRAYS, PoseSequence, read_sequence
from cyberhost_model.errors import InputError, OutputError


def values(frames: int = 15) -> dict[str, Any]:
    sequence = perform(Person(), frames)
    return {
        "fps": np.float64(25.0),
        "size": np.array([480, 640]),
        **{name: getattr(sequence, name).copy() for name in ARRAYS},
    }


def spoiled(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    made = values()
    change(made)
    return made


def point(part: str, where: tuple[int, ...], value: float) -> Callable[[dict[str, Any]], object]:
    return lambda v: v[part].__setitem__(where, value)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_round_trip(suffix: str, tmp_path: Path) -> None:
    sequence = perform(Person(), 15)
    sequence.body_score[3, 4] = 0
    sequence.body[3, 4] = np.nan
    path = sequence.save(tmp_path / f"pose{suffix}")
    back = PoseSequence.load(path)
    assert (back.fps, back.size, len(back)) == (25.0, (480, 640), 15)
    np.testing.assert_allclose(back.scores(), sequence.scores())
    seen = sequence.scores() > 0
    np.testing.assert_allclose(back.points()[seen], sequence.points()[seen], atol=1e-5)
    assert back.body.dtype == np.float32 and np.isfinite(back.points()).all()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("frames", [1, 3])
def test_shorter_than_a_clip_is_taken(frames: int, tmp_path: Path) -> None:
    assert len(read_sequence(perform(Person(), frames).save(tmp_path / "short.npz"))) == frames


def test_parts_may_be_left_out(tmp_path: Path) -> None:
    made = values()
    np.savez(tmp_path / "hands.npz", **{name: made[name] for name in ("fps", "size", "hands", "hands_score")})
    hands = read_sequence(tmp_path / "hands.npz")
    assert hands.hands_score.min() == 1 and hands.body_score.max() == hands.face_score.max() == 0
    assert hands.body.shape == (15, 18, 2) and hands.face.shape == (15, 68, 2)


def test_null_is_a_point_that_is_not_seen(tmp_path: Path) -> None:
    made = {name: array.tolist() for name, array in values().items()}
    made["hands"][2][1][5], made["hands_score"][2][1][5] = [None, None], 0
    (tmp_path / "pose.json").write_text(json.dumps(made))
    assert read_sequence(tmp_path / "pose.json").hands_score[2, 1, 5] == 0


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "wrong number of points": (
        lambda v: v.update(body=v["body"][:, :17]),
        r"body is \(15, 17, 2\), must be \(frames, 18, 2\)",
    ),
    "one hand": (lambda v: v.update(hands=v["hands"][:, 0]), r"hands is \(15, 21, 2\), must be \(frames, 2, 21, 2\)"),
    "three coordinates": (lambda v: v.update(face=np.zeros((15, 68, 3))), r"must be \(frames, 68, 2\)"),
    "a single number": (lambda v: v.update(face=np.float32(1)), r"face is \(\), must be"),
    "lengths differ": (
        lambda v: v.update(face=v["face"][:9], face_score=v["face_score"][:9]),
        "differ in length.*face 9",
    ),
    "no frame": (lambda v: v.update({n: v[n][:0] for n in ARRAYS}), "holds no frame"),
    "text": (lambda v: v.update(body=v["body"].astype(str)), "body must hold numbers"),
    "NaN": (
        point("hands", (3, 0, 20, 1), np.nan),
        "hands of frame 3, left hand's point 20 is not a number though its score is 1; give it a score of 0",
    ),
    "infinity": (point("body", (0, 2, 0), np.inf), "body of frame 0, point 2 is not a number"),
    "a score above 1": (point("face_score", (7, 9), 1.2), r"face_score of frame 7, point 9 is 1.2; scores lie in 0..1"),
    "a score below 0": (point("body_score", (7, 9), -0.5), "body_score of frame 7"),
    "a score that is no number": (point("hands_score", (7, 1, 9), np.nan), "right hand's point 9 is nan"),
    "pixels": (lambda v: v.update(body=v["body"] * 480), r"coordinates are in 0..1 of width and height, not in pixels"),
    "nothing seen": (lambda v: v.update({n: v[n] * 0 for n in ARRAYS if n.endswith("score")}), "no point is seen"),
    "an unknown name": (lambda v: v.update(bodies=1), "unknown name 'bodies'; known are"),
    "no fps": (lambda v: v.pop("fps"), "lacks fps"),
    "no size": (lambda v: v.pop("size"), "lacks size"),
    "fps of 0": (lambda v: v.update(fps=0.0), "fps must be a number between 1 and 240, not 0"),
    "fps of nan": (lambda v: v.update(fps=float("nan")), "fps must be a number"),
    "fps of text": (lambda v: v.update(fps="25"), "fps must be a number"),
    "size of one": (lambda v: v.update(size=np.array([640])), "size must be the picture's width and height"),
    "size of zero": (lambda v: v.update(size=np.array([0, 640])), "size must be"),
    "no scores": (lambda v: v.pop("hands_score"), "lacks 'hands_score'"),
    "no points": (lambda v: v.pop("hands"), "lacks 'hands'"),
    "nothing": (lambda v: [v.pop(n) for n in ARRAYS], "holds no key points"),
}


@pytest.mark.parametrize("suffix", [".npz", ".json"])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_files(name: str, suffix: str, tmp_path: Path) -> None:
    change, words = WRONG[name]
    made, path = spoiled(change), tmp_path / f"pose{suffix}"
    if suffix == ".npz":
        np.savez(path, **made)
    else:
        path.write_text(json.dumps({n: v.tolist() if hasattr(v, "tolist") else v for n, v in made.items()}))
    with pytest.raises(InputError, match=words) as caught:
        read_sequence(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    def refused(name: str, words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            read_sequence(tmp_path / name)
        assert "\n" not in str(caught.value)

    refused("none.npz", "no such key point file")
    (tmp_path / "folder.npz").mkdir()
    refused("folder.npz", "is a folder")
    (tmp_path / "pose.txt").write_text("1 2 3")
    refused("pose.txt", r"must end in .npz or .json")
    for content in (b"", b"no archive", np.random.default_rng(0).bytes(500)):
        (tmp_path / "bad.npz").write_bytes(content)
        refused("bad.npz", "no .npz file of plain arrays")
    whole = (perform(Person(), 15).save(tmp_path / "whole.npz")).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    refused("cut.npz", "no .npz file of plain arrays")
    for text in ("", "{", "[1, 2", '{"fps": 25,}', "\x00\xff"):
        (tmp_path / "bad.json").write_text(text)
        refused("bad.json", "no JSON that can be read")
    for text in ("[]", "3", "null"):
        (tmp_path / "bad.json").write_text(text)
        refused("bad.json", "must hold one JSON object")
    made = {n: v.tolist() for n, v in values().items()}
    made["body"][4] = made["body"][4][:5]
    (tmp_path / "ragged.json").write_text(json.dumps(made))
    refused("ragged.json", "body must be lists of numbers")


class Trap:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("sprung"),))


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = values()
    made["body"] = np.array([Trap()], object)
    np.savez(tmp_path / "trap.npz", **made)
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.npz", "pickle.npz"):
        with pytest.raises(InputError, match="no .npz file of plain arrays"):
            read_sequence(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cyberhost_model.driving import sequence as formats

    monkeypatch.setattr(formats, "LARGEST", {".npz": 10_000, ".json": 10_000})
    for suffix in (".npz", ".json"):
        path = perform(Person(), 15).save(tmp_path / f"large{suffix}")
        with pytest.raises(InputError, match="cut it into shorter files"):
            read_sequence(path)


def test_outputs(tmp_path: Path) -> None:
    sequence = perform(Person(), 3)
    for name, words in (("pose.csv", "must end in"), ("none/pose.npz", "does not exist")):
        with pytest.raises(OutputError, match=words):
            sequence.save(tmp_path / name)
    path = sequence.save(tmp_path / "pose.npz")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        sequence.save(path)
    assert path.read_bytes() == before
    assert sequence.save(path, overwrite=True) == path

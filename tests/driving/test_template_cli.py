"""`cyberhost template`: extract, show, list."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from figures import Person, perform
from PIL import Image

from cyberhost_cli import main as cli
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.media.video_reader import stream_frames
from cyberhost_model.media.video_writer import write_video


def run(*words: str) -> int:
    return cli.main(["template", *words])


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == ExitStatus.OK
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "counting",
        "open_palms",
        "pointing",
        "rest",
        "wave",
    ]
    assert run("list", "--json") == ExitStatus.OK
    assert json.loads(capsys.readouterr().out)["templates"]["wave"]["seen"]["hands"] == 1


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "wave.mp4"
    assert run("show", "wave", "-o", str(out), "--size", "128", "--json") == ExitStatus.OK
    told = json.loads(capsys.readouterr().out)
    frames = list(stream_frames(out))
    assert told["frames"] == len(frames) == 120 and frames[0].shape == (128, 128, 3)
    # Black but for a skeleton, whose right hand (image left) goes up.
    assert 0.01 < (frames[0].max(-1) > 60).mean() < 0.2
    upper_left = np.s_[20:40, :40]
    assert (frames[0][upper_left].max(-1) > 60).mean() < 0.01 < (frames[50][upper_left].max(-1) > 60).mean()


def test_show_keeps_the_aspect(tmp_path: Path) -> None:
    mine = perform(Person(size=(480, 640)), 4).save(tmp_path / "mine.json")
    assert run("show", str(mine), "-o", str(tmp_path / "mine.mp4"), "--size", "128", "--quiet") == ExitStatus.OK
    height, width, _ = next(stream_frames(tmp_path / "mine.mp4")).shape
    assert width / height == pytest.approx(0.75, abs=0.02) and width * height == pytest.approx(128**2, rel=0.05)


def test_extract(tmp_path: Path, portrait_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = np.asarray(Image.open(portrait_file).convert("RGB").resize((192, 192)))
    film = write_video([picture] * 13, tmp_path / "film.mp4", 25)
    out = tmp_path / "pose.npz"
    assert run("extract", str(film), "-o", str(out), "--max-seconds", "0.4", "--json") == ExitStatus.OK
    told = json.loads(capsys.readouterr().out)
    assert told["frames"] == 10 and told["seen"]["face"] == 1 and told["warnings"] == []
    assert len(PoseSequence.load(out)) == 10
    assert run("extract", str(film), "-o", str(out)) == ExitStatus.OUTPUT
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["extract", "none.mp4", "-o", "pose.npz"], ExitStatus.INPUT, "no such video"),
        (["extract", "none.mp4", "-o", "pose.csv"], ExitStatus.OUTPUT, "must end in .npz or .json"),
        (["show", "waving", "-o", "out.mp4"], ExitStatus.INPUT, "no such template; give one of counting"),
        (["show", "none.json", "-o", "out.mp4"], ExitStatus.INPUT, "no such key point file"),
        (["show", "wave", "-o", "out.gif"], ExitStatus.OUTPUT, "must end in"),
        (["show", "bad.json", "-o", "out.mp4"], ExitStatus.INPUT, "face of frame 1, point 5 is not a number"),
        (["extract"], ExitStatus.USAGE, "--help"),
        ([], ExitStatus.USAGE, "--help"),
    ],
)
def test_wrong_use(
    words: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    made = json.loads(perform(Person(), 3).save(tmp_path / "good.json").read_text())
    made["face"][1][5] = [float("nan"), 0.5]
    (tmp_path / "bad.json").write_text(json.dumps(made))
    before = sorted(tmp_path.iterdir())
    assert run(*words) == code
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and said in shown.err, shown.err
    assert sorted(tmp_path.iterdir()) == before

"""`--report` of the commands that make a video: the measures and the weak seconds of what was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cyberhost_model
from cyberhost_cli import main as cli
from cyberhost_cli.console import Console
from cyberhost_cli.evaluate import report_on
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_model.lab.evaluation.results import read_results
from cyberhost_model.media.video_reader import probe_video, read_frames
from cyberhost_model.media.video_writer import write_video

WEIGHTS = Path(cyberhost_model.__file__).parent / "weights" / "tiny"
pytestmark = pytest.mark.skipif(not list(WEIGHTS.rglob("*.safetensors")), reason="this checkout has no embedded model")
QUICK = ["--steps", "1", "--size", "256"]
MEASURES = ["CSIM", "SyncC", "SyncD", "HKC", "HKV"]


@pytest.fixture(autouse=True)
def cache(loaded_once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own: no weights, no features."""
    monkeypatch.setenv("CYBERHOST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return tmp_path / "cache"


def checked(told: dict[str, Any]) -> dict[str, Any]:
    """The report in what a command printed, its video and its page being there."""
    assert Path(told["output"]).is_file()
    report = told["report"]
    page = Path(report["page"]).read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and "data:video/mp4" in page
    assert list(report["metrics"]) == MEASURES
    assert (
        report["metrics"]["CSIM"]["value"] > 0.9
        and report["metrics"]["CSIM"]["protocol"] == "cyberhost-eval-1-embedded"
    )
    sync = report["metrics"]["SyncC"]
    assert sync["status"] == "skipped" and sync["value"] is None and sync["reason"]
    assert all(set(weak) == {"start", "stop", "kind", "words"} for weak in report["weak"])
    return report


def test_every_way_to_make_a_video_reports_on_it(
    portrait_file: Path, tone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ref, sound, video = str(portrait_file), str(tone(seconds=0.3)), tmp_path / "out.mp4"
    calls = {
        "animate": [ref, sound, "-o", str(video), "--report", str(tmp_path / "page.html")],
        "multimodal": [
            ref,
            "--audio",
            sound,
            "--hands",
            "wave",
            "-o",
            str(tmp_path / "wave.mp4"),
            "--report",
            str(tmp_path / "wave"),
        ],
        "reenact": [
            ref,
            str(video),
            "--audio",
            "none",
            "-o",
            str(tmp_path / "silent.mp4"),
            "--report",
            str(tmp_path / "silent"),
        ],
    }
    for name, call in calls.items():
        assert cli.main([name, *call, *QUICK, "--json"]) == ExitStatus.OK
        report = checked(json.loads(capsys.readouterr().out))
        folder = Path(report["page"]).parent
        if name == "animate":
            assert report["page"] == str(tmp_path / "page.html") and not (tmp_path / "summary.json").exists()
        else:
            assert {p.name for p in folder.iterdir()} == {"report.html", "summary.json", "per_video.csv"}
            results = read_results(folder)
            assert results.metric("CSIM").value == report["metrics"]["CSIM"]["value"] and len(results.videos) == 1
    assert "no video has sound" in report["metrics"]["SyncC"]["reason"]


def test_weak_seconds_are_told(portrait_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The picture moves, and stands still for a second in the middle."""
    still = Image.open(portrait_file).convert("RGB").resize((256, 256))
    frames = [still.rotate(0 if 10 <= i < 36 else (i % 5 - 2) / 2, Image.Resampling.BILINEAR) for i in range(50)]
    video = write_video([np.asarray(f) for f in frames], tmp_path / "made.mp4", 25)
    told = report_on(video, tmp_path / "page.html", portrait_file, "cpu", False, Console())
    (weak,) = [w for w in told["weak"] if w["kind"] == "frozen"]
    assert weak["start"] == pytest.approx(0.4, abs=0.09) and weak["stop"] == pytest.approx(1.44, abs=0.09)
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert any(line.startswith("CSIM ↑") and line.endswith("1 video, 100% covered") for line in lines)
    assert any("page.html: report written; weak seconds: 1" in line for line in lines), shown.err
    assert "stands still" in lines[-1]


def test_a_report_that_fails_leaves_the_video(
    portrait_file: Path, tone, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.write_text("a file where the features should go")
    video = tmp_path / "out.mp4"
    call = [
        "animate",
        str(portrait_file),
        str(tone(seconds=0.1)),
        "-o",
        str(video),
        "--report",
        str(tmp_path / "page.html"),
        *QUICK,
    ]
    assert cli.main([*call, "--json"]) == ExitStatus.OUTPUT
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and "the video is made, its report is not" in shown.err
    assert sum(len(batch) for batch in read_frames(probe_video(video))) == 3 and not (tmp_path / "page.html").exists()


def test_where_a_report_cannot_go_is_told_first(
    picture_file: Path, tone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.html").write_text("old")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "report.html").write_text("old")
    before = sorted(tmp_path.rglob("*"))
    sound = str(tone())
    for report, words in (
        ("page.pdf", "must end in .html"),
        ("old.html", "--overwrite"),
        ("full", "--overwrite"),
        ("no/page.html", "does not exist"),
    ):
        code = cli.main(
            ["animate", str(picture_file), sound, "-o", str(tmp_path / "out.mp4"), "--report", str(tmp_path / report)]
        )
        shown = capsys.readouterr()
        assert code == ExitStatus.OUTPUT and shown.err.count("\n") == 1 and words in shown.err, shown.err
    assert sorted({*tmp_path.rglob("*")} - {Path(sound)}) == before
    # A new folder is made when there is something to put in it: this picture shows nobody.
    code = cli.main(
        ["animate", str(picture_file), sound, "-o", str(tmp_path / "out.mp4"), "--report", str(tmp_path / "new")]
    )
    assert code == ExitStatus.NO_FACE and not (tmp_path / "new").exists()

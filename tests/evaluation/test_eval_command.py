"""`cyberhost eval` from end to end on small videos: good and bad input, stopping and going on, missing weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from eval_helpers import alive, moving, noisy, write

from cyberhost_cli import main as cli
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_model.lab.evaluation.networks.i3d import I3D
from cyberhost_model.lab.evaluation.results import read_results
from cyberhost_model.lab.evaluation.run import evaluate

Run = Callable[..., dict[str, Any]]
PICTURES = "SSIM,PSNR"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`true`: three videos of two people; `good` and `poor`: the same with noise."""
    folder = tmp_path_factory.mktemp("videos")
    for i, name in enumerate(("anna/1", "anna/2", "bob/1")):
        frames = moving(i, 18)
        write(folder / "true" / f"{name}.mp4", frames)
        write(folder / "good" / f"{name}.mp4", noisy(frames, 3))
        write(folder / "poor" / f"{name}.mp4", noisy(frames, 30))
    return folder


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """The object `cyberhost eval ... --json` prints."""

    def call(*arguments: object, code: int = ExitStatus.OK) -> dict[str, Any]:
        cache = [] if "compare" in arguments else ["--cache", str(tmp_path / "cache"), "--no-download"]
        returned = cli.main(["eval", *map(str, arguments), "--json", *cache])
        shown = capsys.readouterr()
        assert returned == code, shown.err
        if code:
            assert shown.out == "" and shown.err.count("\n") == 1 and shown.err.startswith("cyberhost: "), shown.err
            return {"error": shown.err}
        return json.loads(shown.out)

    return call


def test_a_report_and_a_comparison(run: Run, videos: Path, tmp_path: Path) -> None:
    told = {
        name: run(videos / name, "--reference", videos / "true", "--metrics", PICTURES, "-o", tmp_path / name)
        for name in ("good", "poor")
    }
    for name, told_one in told.items():
        report = tmp_path / name
        assert {p.name for p in report.iterdir()} == {"per_video.csv", "summary.json", "summary.md", "report.html"}
        assert told_one["output"] == str(report) and told_one["name"] == name and told_one["mismatches"] == []
        for measure in ("SSIM", "PSNR"):
            metric = told_one["metrics"][measure]
            assert (metric["status"], metric["n"], metric["coverage"], metric["protocol"]) == (
                "ok",
                3,
                1.0,
                "cyberhost-eval-1",
            )
            low, high = metric["ci95"]
            assert low < metric["value"] < high
        results = read_results(report)
        assert [v.video for v in results.videos] == ["anna/1", "anna/2", "bob/1"] and {
            v.identity for v in results.videos
        } == {"anna", "bob"}
        assert (
            results.provenance.frames == 54
            and len(results.provenance.inputs) == 6
            and results.provenance.versions["torch"]
        )
    for measure in ("SSIM", "PSNR"):
        assert told["good"]["metrics"][measure]["value"] > told["poor"]["metrics"][measure]["value"]
    compared = run("compare", tmp_path / "good", tmp_path / "poor", "-o", tmp_path / "compared")
    assert (
        all(d["better"] == "good" and d["n"] == 3 for d in compared["differences"])
        and len(compared["differences"]) == 2
    )
    assert (tmp_path / "compared" / "comparison.md").is_file()


def test_words_for_people(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(videos / "good", tmp_path / "made")
    write(tmp_path / "made" / "carl.mp4", moving(9, 5))
    options = ["--reference", str(videos / "true"), "--metrics", "ssim psnr", "--cache", str(tmp_path / "cache")]
    assert cli.main(["eval", "run", str(tmp_path / "made"), *options]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert (
        lines[0] == "made (cyberhost-eval-1)"
        and lines[1].startswith("SSIM ↑")
        and "95%" in lines[1]
        and lines[1].endswith("3 videos, 75% covered")
    )
    assert "warning: extra: " in shown.err and "carl: no ground truth of this name" in shown.err
    assert cli.main(["eval", str(tmp_path / "made"), *options, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_one_video_without_a_ground_truth(run: Run, videos: Path) -> None:
    told = run(videos / "good" / "bob" / "1.mp4", "--networks", "embedded", "--metrics", "SSIM,CSIM,SyncC,HKC")
    reasons = {name: metric["reason"] for name, metric in told["metrics"].items() if metric["status"] == "skipped"}
    assert set(reasons) == {"SSIM", "CSIM", "SyncC", "SyncD", "HKV"}
    assert told["metrics"]["HKC"]["value"] == told["metrics"]["HKC"]["extras"]["person_rate"] == 0  # blots are nobody
    assert "--reference" in reasons["SSIM"] and "--images" in reasons["CSIM"] and "--audio" in reasons["SyncC"]
    assert all(told["metrics"][name]["value"] is None for name in reasons)
    assert (
        told["metrics"]["HKC"]["protocol"] == "cyberhost-eval-1-embedded"
        and told["metrics"]["SSIM"]["protocol"] == "cyberhost-eval-1"
    )


def test_fvd_with_weights_from_a_folder(run: Run, videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(alive(I3D(), (1, 3, 16, 224, 224)).state_dict(), folder / "i3d_pretrained_400.pt")
    (folder / "pt_inception-2015-12-05-6726825d.pth").write_bytes(b"something else")
    told = run(
        videos / "good" / "anna",
        "--reference",
        videos / "true" / "anna",
        "--metrics",
        "FID,FVD",
        "--weights-dir",
        folder,
        "--clips",
        1,
    )
    fvd, fid = told["metrics"]["FVD"], told["metrics"]["FID"]
    assert (
        fvd["status"] == "ok"
        and fvd["value"] > 0
        and fvd["ci95"] is None
        and fvd["extras"]["n_clips"] == 2
        and "note" in fvd["extras"]
    )
    assert len(fvd["weights"]["i3d_pretrained_400.pt"]) == 64
    assert fid["status"] == "skipped" and "is damaged" in fid["reason"] and fid["value"] is None


def test_what_does_not_fit(run: Run, videos: Path, tmp_path: Path) -> None:
    made, true = tmp_path / "made", tmp_path / "true"
    shutil.copytree(videos / "true", true)
    write(made / "anna" / "1.mp4", moving(0, 12), 12.5)  # slower and longer
    write(made / "anna" / "2.mp4", moving(1, 18, (48, 32)))  # smaller
    write(made / "eve.mp4", moving(4, 5))  # nobody's
    (made / "bob").mkdir()
    (made / "bob" / "1.mp4").write_bytes(b"not a video")
    (true / "anna" / "2.mp4").write_bytes((true / "anna" / "2.mp4").read_bytes()[:900])  # cut off
    told = run(made, "--reference", true, "--metrics", PICTURES, "-o", tmp_path / "report")
    kinds = {(m["video"], m["kind"]) for m in told["mismatches"]}
    assert kinds == {
        ("anna/1", "fps"),
        ("anna/1", "frames"),
        ("anna/2", "broken"),
        ("eve", "extra"),
        ("bob/1", "broken"),
    }
    assert all(m["rule"] and m["detail"] for m in told["mismatches"])
    metric = told["metrics"]["SSIM"]
    assert (metric["n"], metric["status"], metric["ci95"]) == (1, "ok", None) and metric["coverage"] == pytest.approx(
        9 / 12 / 3
    )
    rows = {v.video: v.values["SSIM"] for v in read_results(tmp_path / "report").videos}
    assert set(rows) == {"anna/1", "anna/2", "eve"} and rows["eve"].reason == "it has no ground truth"


def test_bad_input(run: Run, videos: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "junk.mp4").write_bytes(b"junk")
    good, code = videos / "good", ExitStatus.INPUT
    assert "holds no videos" in run(empty, code=code)["error"]
    assert "not there" in run(tmp_path / "none", code=code)["error"]
    assert "not a video" in run(tmp_path / "junk.mp4", code=code)["error"]
    assert "no name of a video" in run(good, "--reference", videos / "true" / "bob", code=code)["error"]
    assert "no metric 'VMAF'" in run(good, "--metrics", "SSIM,VMAF", code=ExitStatus.USAGE)["error"]
    assert "--networks" in run(good, "--networks", "other", code=ExitStatus.USAGE)["error"]
    assert "does not exist" in run(good, "-o", tmp_path / "a" / "b", code=ExitStatus.OUTPUT)["error"]
    assert "holds no summary.json" in run("compare", empty, good, code=code)["error"]
    (empty / "a.mp4").write_bytes(b"junk")
    (empty / "b.mp4").write_bytes(b"junk")
    assert "none of the 2 videos can be read" in run(empty, code=code)["error"]
    if not torch.cuda.is_available():
        assert "CUDA" in run(good, "--device", "cuda", code=ExitStatus.RESOURCE)["error"]


def test_features_are_not_made_twice(videos: Path, tmp_path: Path) -> None:
    """A run that stops at the second video goes on there; a second run reads nothing."""
    read: list[tuple[int, str]] = []

    class Stop(Exception):
        pass

    def note(done: int, total: int, name: str) -> None:
        read.append((total, name))
        if name == "anna/2" and stop:
            raise Stop

    arguments: dict[str, Any] = {"reference": videos / "true", "metrics": ["SSIM"], "cache": tmp_path, "progress": note}
    stop = True
    with pytest.raises(Stop):
        evaluate(videos / "good", **arguments)
    assert {name for _, name in read} == {"anna/1", "anna/2"} and read[0][0] == 6 * 18
    stop = False
    read.clear()
    first = evaluate(videos / "good", **arguments)
    assert {name for _, name in read} == {"anna/2", "bob/1"} and len(read) == read[0][0] == 4 * 18
    read.clear()
    again = evaluate(videos / "good", **arguments)
    assert read == [] and again.results.metrics == first.results.metrics
    counted = again.features("bob/1", "ground_truth", "frames")
    assert (
        counted is not None
        and int(counted["frames"]) == 18
        and again.features("bob/1", "ground_truth", "dwpose") is None
    )


def test_without_weights_nothing_is_zero(command: list[str], videos: Path, tmp_path: Path) -> None:
    """In a home without weights, and none fetched: every measure that needs some is skipped, with what to do."""
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "hub"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "CYBERHOST_CACHE": "",
    }
    call = [
        *command,
        "eval",
        str(videos / "good"),
        "--reference",
        str(videos / "true"),
        "--audio",
        str(videos / "true"),
        "--no-download",
        "--json",
    ]
    done = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    skipped = {name for name, m in metrics.items() if m["status"] == "skipped"}
    by_networks = {"FID", "FID-legacy", "KID", "FVD", "CSIM", "SyncC", "SyncD", "AKD", "HKC", "HKV"}
    assert skipped == by_networks | {"Closure", "Opening", "LipLoudness"}  # no hama, or nobody who speaks for so long
    assert all(metrics[name]["value"] is None and metrics[name]["reason"] for name in skipped)
    assert "weights pull inception" in metrics["FID"]["reason"]
    assert (tmp_path / "cache" / "cyberhost" / "evaluation").is_dir()


def test_nothing_measured_is_a_failure_with_a_report(
    run: Run, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report"
    told = run(videos / "good", "--metrics", "SSIM,CSIM", "-o", report, code=ExitStatus.MEASURE)
    assert "nothing was measured" in told["error"] and "SSIM, CSIM" in told["error"] and "--reference" in told["error"]
    assert {p.name for p in report.iterdir()} == {"per_video.csv", "summary.json", "summary.md", "report.html"}
    assert all(m.status == "skipped" and m.reason for m in read_results(report).metrics)
    assert "Nothing could be measured" in (report / "report.html").read_text(encoding="utf-8")
    # One that can be had is enough.
    assert run(videos / "good", "--metrics", "SSIM,HKC", "--networks", "embedded")["metrics"]["HKC"]["status"] == "ok"
    # For people the reasons stand in the table, the line is the last.
    assert (
        cli.main(["eval", str(videos / "good"), "--metrics", "PSNR", "--cache", str(tmp_path / "cache")])
        == ExitStatus.MEASURE
    )
    shown = capsys.readouterr()
    assert "skipped: it compares with the ground truth" in shown.out and shown.err.splitlines()[-1].startswith(
        "cyberhost: nothing was measured"
    )

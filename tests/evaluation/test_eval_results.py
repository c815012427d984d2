"""What is kept: features on disk, results as files, and intervals over people."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from report_helpers import results

from cyberhost_model.errors import InputError, OutputError
from cyberhost_model.lab.evaluation.bootstrap import mean_interval, paired_difference
from cyberhost_model.lab.evaluation.features.cache import FeatureCache
from cyberhost_model.lab.evaluation.features.extractor import RowFile
from cyberhost_model.lab.evaluation.metric import Measure, VideoValue
from cyberhost_model.lab.evaluation.results import VideoRow, check_folder, read_results, write_results
from cyberhost_model.lab.evaluation.summaries import summarise_videos


def test_features_are_kept_whole(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    key = cache.key("video", "a", "b")
    assert cache.get(key) is None and key != cache.key("video", "ab", "")
    long = RowFile(1024)
    for i in range(5):
        long.add(np.full((100, 1024), i))
    kept = cache.put(
        key, {"long": long.array(), "none": RowFile(3).array(), "reason": np.array("dark"), "n": np.array(5)}
    )
    assert isinstance(kept["long"], np.memmap) and kept["long"].shape == (500, 1024) and kept["long"][450, 7] == 4
    assert (
        kept["none"].shape == (0, 3)
        and str(kept["reason"]) == "dark"
        and int(kept["n"]) == 5
        and sorted(kept) == ["long", "n", "none", "reason"]
    )
    with pytest.raises(KeyError):
        kept["other"]
    cache.put(key, {"n": np.array(6)})  # the first one stays
    again = cache.get(key)
    assert again is not None and int(again["n"]) == 5
    assert [p.name for p in (tmp_path / "cache").rglob("*") if p.name.startswith(".")] == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--cache"):
        FeatureCache(tmp_path / "file").put(key, {})


def test_results_come_back(tmp_path: Path) -> None:
    run = results("ours", {"SSIM": [0.5, 0.75, math.nan]})
    first = run.videos[0]
    extended = {
        **first.values,
        "SSIM": VideoValue(0.5, 0.9, {"rate": 0.25, "nothing": math.nan}, "", {"frame": np.ones(3)}),
    }
    first = VideoRow(**{**vars(first), "values": extended})
    last = VideoRow(
        **{**vars(run.videos[2]), "values": {"SSIM": VideoValue(math.nan, 0.0, reason='it is "dark", very')}}
    )
    run = type(run)(run.name, run.metrics, (first, run.videos[1], last), run.mismatches, run.provenance)
    write_results(run, tmp_path)
    back = read_results(tmp_path / "summary.json")
    assert back.metrics == run.metrics and back.provenance == run.provenance and back.mismatches == run.mismatches
    assert back.videos[0].values["SSIM"] == VideoValue(0.5, 0.9, {"rate": 0.25}) and back.videos[1] == run.videos[1]
    assert (
        math.isnan(back.videos[2].values["SSIM"].value) and back.videos[2].values["SSIM"].reason == 'it is "dark", very'
    )
    with (tmp_path / "per_video.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (
        rows[0]["SSIM"] == "0.5"
        and rows[0]["SSIM.rate"] == "0.25"
        and rows[2]["SSIM"] == ""
        and rows[0]["frames"] == "50"
    )
    told = json.loads((tmp_path / "summary.json").read_text())
    assert {"status", "value", "ci95", "n", "coverage", "direction", "protocol", "weights"} <= set(
        told["metrics"]["SSIM"]
    )
    assert {"versions", "seed", "device", "command", "inputs"} <= set(told["provenance"])


def test_results_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no summary.json"):
        read_results(tmp_path)
    write_results(results("ours", {"SSIM": [0.5]}), tmp_path)
    summary = tmp_path / "summary.json"
    text = summary.read_text()
    summary.write_text(text.replace('"version": 1', '"version": 99', 1))
    with pytest.raises(InputError, match="version 99"):
        read_results(tmp_path)
    summary.write_text(text[:100])
    with pytest.raises(InputError, match="cannot be read"):
        read_results(tmp_path)


def test_folder_of_a_report(tmp_path: Path) -> None:
    check_folder(tmp_path / "report")
    check_folder(tmp_path / "report")
    assert list((tmp_path / "report").iterdir()) == []
    with pytest.raises(OutputError, match="does not exist"):
        check_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        check_folder(tmp_path / "file")


def test_intervals_draw_people() -> None:
    """Ten videos of each of ten people who differ: drawing videos would promise ten times as much."""
    random = np.random.default_rng(0)
    people = np.repeat([f"p{i}" for i in range(10)], 10)
    values = np.repeat(random.normal(0, 1, 10), 10) + random.normal(0, 0.01, 100)
    low, high = mean_interval(values, people, seed=0)  # type: ignore[misc]
    narrow = mean_interval(values, [str(i) for i in range(100)], seed=0)
    assert low < values.mean() < high and narrow is not None
    assert (high - low) > 2 * (narrow[1] - narrow[0])
    assert mean_interval(values, people, seed=0) == (low, high) != mean_interval(values, people, seed=1)
    assert mean_interval(values, ["one"] * 100, seed=0) is None
    assert mean_interval(np.array([1.0, np.nan]), ["a", "b"], seed=0) is None


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    held = 0
    for i in range(200):
        low, high = mean_interval(random.normal(3, 1, 40), [str(k) for k in range(40)], seed=i, draws=500)  # type: ignore[misc]
        held += low < 3 < high
    assert 0.89 <= held / 200 <= 0.99


def test_differences_are_paired() -> None:
    random = np.random.default_rng(0)
    people = [str(i // 2) for i in range(40)]
    a = random.normal(0, 5, 40)
    b = a + 1 + random.normal(0, 0.1, 40)
    b[3] = np.nan
    difference, interval, n = paired_difference(a, b, people, seed=0)
    assert n == 39 and difference == pytest.approx(1, abs=0.1)
    assert interval is not None and 0.9 < interval[0] < interval[1] < 1.1
    assert math.isnan(paired_difference(np.array([np.nan]), np.array([1.0]), ["a"], 0)[0])


class Plain:
    protocol, weights, licence, needs = "p", {"w": "1"}, "", {}


def test_a_summary_of_videos() -> None:
    measure = Measure("X", "up")
    values = [
        VideoValue(1.0, 0.5, {"rate": 0.2}),
        VideoValue(3.0, 1.0, {"rate": 0.4}),
        VideoValue(math.nan, 0.7, reason="no face"),
    ]
    summary = summarise_videos(measure, Plain(), values, ["a", "b", "c"], 0)
    assert (summary.status, summary.value, summary.n, summary.coverage) == ("ok", 2.0, 2, 0.5)
    assert summary.extras == pytest.approx({"rate": 0.3}) and summary.ci95 is not None and summary.weights == {"w": "1"}
    nothing = summarise_videos(measure, Plain(), values[2:], ["c"], 0)
    assert (nothing.status, nothing.value, nothing.reason) == ("skipped", None, "no face")

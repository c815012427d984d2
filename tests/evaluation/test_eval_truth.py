"""The ground truth's own row, several videos at once, cautions beside values, and the speed of a model."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from eval_helpers import moving, noisy, write
from report_helpers import results

from cyberhost_cli.evaluate import table
from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.report import paper_table
from cyberhost_model.lab.evaluation.report.compare import compare_results
from cyberhost_model.lab.evaluation.report.compare_output import comparison_text
from cyberhost_model.lab.evaluation.report.summary import summary_text
from cyberhost_model.lab.evaluation.results import read_truth, write_results, write_truth
from cyberhost_model.lab.evaluation.run import evaluate, with_closeness
from cyberhost_model.lab.evaluation.speed import summarise_timings, time_frames


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`true`: two videos; `poor`: the same with noise, and one that is damaged."""
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(("anna", "bob")):
        frames = moving(seed, 6)
        write(folder / "true" / f"{name}.mp4", frames)
        write(folder / "poor" / f"{name}.mp4", noisy(frames, 30))
    return folder


def test_the_ground_truth_has_a_row_of_its_own(videos, tmp_path):
    """It is what a run of the ground truth alone gives, and is kept in the report."""
    cache = tmp_path / "cache"
    run = evaluate(videos / "poor", videos / "true", metrics=["SSIM", "temporal"], truth=True, cache=cache)
    alone = evaluate(videos / "true", metrics=["temporal"], cache=cache).results
    assert run.truth is not None and run.truth.name == "ground truth"
    assert [(m.name, m.value) for m in run.truth.metrics] == [(m.name, m.value) for m in alone.metrics]
    assert run.results.metric("Flicker").value > 5 * run.truth.metric("Flicker").value
    assert evaluate(videos / "poor", videos / "true", metrics=["SSIM"], truth=True, cache=cache).truth is None
    write_results(run.results, tmp_path)
    assert read_truth(tmp_path) is None
    write_truth(run.truth, tmp_path)
    assert read_truth(tmp_path).metric("Dynamics").value == run.truth.metric("Dynamics").value


def test_a_table_of_the_paper_has_the_ground_truths_row(tmp_path):
    (tmp_path / "ours").mkdir()
    write_results(results("ours", {"SSIM": [0.7] * 2, "CSIM": [0.5] * 2}), tmp_path / "ours")
    write_truth(results("ground truth", {"CSIM": [0.9] * 2}), tmp_path / "ours")
    made = paper_table.paper_table(1, [tmp_path / "ours"])
    lines = paper_table.markdown(made).splitlines()
    row = next(line for line in lines if line.startswith("| Ground truth |"))
    assert (
        row.count("0.900") == 1
        and "–" in row
        and lines.index(row) + 1 == next(i for i, line in enumerate(lines) if line.startswith("| ours |"))
    )
    assert "Ground truth & " in paper_table.latex(made) and list(made.own) == ["ours"]


def test_several_videos_at_once_give_the_same(videos, tmp_path):
    (videos / "poor" / "carl.mp4").write_bytes(b"no video")
    told: list[tuple[int, int, str]] = []
    runs = [
        evaluate(
            videos / "poor",
            videos / "true",
            metrics=["PSNR", "temporal"],
            cache=tmp_path / str(workers),
            workers=workers,
            progress=lambda *step: told.append(step),
        ).results
        for workers in (1, 2)
    ]
    one, two = ([(m.name, m.value, m.n, m.ci95) for m in run.metrics] for run in runs)
    assert one == two and [m.kind for m in runs[1].mismatches] == ["extra", "broken"]
    assert told[-1][0] == told[-1][1] > 0
    (videos / "poor" / "carl.mp4").unlink()


def test_few_people_and_few_frames_are_said_beside_the_value():
    few = results("a", {"SSIM": [0.7, 0.8, 0.6, 0.9]}, "abcd", SSIM={"ci95": (0.6, 0.9)})
    many = results("a", {"SSIM": [0.7] * 10}, "abcdefghij", SSIM={"ci95": (0.6, 0.9)})
    biased = results("a", {"FID": [3.0] * 2}, FID={"extras": {"note": "no more frames than numbers"}, "ci95": None})
    for run, said in ((few, "(fewer than ten people)"), (biased, "(mostly bias)")):
        assert said in table(run) and said in summary_text(run)
    assert "people)" not in table(many) and "people)" not in summary_text(many)
    other = results("b", {"SSIM": [0.6, 0.7, 0.7, 0.7]}, "abcd", SSIM={"ci95": (0.6, 0.9)})
    assert "(fewer than ten people)" in comparison_text(compare_results([few, other]))


def test_what_is_judged_by_closeness_has_it():
    run, truth = (
        results(name, {"LipSync": [value] * 2, "SSIM": [0.5] * 2}) for name, value in (("a", 0.3), ("t", 0.2))
    )
    found = with_closeness(run, truth)
    assert found.metric("LipSync").extras["closeness"] == pytest.approx(0.5)
    assert "closeness" not in found.metric("SSIM").extras


def test_the_first_frame_and_the_whole_are_timed():
    """With a clock that advances by what each step takes."""
    now = itertools.accumulate(itertools.cycle([0.0, 2.0, 6.0]))
    timing = time_frames(lambda: (iter(np.zeros((50, 2, 2, 3), np.uint8)), 25.0), lambda: next(now))
    assert (timing.frames, timing.first_frame, timing.whole) == (50, 2.0, 8.0)
    assert timing.real_time_factor == 4.0
    assert summarise_timings([timing] * 2)["frames_per_second"] == 50 / 8
    with pytest.raises(ValueError, match="no frames"):
        time_frames(lambda: (iter(()), 25.0))


def test_a_group_stands_for_its_measures(videos, tmp_path):
    found = evaluate(videos / "poor" / "anna.mp4", metrics=["temporal"], cache=tmp_path).results
    assert [m.name for m in found.metrics] == ["Flicker", "Dynamics"]
    with pytest.raises(InputError, match="in a group: paper, articulation, regions, temporal, theval, all"):
        evaluate(videos / "poor" / "anna.mp4", metrics=["nonsense"], cache=tmp_path)

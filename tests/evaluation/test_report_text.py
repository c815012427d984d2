"""summary.md, comparisons and the table of ablations, from results written by hand."""

import csv
import json
import re

import numpy as np
import pytest
from report_helpers import results, summary, with_metrics

from cyberhost_model.config import ABLATIONS
from cyberhost_model.errors import InputError, OutputError
from cyberhost_model.lab.evaluation.protocol import PROTOCOL, PROTOCOL_EMBEDDED
from cyberhost_model.lab.evaluation.report import paper_table
from cyberhost_model.lab.evaluation.report.ablation import ablation_table
from cyberhost_model.lab.evaluation.report.compare import compare_reports, compare_results
from cyberhost_model.lab.evaluation.report.compare_output import comparison_text, write_comparison
from cyberhost_model.lab.evaluation.report.summary import method_tables, summary_text
from cyberhost_model.lab.evaluation.report.wording import (
    FULL_MODEL,
    PUBLISHED_LABEL,
    escape_markdown,
    format_interval,
    format_number,
    format_share,
    format_share_range,
    markdown_table,
    published_values,
)
from cyberhost_model.lab.evaluation.results import write_results

A = {"SSIM": [0.5, 0.6, 0.7, 0.8], "SyncD": [9.0, 8.0, 7.0, 6.0]}


def cells(text: str, first: str) -> list[str]:
    """The cells of the table row that begins with `first`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_numbers_are_written_alike():
    assert (
        format_number(-1.25, 1, sign=True) == "−1.2"
        and format_number(1.25, 2, sign=True) == "+1.25"
        and format_number(float("nan"), 2) == format_number(None, 2) == "–"
    )
    assert format_interval((0.1, 0.2), 1) == "0.1 to 0.2" and format_interval(None, 1) == "–"
    assert format_share(1.0) == "100%" and format_share(0.9999) == "99.9%" and format_share(0.5) == "50%"
    assert (
        format_share_range([0.5, 1.0]) == "50% to 100%"
        and format_share_range([1.0, 1.0]) == "100%"
        and format_share_range([]) == "–"
    )


def test_markdown_shows_names_as_they_are():
    assert escape_markdown("a|b\n<i>*x*") == r"a\|b \<i\>\*x\*"
    assert markdown_table(["A", "B"], [["x", "1"]]) == "| A | B |\n| :--- | ---: |\n| x | 1 |\n"


def test_the_papers_tables_are_whole():
    tables = published_values()
    assert {name: len(rows) for name, rows in tables.items()} == {"Table 1": 12, "Table 2": 4, "Table 3": 4}
    assert tables["Table 1"][FULL_MODEL]["HKV"] == "24.73" and "SSIM" not in tables["Table 1"]["Vlogger *"]
    assert set(ABLATIONS) < set(tables["Table 1"])


def test_the_best_of_several_methods_is_bold_and_protocols_stand_apart():
    one = results("one", {**A, "HKC": [0.5] * 4}, HKC={"protocol": PROTOCOL_EMBEDDED})
    two = results("two", {"SSIM": [0.9] * 4, "SyncD": [9.0] * 4, "HKC": [0.7] * 4})
    text = method_tables([one, two])
    first, *others = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert first.startswith(f"`{PROTOCOL}`") and others[0].startswith(f"`{PROTOCOL_EMBEDDED}`")
    assert cells(first, "one") == ["one", "4", "100%", "0.650", "**7.500**", "–"]
    assert cells(first, "two") == ["two", "4", "100%", "**0.900**", "9.000", "0.700"]
    assert cells(others[0], "one")[-1] == "0.500", "alone under its protocol: nothing to be better than"
    assert "**" not in method_tables([one, results("three", {"SSIM": [0.9, 0.9, np.nan, 0.9]})]), (
        "on other videos: not to be called better"
    )
    assert "SSIM ↑" in first and "SyncD ↓" in first


def test_a_summary_tells_what_was_skipped_and_keeps_the_papers_values_apart():
    run = with_metrics(
        results("mine", A),
        summary("FVD", None, "down", n=0, reason="no weights"),
        summary(
            "FID",
            40.0,
            "down",
            decimals=2,
            extras={"floor": {"value": 3.5, "n": 9}, "trend": [{"videos": 2, "n": 8, "value": 50.0}], "limit": 30.0},
        ),
    )
    text = summary_text(run)
    assert cells(text, "FVD") == ["FVD", "no weights"]
    itself = cells(text, "*ground truth against itself*")
    assert itself[3:] == ["1.000", "–", "3.50"]
    assert f"({PUBLISHED_LABEL})" in text and cells(text, "CyberHost (V2V-B)")[1:4] == ["0.782", "21.31", "20.04"]
    assert all("mine" not in part for part in text.split("## The paper's values")[1].split("##")[:1])
    assert "50.00 (2 videos); a line in 1/N meets 1/N = 0 at 30.00" in text and "Seed: 0" in text


def test_a_comparison_pairs_by_name_and_says_what_it_can(tmp_path):
    a = results("a", A, "wxyz")
    other = {"SSIM": [0.6, 0.7, 0.8, 0.9], "SyncD": [9.1, 7.9, 7.1, 5.9]}
    b = with_metrics(results("b", other, "xyzq", names=["v1", "v2", "v3", "v9"]), summary("FID", 30.0, "down"))
    for run in (a, b):
        (tmp_path / run.name).mkdir()
        write_results(run, tmp_path / run.name)
    comparison = compare_reports([tmp_path / "a", tmp_path / "b" / "summary.json"], seed=1)
    ssim, sync = comparison.differences
    assert (ssim.measure, ssim.n, ssim.people) == ("SSIM", 3, 3) and ssim.difference == pytest.approx(0.0)
    assert (
        sync.difference == pytest.approx(np.mean([9.1 - 8, 7.9 - 7, 7.1 - 6]))
        and sync.better == "a"
        and sync.ci95[0] > 0
    )
    assert comparison.unmatched == {"a": ("v9",), "b": ("v0",)}
    assert any("a has no FID" in line for line in comparison.notes)
    text = comparison_text(comparison)
    assert cells(text, "SyncD ↓")[1] == "a is better" and cells(text, "SSIM ↑")[1] == "not told apart"
    assert "Not in b: v0." in text
    again = compare_reports([tmp_path / "a", tmp_path / "b"], seed=1)
    assert again.differences == comparison.differences


def test_a_comparison_as_files(tmp_path):
    runs = [
        results("a", A, "wxyz"),
        results("b", {"SSIM": [0.9, 0.9, 0.9, 0.95]}, "wxyz"),
        results("<c>", {"SSIM": [0.1] * 4}, "wxyz"),
    ]
    paths = write_comparison(compare_results(runs), tmp_path / "out")
    assert [p.name for p in paths] == ["comparison.md", "comparison.csv", "comparison.json", "comparison.html"]
    values = json.loads(paths[2].read_text())
    assert [(d["run"], d["better"]) for d in values["differences"]] == [("b", "b"), ("<c>", "a")] and values[
        "seed"
    ] == 0
    rows = list(csv.DictReader(paths[1].open()))
    assert rows[0]["protocol"] == PROTOCOL and float(rows[0]["low"]) > 0 and rows[1]["other"] == "<c>"
    page = paths[3].read_text()
    assert "&lt;c&gt; against a" in page and "<c>" not in page and "<script" not in page
    with pytest.raises(OutputError, match="cannot be made"):
        write_comparison(compare_results(runs), tmp_path / "no" / "out")


def test_one_person_has_no_interval():
    comparison = compare_results([results("a", A, "x"), results("b", A, "x")])
    assert comparison.differences[0].ci95 is None and comparison.differences[0].better == ""
    assert "one person: no interval" in comparison_text(comparison)


def test_what_is_not_comparable_is_refused(tmp_path):
    a = results("a", A)
    with pytest.raises(InputError, match="SSIM follows cyberhost-eval-1 in a and cyberhost-eval-1-embedded in b"):
        compare_results([a, results("b", A, SSIM={"protocol": PROTOCOL_EMBEDDED})])
    weights = [{"SyncD": {"weights": {"net.pth": digit * 64}}} for digit in "01"]
    with pytest.raises(InputError, match=r"SyncD was measured with other weights \(net.pth\) in a than in b"):
        compare_results([results("a", A, **weights[0]), results("b", A, **weights[1])])
    with pytest.raises(InputError, match="no video in common"):
        compare_results([a, results("b", A, names=["p", "q", "r", "s"])])
    with pytest.raises(InputError, match="two or more folders"):
        compare_reports([tmp_path])


def test_videos_of_another_ground_truth_are_left_out():
    a, b = results("a", A, "wxyz"), results("b", A, "wxyz")
    a.provenance.inputs["ref/v0.mp4"], b.provenance.inputs["ref/v0.mp4"] = "0" * 64, "1" * 64
    comparison = compare_results([a, b])
    assert (
        comparison.differences[0].n == 3
        and "1 of 4 videos were measured against another ground truth" in comparison.notes[0]
    )


def test_ablations_stand_beside_the_papers_in_columns_of_their_own(tmp_path):
    values = {"full": (0.65, 30.0), "w/o Hand Clarity": (0.60, 33.0), "w/o Body Movement": (0.66, 25.0)}
    for name, (ssim, hkv) in values.items():
        folder = tmp_path / name.replace("/", "")
        folder.mkdir()
        write_results(results(name, {"SSIM": [ssim] * 2, "HKV": [hkv] * 2}, HKV={"decimals": 2, "unit": "px"}), folder)
    runs = {name: tmp_path / name.replace("/", "") for name in values}
    text = ablation_table(runs)
    assert "SSIM ↑ | SSIM, paper | HKV ↑ (px) | HKV, paper" in text
    assert cells(text, "full model") == ["full model", "2", "0.650", "0.691", "30.00", "24.73"]
    assert cells(text, "w/o Face Codebook") == ["w/o Face Codebook", "–", "–", "0.685", "–", "24.11"]
    changes = text.split("Change against the full model")[1]
    assert cells(changes, "w/o Hand Clarity") == ["w/o Hand Clarity", "−0.050", "−0.005", "+3.00", "+8.27"]
    assert "Of 4 changes the paper has too, 2 go the same way." in text and "Not measured: w/o Motion Codebook" in text
    with pytest.raises(InputError, match="one run of the full model"):
        ablation_table({name: path for name, path in runs.items() if name != "full"})
    write_results(results("x", {"SSIM": [0.5] * 2}, SSIM={"protocol": PROTOCOL_EMBEDDED}), runs["w/o Hand Clarity"])
    with pytest.raises(InputError, match="SSIM follows"):
        ablation_table(runs)


def test_runs_stand_below_the_papers_rows_of_a_table(tmp_path):
    for name, ssim in (("ours_1 & more", 0.7), ("theirs", 0.6)):
        (tmp_path / name).mkdir()
        write_results(results(name, {"SSIM": [ssim] * 2, "SyncD": [9.0] * 2}), tmp_path / name)
    reports = [tmp_path / "ours_1 & more", tmp_path / "theirs"]
    table = paper_table.paper_table(3, reports)
    text = paper_table.markdown(table)
    paper = next(line for line in text.splitlines() if "A2V-H" in line)
    assert paper.strip("| ").split(" | ")[1:] == "0.694 19.247 25.79 552.6 0.581 4.243 8.658".split()
    own = next(line for line in text.splitlines() if "more |" in line)
    assert own.split(" | ")[1:3] == ["**0.700**", "–"] and "SSIM ↑ | PSNR ↑ (dB)" in text and PUBLISHED_LABEL in text
    written = paper_table.latex(table)
    assert r"Method & SSIM$\uparrow$ & PSNR$\uparrow$ & FID$\downarrow$" in written
    assert r"ours\_1 \& more & \textbf{0.700} & --" in written and written.count(r"\\") == 1 + len(table.printed) + 2
    assert r"theirs & 0.600 & --" in written and r"\textbf{9.00}" not in written.split("theirs")[0].split("toprule")[0]
    with pytest.raises(InputError, match="another run is called"):
        paper_table.paper_table(1, [reports[0], reports[0]])
    write_results(results("theirs", {"SSIM": [0.5] * 2}, SSIM={"protocol": PROTOCOL_EMBEDDED}), reports[1])
    with pytest.raises(InputError, match="SSIM follows"):
        paper_table.paper_table(1, reports)

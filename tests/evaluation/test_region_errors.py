"""Rows of Table 1 judged by the error of their networks, region by region."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from cyberhost_model.config import ABLATIONS
from cyberhost_model.lab.evaluation.report.region_errors import (
    ABOUT,
    REGIONS,
    ClipError,
    error_latex,
    error_table,
    error_values,
    paper_changes,
    region_changes,
    write_error_csv,
)
from cyberhost_model.lab.training.ablation import read_errors, write_errors

PEOPLE = 12


def errors(hands: float, seeds: int = 2, spread: float = 0.0) -> list[list[ClipError]]:
    """Two clips of each of twelve people: every clip has its own level, and the hands `hands` percent more of it."""
    found = []
    for seed in range(seeds):
        random = np.random.default_rng(0)  # the same clips in all rows
        own = np.random.default_rng([seed, round(100 * abs(hands))])
        clips = []
        for number in range(2 * PEOPLE):
            level = random.uniform(0.1, 1)
            values = dict.fromkeys(REGIONS, level)
            values["hands"] *= 1 + hands / 100 + spread * own.normal()
            if number == 0:
                values["lips"] = float("nan")
            clips.append(ClipError(f"c{number}", f"p{number // 2}", values))
        found.append(clips)
    return found


def test_a_region_that_gets_worse_is_told_from_those_that_do_not():
    """Levels differ by ten times from clip to clip: only pairs show a change of a percent."""
    rows = {
        "Full": errors(0),
        "w/o Hand Clarity": errors(1.0, spread=0.002),
        "w/o Hand Codebook": errors(0.0, spread=0.002),
    }
    found = {(c.row, c.region): c for c in region_changes(rows, 0)}
    worse = found["w/o Hand Clarity", "hands"]
    assert worse.change == pytest.approx(1.0, abs=0.1) and worse.verdict == "worse" and worse.about
    assert 0 < worse.ci95[0] < worse.change < worse.ci95[1] and len(worse.by_seed) == 2 and worse.people == PEOPLE
    face = found["w/o Hand Clarity", "face"]
    assert face.change == 0 and face.verdict == "no change" and not face.about
    assert found["w/o Hand Codebook", "hands"].verdict == "not told apart"
    assert found["w/o Hand Clarity", "lips"].clips == 2 * PEOPLE - 1 and found["Full", "hands"].ci95 is None


def test_tables_say_what_the_row_is_for():
    changes = region_changes({"Full": errors(0), "w/o Hand Clarity": errors(-2.0)}, 0)
    text = error_table(changes, "Error")
    row = next(line for line in text.splitlines() if line.startswith("| Hand Clarity |"))
    assert row.split(" | ")[1] == "hands" and "**−2.00% (−2.00 to −2.00)**" in row and "hands better" in row
    assert row.split(" | ")[-1] == "HKC −0.035 (worse) |" and text.startswith("### Error\n")
    assert (
        "24 clips of 12 people, 2 seeds" in text
        and " Lips: 23 clips of 12 people." in text
        and "fewer than ten" not in text.lower()
    )
    assert r"\textbf{$-$2.00\% ($-$2.00 to $-$2.00)}" in error_latex(changes) and r"\toprule" in error_latex(changes)
    few = region_changes({"Full": [errors(0, 1)[0][:6]], "w/o Hand Clarity": [errors(1, 1)[0][:6]]}, 0)
    assert "Fewer than ten people" in error_table(few, "") and "of 3 people, 1 seed," in error_table(few, "")
    one = region_changes({"Full": [errors(0, 1)[0][:2]], "w/o Hand Clarity": [errors(1, 1)[0][:2]]}, 0)
    assert next(c for c in one if c.row != "Full").verdict == "" and error_values(one)[0]["ci95"] is None


def test_a_change_that_not_all_seeds_show_is_none():
    """Two of three seeds are 2% worse, one is 0.5% better: the interval over people leaves out zero."""
    rows = {
        "Full": errors(0, 3),
        "w/o Hand Clarity": [errors(2.0, 1)[0], errors(2.0, 1)[0], errors(-0.5, 1)[0]],
        "w/o Hand Codebook": errors(1.0, 3),
    }
    found = {c.row: c for c in region_changes(rows, 0) if c.region == "hands"}
    mixed = found["w/o Hand Clarity"]
    assert mixed.by_seed == pytest.approx((2.0, 2.0, -0.5)) and mixed.ci95[0] > 0 and mixed.verdict == "seeds differ"
    assert found["w/o Hand Codebook"].verdict == "worse"
    text = error_table([*found.values()], "Error")
    assert "**+1.00%" in text and "**+1.1" not in text


def test_a_change_that_is_written_as_zero_is_none():
    changes = region_changes({"Full": errors(0), "w/o Hand Clarity": errors(0.003)}, 0)
    hands = next(c for c in changes if c.row != "Full" and c.region == "hands")
    assert 0 < hands.ci95[0] < 0.005 and hands.verdict == "no change" and "**" not in error_table(changes, "Error")


def test_the_changes_as_csv(tmp_path):
    changes = region_changes({"Full": errors(0), "w/o Hand Clarity": errors(-2.0)}, 0)
    write_error_csv({"trained": changes, "before": changes[:4]}, tmp_path / "errors.csv")
    with (tmp_path / "errors.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["when"] for line in lines] == ["trained"] * 8 + ["before"] * 4
    hands = lines[6]
    assert (hands["row"], hands["region"], hands["about"], hands["verdict"]) == (
        "w/o Hand Clarity",
        "hands",
        "1",
        "better",
    )
    assert float(hands["low"]) <= float(hands["change"]) <= float(hands["high"]) < 0 and hands["by_seed"] == "-2 -2"
    assert lines[0]["low"] == "" and float(lines[0]["error"]) > 0


def test_the_paper_s_changes_are_those_of_the_measures_about_a_part():
    assert paper_changes("w/o Face Codebook") == "CSIM −0.089 (worse)"
    assert paper_changes("w/o Motion Codebook") == "CSIM +0.009 (better), HKC −0.025 (worse)"
    assert paper_changes("w/o Body Movement") == "SSIM −0.011 (worse), FVD +112.8 (worse)"


def test_every_row_of_the_paper_has_its_regions():
    assert set(ABOUT) == set(ABLATIONS) and {r for regions in ABOUT.values() for r in regions} <= set(REGIONS)


def test_errors_are_read_as_they_were_written(tmp_path):
    (clips,) = errors(1.0, seeds=1)
    write_errors(clips, tmp_path / "errors.csv")
    again = read_errors(tmp_path / "errors.csv")
    assert [c.clip for c in again] == [c.clip for c in clips]
    assert again[3].errors == clips[3].errors and np.isnan(again[0].errors["lips"])

"""Rows of Table 1 judged by the error of their networks, region by region."""

from __future__ import annotations

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
    region_changes,
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
    rows = {"Full": errors(0), "w/o Hand Clarity": errors(1.0, spread=0.002), "w/o Hand Codebook": errors(0.0)}
    found = {(c.row, c.region): c for c in region_changes(rows, 0)}
    worse = found["w/o Hand Clarity", "hands"]
    assert worse.change == pytest.approx(1.0, abs=0.1) and worse.verdict == "worse" and worse.about
    assert 0 < worse.ci95[0] < worse.change < worse.ci95[1] and len(worse.by_seed) == 2 and worse.people == PEOPLE
    face = found["w/o Hand Clarity", "face"]
    assert face.change == 0 and face.verdict == "not told apart" and not face.about
    assert found["w/o Hand Codebook", "hands"].verdict == "not told apart"
    assert found["w/o Hand Clarity", "lips"].clips == 2 * PEOPLE - 1 and found["Full", "hands"].ci95 is None


def test_tables_say_what_the_row_is_for():
    changes = region_changes({"Full": errors(0), "w/o Hand Clarity": errors(-2.0)}, 0)
    text = error_table(changes)
    row = next(line for line in text.splitlines() if line.startswith("| Hand Clarity |"))
    assert row.split(" | ")[1] == "hands" and "**−2.00% (−2.00 to −2.00)**" in row and "hands better" in row
    assert "24 clips of 12 people, 2 seeds" in text and "fewer than ten" not in text.lower()
    assert r"\textbf{$-$2.00\% ($-$2.00 to $-$2.00)}" in error_latex(changes) and r"\toprule" in error_latex(changes)
    few = region_changes({"Full": [errors(0, 1)[0][:6]], "w/o Hand Clarity": [errors(1, 1)[0][:6]]}, 0)
    assert "Fewer than ten people" in error_table(few) and "of 3 people, 1 seed," in error_table(few)
    one = region_changes({"Full": [errors(0, 1)[0][:2]], "w/o Hand Clarity": [errors(1, 1)[0][:2]]}, 0)
    assert next(c for c in one if c.row != "Full").verdict == "" and error_values(one)[0]["ci95"] is None


def test_every_row_of_the_paper_has_its_regions():
    assert set(ABOUT) == set(ABLATIONS) and {r for regions in ABOUT.values() for r in regions} <= set(REGIONS)


def test_errors_are_read_as_they_were_written(tmp_path):
    (clips,) = errors(1.0, seeds=1)
    write_errors(clips, tmp_path / "errors.csv")
    again = read_errors(tmp_path / "errors.csv")
    assert [c.clip for c in again] == [c.clip for c in clips]
    assert again[3].errors == clips[3].errors and np.isnan(again[0].errors["lips"])

"""What a dataset holds: figures, text, page; made clips in the same format; the commands."""

import json
import re

import numpy as np
import pytest

from cyberhost_cli.main import main
from cyberhost_model.lab.filmed.inspection import EDGES, histogram, summarise, summary_text
from cyberhost_model.lab.filmed.labels import ALWAYS, read_labels
from cyberhost_model.lab.filmed.manifest import MEANING, Reason, Row, add_rows, read_manifest
from cyberhost_model.lab.filmed.page import draw_labels, evenly_spaced
from cyberhost_model.lab.synthetic.clips import export_clip
from data_helpers import small_synth


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three clips of drawn people and one rejected row, as a dataset."""
    folder = tmp_path_factory.mktemp("made")
    synth = small_synth(folder / "speech")
    rows = [export_clip(synth.clip(i), folder, i) for i in range(3)]
    add_rows(folder, rows[:2])
    add_rows(
        folder,
        [rows[2], Row("x/0000", "rejected", "/v/x.mp4", start=1.0, end=37.0).reject(Reason.NO_HANDS, "a hand in 3%")],
    )
    return folder


def test_made_clips_have_the_format_of_prepared_ones(made):
    rows = read_manifest(made, accepted=True)
    assert [row.clip for row in rows] == ["000000", "000001", "000002"]
    labels = read_labels(made / rows[0].labels)
    assert set(ALWAYS) < set(labels) and set(labels) - set(ALWAYS) == {"flow", "seen"}
    assert all(len(labels[name]) == rows[0].frames for name in labels if name != "identity")
    assert (
        rows[0].detector == "exact" and rows[0].split in ("train", "held_out") and (made / rows[0].reference).is_file()
    )
    assert all(row.lip_correlation > 0.7 for row in rows if row.speech_share > 0.5)


def test_rows_of_the_same_name_are_replaced(made):
    before = read_manifest(made)
    add_rows(made, [before[0]])
    assert read_manifest(made) == before


def test_the_summary_counts(made):
    summary = summarise(read_manifest(made))
    assert summary["clips"] == {"accepted": 3, "rejected": 1}
    assert summary["sizes"] == {"128x128": 3} and summary["hours"]["rejected"] == pytest.approx(0.01)
    assert summary["reasons"]["no_hands"]["clips"] == 1
    assert sum(summary["splits"][name]["clips"] for name in summary["splits"]) == 3
    for name in EDGES:
        data = summary["histograms"][name]
        assert sum(data["counts"]) + data["unknown"] == 3
    text = summary_text(summary)
    assert "3 accepted, 1 rejected" in text and MEANING[Reason.NO_HANDS] in text


def test_a_histogram_keeps_what_lies_beyond_its_edges():
    assert histogram([0.5, 1.5, 99.0, None, float("nan")], [0, 1, 2]) == {
        "edges": [0, 1, 2],
        "counts": [1, 2],
        "unknown": 2,
    }


def test_samples_are_spread_over_the_dataset():
    rows = [Row(str(i), "accepted", "s") for i in range(100)]
    assert [r.clip for r in evenly_spaced(rows, 5)] == ["0", "25", "50", "74", "99"]
    assert evenly_spaced(rows[:3], 5) == rows[:3]


def test_points_are_drawn_where_they_are(made):
    labels = read_labels(made / "000000.npz")
    picture = np.full((128, 128, 3), 100, np.uint8)
    drawn = draw_labels(picture, labels, 3)
    x, y = (labels["face"][3].mean(0) * 128).astype(int)
    assert (drawn[y - 20 : y + 20, x - 20 : x + 20] != 100).any() and (picture == 100).all()


def test_the_page_is_whole_and_fetches_nothing(made, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["data", "inspect", str(made), "-o", str(page), "--samples", "2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    text = page.read_text()
    assert data["clips"]["accepted"] == 3 and data["page"] == str(page)
    assert text.count("data:image/jpeg;base64,") == 6 and "no_hands" in text
    assert (
        not re.search(r"(src|href)=\"(?!data:)", text) and "<script" not in text and text.rstrip().endswith("</html>")
    )


def test_inspect_prints_figures_and_tells_what_is_wrong(made, tmp_path, capsys):
    assert main(["data", "inspect", str(made)]) == 0
    assert "hand clarity" in capsys.readouterr().out
    assert main(["data", "inspect", str(tmp_path)]) == 3
    assert "holds no manifest.parquet" in capsys.readouterr().err
    assert main(["data", "inspect", str(made), "-o", str(tmp_path / "no" / "page.html")]) == 5


def test_prepare_on_the_command_line(tmp_path, capsys):
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    out = tmp_path / "set"
    assert main(["data", "prepare", str(text), "-o", str(out), "--workers", "0", "--json"]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert data["reasons"] == {"undecodable": 1} and data["broken"][0]["source"] == str(text)
    assert "text.mp4: undecodable" in captured.err
    assert main(["data", "prepare", str(text), "-o", str(out), "--workers", "0", "--crop", "head"]) == 3
    assert main(["data", "prepare", str(text), "-o", str(out), "--crop", "feet"]) == 2
    assert main(["data", "prepare", str(text), "-o", str(out), "--area", "big"]) == 2
    assert main(["data", "prepare", str(text), "-o", str(out), "--engine", "slurm"]) == 2
    assert main(["data", "prepare", str(tmp_path / "none.mp4"), "-o", str(out)]) == 3
    assert "other settings (crop)" in capsys.readouterr().err


def test_synth_writes_a_manifest(tmp_path, capsys):
    from data_helpers import speech_folder

    speech = speech_folder(tmp_path / "speech")
    assert (
        main(
            [
                "data",
                "synth",
                "--speech",
                str(speech),
                "-o",
                str(tmp_path / "set"),
                "--clips",
                "1",
                "--frames",
                "16",
                "--start",
                "4",
                "-q",
            ]
        )
        == 0
    )
    (row,) = read_manifest(tmp_path / "set")
    assert row.clip == "000004" and row.accepted and (tmp_path / "set" / row.video).is_file()

"""report.html: whole, self-contained, names are text, films have a limit."""

import base64
import dataclasses
import re

import numpy as np
import pytest
from report_helpers import NASTY, results

from cyberhost_model.lab.evaluation.metric import VideoValue
from cyberhost_model.lab.evaluation.protocol import PROTOCOL, PROTOCOL_EMBEDDED
from cyberhost_model.lab.evaluation.report.charts import Line, layout_chart, thin_out
from cyberhost_model.lab.evaluation.report.clip_copies import ClipCopies
from cyberhost_model.lab.evaluation.report.page import report_page, write_report
from cyberhost_model.lab.evaluation.report.players import pack_keypoints, skeleton_lines
from cyberhost_model.lab.evaluation.report.selection import videos_to_show, worst_moment, worst_videos


def test_the_files_are_written_and_nothing_is_fetched(drawn_run, tmp_path):
    assert [p.name for p in write_report(drawn_run, tmp_path)] == ["summary.md", "report.html"]
    page = (tmp_path / "report.html").read_text()
    assert page.rstrip().endswith("</html>") and page.count("data:video/mp4;base64,") == 6
    assert not re.search(r'(src|href)="(?!data:video/mp4|#)', page) and "http" not in page.split("</style>")[1].replace(
        "http-equiv", ""
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "summary.md"]


def test_names_are_text(drawn_run):
    page = report_page(drawn_run, ClipCopies(limit=0))
    assert (
        NASTY not in page
        and "&lt;img src=x onerror=alert(1)&gt;" in page
        and "<b>tiny" not in page
        and "tiny &lt;b&gt;" in page
    )


def test_protocols_stand_in_tables_of_their_own(drawn_run):
    page = report_page(drawn_run, ClipCopies(limit=0))
    tables = re.findall(r'aria-label="([^"]*)"><table>(.*?)</table>', page, re.DOTALL)
    for label, table in tables:
        rows = set(re.findall(r"(CSIM|HKC|SSIM|PSNR|SyncC|SyncD) [↑↓]", table))
        assert "of the paper" in label or not (rows & {"CSIM", "HKC"} and rows & {"SSIM", "PSNR", "SyncC", "SyncD"}), (
            label
        )
    assert (
        sum(label.endswith(PROTOCOL_EMBEDDED) for label, _ in tables)
        == sum(label.endswith(PROTOCOL) for label, _ in tables)
        == 6
    )


def test_films_have_a_limit_and_what_is_left_out_is_told(drawn_run):
    paths = next(iter(drawn_run.paths.values()))
    copies = ClipCopies(seconds=0.5)
    first = copies.make(paths.generated)
    assert first.data[4:8] == b"ftyp" and first.poster[:2] == b"\xff\xd8"
    assert copies.made == len(first.data) + len(first.poster)
    copies.limit = copies.made + 10
    assert copies.make(paths.generated).reason.startswith("no clip: the page holds") and copies.left_out == 1
    assert "no clip could be made" in ClipCopies().make(paths.generated.with_name("none.mp4")).reason
    page = report_page(drawn_run, ClipCopies(limit=1))
    assert "data:video" not in page and "6 clips had no room" in page


def test_the_worst_are_chosen_by_direction():
    run = results("a", {"SSIM": [0.9, 0.5, np.nan, 0.7], "SyncD": [7.0, 8.0, 9.0, 6.0]})
    worst = worst_videos(run)
    assert worst == {"SSIM": ["v1", "v3", "v0"], "SyncD": ["v2", "v1", "v0"]}
    assert videos_to_show(worst) == {
        "v0": ["3rd worst SSIM", "3rd worst SyncD"],
        "v1": ["worst SSIM", "2nd worst SyncD"],
        "v2": ["worst SyncD"],
        "v3": ["2nd worst SSIM"],
    }


def test_a_long_video_is_shown_about_its_worst_moment(drawn_run):
    row = drawn_run.results.videos[0]
    assert worst_moment(row, 8.0, drawn_run.results) == 0.0
    frames = np.full(24, 0.9)
    frames[18] = 0.1
    row = dataclasses.replace(row, values={"SSIM": VideoValue(0.8, series={"frame": frames})})
    assert worst_moment(row, 0.4, drawn_run.results) == pytest.approx(18.5 / 25 - 0.2)


def test_key_points_are_packed_as_the_script_reads_them():
    points = np.tile(np.array([0.25, 0.75], np.float32), 128)[None]
    scores = np.ones((1, 128))
    scores[0, 5] = 0.1
    values = np.frombuffer(base64.b64decode(pack_keypoints(points, scores)), "<u2").reshape(128, 2)
    assert values[0] / 65534 * 3 - 1 == pytest.approx([0.25, 0.75], abs=1e-4) and (values[5] == 65535).all()
    assert {point for a, b, *_ in skeleton_lines() for point in (a, b)} == set(range(128))


def test_charts_break_at_gaps_and_keep_the_worst():
    places, values = thin_out(np.r_[np.ones(999), 0.2, np.ones(1000)], "up")
    assert len(values) == 240 and values.min() == 0.2 and places[np.argmin(values)] == pytest.approx(0.5, abs=0.01)
    y = np.array([1.0, np.nan, 2.0, 3.0])
    chart = layout_chart("A", [Line(np.arange(4.0), y)], "x", "words")
    assert chart is not None and [path.look for path in chart.paths] == ["axis", "main"]
    assert re.fullmatch(r"M[\d. ]+M[\d. ]+L[\d. ]+", chart.paths[1].d) and chart.labels[-1].text == "x"
    assert layout_chart("none", [Line(np.arange(2.0), np.full(2, np.nan))], "x", "words") is None

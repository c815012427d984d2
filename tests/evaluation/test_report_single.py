"""The report on a single video, from the file to the page, with the networks that come with the package."""

import numpy as np
from PIL import Image

from cyberhost_model.lab.evaluation.report.single import report_video
from cyberhost_model.media.video_reader import probe_video, read_frames
from cyberhost_model.media.video_writer import write_video


def test_weak_seconds_of_a_file_are_named(drawn_run, tmp_path):
    source = drawn_run.paths["person/1"].ground_truth
    frames = [frame.copy() for batch in read_frames(probe_video(source)) for frame in batch]
    Image.fromarray(frames[0]).save(tmp_path / "picture.png")
    frames[6:20] = [frames[6]] * 14
    video = write_video(frames + [np.full_like(frames[0], 90)] * 12, tmp_path / "a<b.mp4", 25, source)
    told = []
    report = report_video(
        video,
        tmp_path / "report.html",
        picture=tmp_path / "picture.png",
        cache=tmp_path / "cache",
        progress=lambda *t: told.append(t),
    )
    # The grey end stands still too; its first frame is a change.
    assert report.lines[0] == "0:00.2 to 0:00.8: the picture stands still: 13 frames are like the one before"
    assert [w.kind for w in report.weak].count("frozen") == 2 and "no face" in [w.kind for w in report.weak]
    csim, hkc = (report.evaluation.results.metric(name) for name in ("CSIM", "HKC"))
    assert (
        csim is not None
        and csim.value is not None
        and csim.value > 0.9
        and 0.6 < csim.coverage < 0.7
        and hkc is not None
    )
    page = report.page.read_text()
    assert "a&lt;b" in page and "a<b" not in page and "data-points=" in page and 'data-jump="0.00"' in page
    assert "syncnet" in page.lower(), "what could not be measured is told with its reason"
    assert len(told) == 36

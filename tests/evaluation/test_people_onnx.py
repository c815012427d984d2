"""The code around the ONNX networks, with tiny graphs of the same inputs and outputs: planted people are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

# The libraries of the extras `eval` and `dev`.
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import onnx_graphs  # noqa: E402

from cyberhost_model.errors import ModelError  # noqa: E402
from cyberhost_model.lab.evaluation.features.extractor import VideoInfo  # noqa: E402
from cyberhost_model.lab.evaluation.metric import Context  # noqa: E402
from cyberhost_model.lab.evaluation.metrics import akd, hands  # noqa: E402
from cyberhost_model.lab.evaluation.protocol import PROTOCOL  # noqa: E402
from cyberhost_model.lab.filmed.detectors import DwposeDetector, PeopleDetector  # noqa: E402
from cyberhost_model.perception.dwpose import DWPose  # noqa: E402
from cyberhost_model.perception.onnx_network import OnnxNetwork  # noqa: E402
from cyberhost_model.perception.people import count_people  # noqa: E402


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    onnx_graphs.yolox(folder / "yolox_l.onnx")
    onnx_graphs.wholebody(folder / "dw-ll_ucoco_384.onnx")
    return folder


@pytest.fixture(scope="session")
def dwpose(weights) -> DWPose:
    return DWPose.from_files(weights / "yolox_l.onnx", weights / "dw-ll_ucoco_384.onnx")


def frame(width: int = 960, height: int = 960, *red: tuple[int, int, int]) -> np.ndarray:
    """Draw red squares of 48 pixels, (column, row, red) each, on black.

    They are 32 pixels of the detector's input if the frame is 960 on its longer side.
    """
    picture = np.zeros((height, width, 3), np.uint8)
    for x, y, value in red:
        picture[48 * y : 48 * y + 48, 48 * x : 48 * x + 48, 0] = value
    return picture


def test_people_are_found_in_pixels_of_the_frame(dwpose):
    for size in ((960, 960), (960, 528), (528, 960)):
        boxes, scores = dwpose.finder(frame(*size, (3, 4, 255), (9, 8, 200), (1, 1, 60)))
        assert np.allclose(scores, [1, 200 / 255], atol=0.01)  # the third is below 0.3
        # 64 x 128 about the cell's middle, half as large again in the frame
        assert np.allclose(boxes[0], [168 - 48, 216 - 96, 168 + 48, 216 + 96], atol=0.01)


def test_points_are_found_in_the_right_person_and_order(dwpose):
    """The person's box is about (168, 216); the brightest 16 x 16 patch of the crop holds all points."""
    (k,) = dwpose.people(frame(960, 960, (3, 4, 255)))
    # The crop is 180 x 240 about (168, 216): 1.6 pixels of the network's a pixel. The square lies from column 105.6 to
    # 182.4.
    left, top = 168 - 90, 216 - 120
    column = (k.body[0] * 960 - [left, top]) * 1.6
    assert 105.6 <= column[0] - 8 and column[0] + 8 <= 182.4
    step = 0.5 / 1.6 / 960  # half a pixel of the network's
    x = k.face[:, 0]
    assert np.allclose(np.diff(x), step, atol=1e-6)  # points 23 to 90 in order
    assert np.allclose(k.hands[0, :, 0] - x[0], (91 - 23 + np.arange(21)) * step, atol=1e-6)
    assert np.allclose(k.hands[1, :, 0] - x[0], (112 - 23 + np.arange(21)) * step, atol=1e-6)
    # nose, right shoulder (COCO 6), left shoulder (5), left ear (3); the neck between the shoulders
    assert np.allclose(k.body[[2, 5, 17], 0] - k.body[0, 0], np.array([6, 5, 3]) * step, atol=1e-6)
    assert k.body[1, 0] == pytest.approx(k.body[[2, 5], 0].mean(), abs=1e-6)
    assert k.body_score.min() > 0.3


def test_the_largest_person_counts_and_nobody_is_the_whole_frame(dwpose):
    people, found = dwpose.largest([frame(960, 960, (3, 4, 255)), frame(960, 960)])
    assert found.tolist() == [True, False] and len(people) == 2
    assert dwpose.people(frame(960, 960)) == []


def test_dwpose_takes_the_place_of_the_embedded_detector(dwpose):
    detector: PeopleDetector = DwposeDetector(dwpose)
    found = detector([frame(960, 960, (3, 4, 255), (14, 12, 255)), frame(960, 960)])
    assert [len(f) for f in found] == [2, 0] and count_people(found[0]) == 2
    scores = np.concatenate([found[0][0].body_score, found[0][0].face_score, found[0][0].hands_score.ravel()])
    assert scores.min() >= 0 and scores.max() <= 1  # the network's own go above
    assert detector.finds_faceless and not detector.reads_lips


def test_the_metrics_are_built_from_a_folder_of_weights(weights):
    context = Context(weights_dir=weights, download=False)
    metric, of_hands = akd.build(context), hands.build(context)
    assert metric.protocol == of_hands.protocol == PROTOCOL
    assert metric.needs["generated"] is of_hands.needs["generated"]  # the detector runs once
    assert set(metric.weights) == {"yolox_l.onnx", "dw-ll_ucoco_384.onnx"} and all(
        len(v) == 64 for v in metric.weights.values()
    )
    assert not metric.licence
    extractor = metric.needs["generated"]
    extractor.begin(VideoInfo(Path("x"), 25.0, (960, 960), 2))
    extractor.push(np.stack([frame(960, 960, (3, 4, 255)), frame(960, 960)]))
    features = extractor.finish()
    assert features["points"].shape == (2, 256) and features["found"].ravel().tolist() == [1, 0]


def test_what_is_no_network_is_told(tmp_path):
    (tmp_path / "yolox_l.onnx").write_text("not a network")
    with pytest.raises(ModelError, match=r"yolox_l\.onnx: not an ONNX network .* fetch the file again"):
        OnnxNetwork(tmp_path / "yolox_l.onnx")

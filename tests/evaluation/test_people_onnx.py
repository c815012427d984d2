"""What stands around the ONNX networks, with tiny graphs of the same inputs and outputs: planted people and faces are
found where they are.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

# The libraries of the extras `eval` and `dev`.
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import onnx_graphs  # noqa: E402

from cyberhost_model.errors import ModelError  # noqa: E402
from cyberhost_model.lab.evaluation.features.extractor import VideoInfo  # noqa: E402
from cyberhost_model.lab.evaluation.metric import Context  # noqa: E402
from cyberhost_model.lab.evaluation.metrics import akd, csim, hands  # noqa: E402
from cyberhost_model.lab.evaluation.protocol import PROTOCOL  # noqa: E402
from cyberhost_model.lab.filmed.detectors import DwposeDetector, PeopleDetector  # noqa: E402
from cyberhost_model.perception.arcface import ArcFace, FaceDetector, aligned  # noqa: E402
from cyberhost_model.perception.dwpose import DWPose  # noqa: E402
from cyberhost_model.perception.onnx_network import OnnxNetwork  # noqa: E402
from cyberhost_model.perception.people import people_count  # noqa: E402


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    onnx_graphs.yolox(folder / "yolox_l.onnx")
    onnx_graphs.wholebody(folder / "dw-ll_ucoco_384.onnx")
    onnx_graphs.scrfd(folder / "det_10g.onnx")
    onnx_graphs.arcface(folder / "w600k_r50.onnx")
    return folder


@pytest.fixture(scope="session")
def dwpose(weights) -> DWPose:
    return DWPose.from_files(weights / "yolox_l.onnx", weights / "dw-ll_ucoco_384.onnx")


def frame(width: int = 960, height: int = 960, *red: tuple[int, int, int]) -> np.ndarray:
    """Black; squares of 48 pixels (32 of the detector's, if the frame is 960 on its longer side) as red as told:
    (column, row, red).
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
    assert [len(f) for f in found] == [2, 0] and people_count(found[0]) == 2
    scores = np.concatenate([found[0][0].body_score, found[0][0].face_score, found[0][0].hands_score.ravel()])
    assert scores.min() >= 0 and scores.max() <= 1  # the network's own go above
    assert detector.finds_faceless and not detector.reads_lips


def test_faces_and_their_points_are_found(weights):
    detector = FaceDetector(OnnxNetwork(weights / "det_10g.onnx"))
    picture = np.zeros((320, 480, 3), np.uint8)
    picture[96:144, 192:240, 0] = 255  # cell (8, 4) of 32 in the square of 640: scale 4/3, so 256..320 x 128..192
    boxes, scores, points = detector(picture)
    assert len(boxes) and np.allclose(scores, 1, atol=0.05)
    strides = (boxes[:, 2] - boxes[:, 0]) * 4 / 3 / 4
    assert set(np.round(strides).astype(int)) <= {8, 16, 32}
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert np.allclose(points[:, 2], middle, atol=1e-4)  # the nose lies on the cell's corner
    assert (middle >= [192 - 0.1, 96 - 0.1]).all() and (middle < [240, 144]).all()
    assert detector(np.zeros((200, 100, 3), np.uint8))[0].shape == (0, 4)


def test_a_face_is_turned_upright():
    """A picture that shows a face turned by 30 degrees and twice as large is brought to the places of ArcFace."""
    wanted = np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    )
    turn = 2 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    points = wanted @ turn.T + [200, 60]
    picture = np.zeros((400, 400, 3), np.uint8)
    for number, (x, y) in enumerate(points):
        cv2.circle(picture, (round(x), round(y)), 6, (0, 40 * number + 80, 0), -1)
    face = aligned(picture, points)
    for number, (x, y) in enumerate(wanted):
        assert face.shape == (112, 112, 3) and abs(int(face[round(y), round(x), 1]) - (40 * number + 80)) <= 2


def test_embeddings_are_of_length_one_and_missing_where_no_face_is(weights):
    arcface = ArcFace.from_files(weights / "det_10g.onnx", weights / "w600k_r50.onnx")
    frames = np.zeros((3, 320, 480, 3), np.uint8)
    frames[0, 96:144, 192:240, 0] = frames[2, 96:144, 192:240, 0] = 255
    frames[2, 110:120, 200:210, 1] = 90
    found = arcface(frames)
    assert found.shape == (3, 512) and np.isnan(found[1]).all()
    assert np.allclose(np.linalg.norm(found[[0, 2]], axis=1), 1, atol=1e-5) and 0.5 < found[0] @ found[2] < 0.9999


def test_the_metrics_are_built_from_a_folder_of_weights(weights):
    context = Context(weights_dir=weights, download=False)
    metric, of_hands, of_faces = akd.build(context), hands.build(context), csim.build(context)
    assert metric.protocol == of_hands.protocol == of_faces.protocol == PROTOCOL
    assert metric.needs["generated"] is of_hands.needs["generated"]  # the detector runs once
    assert set(metric.weights) == {"yolox_l.onnx", "dw-ll_ucoco_384.onnx"} and all(
        len(v) == 64 for v in metric.weights.values()
    )
    assert "non-commercial" in of_faces.licence and not metric.licence
    extractor = metric.needs["generated"]
    extractor.begin(VideoInfo(Path("x"), 25.0, (960, 960), 2))
    extractor.push(np.stack([frame(960, 960, (3, 4, 255)), frame(960, 960)]))
    features = extractor.finish()
    assert features["points"].shape == (2, 256) and features["found"].ravel().tolist() == [1, 0]


def test_what_is_no_network_is_told(tmp_path):
    (tmp_path / "yolox_l.onnx").write_text("not a network")
    with pytest.raises(ModelError, match=r"yolox_l\.onnx: not an ONNX network .* fetch the file again"):
        OnnxNetwork(tmp_path / "yolox_l.onnx")

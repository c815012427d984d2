"""CSIM, AKD, HKC and HKV: planted key points and embeddings -> the values the protocol expects."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from cyberhost_model.lab.evaluation.features.extractor import PerFrame, VideoInfo
from cyberhost_model.lab.evaluation.features.people import HANDS, KEYPOINTS, PersonFeatures, in_pixels, keypoint_rows
from cyberhost_model.lab.evaluation.metric import Sample, VideoValue
from cyberhost_model.lab.evaluation.metrics.akd import Akd
from cyberhost_model.lab.evaluation.metrics.csim import Csim
from cyberhost_model.lab.evaluation.metrics.hands import Hands, temporal_deviation
from cyberhost_model.perception.keypoints import Keypoints

SIZE = (384, 640)  # pixels are those of the protocol


def source() -> PersonFeatures:
    return PersonFeatures(PerFrame("planted", "1", lambda frames: {}, {}), "protocol")


def sample(**features) -> Sample:
    n = len(next(iter(features["generated"].values())))
    pairs = np.stack([np.arange(n)] * 2, 1)
    return Sample("clip", "somebody", n, 25.0, features, pairs)


def people(n: int = 100, score: float = 0.9, size: tuple[int, int] = SIZE) -> dict[str, np.ndarray]:
    """The same points in each of `n` frames."""
    points = np.random.default_rng(0).uniform(0.2, 0.8, (KEYPOINTS, 2)).astype(np.float32)
    return {
        "points": np.tile(points.reshape(1, -1), (n, 1)),
        "scores": np.full((n, KEYPOINTS), score, np.float32),
        "found": np.ones((n, 1), np.float32),
        "size": np.array(size),
    }


def moved(features: dict[str, np.ndarray], step: np.ndarray) -> dict[str, np.ndarray]:
    """All points moved by `step`, (..., 2) in pixels at height 640."""
    width, height = features["size"]
    points = features["points"].reshape(-1, KEYPOINTS, 2) + np.asarray(step, np.float64) / [640 * width / height, 640]
    return {**features, "points": points.reshape(-1, 2 * KEYPOINTS).astype(np.float32)}


def test_akd_of_a_shift():
    true = people(5)
    value = Akd(source()).measure_video(sample(generated=moved(true, [3, 4]), ground_truth=true))["AKD"]
    assert value.value == pytest.approx(3.5, abs=1e-4) and value.extras["l2"] == pytest.approx(5.0, abs=1e-4)
    assert value.extras["missing_rate"] == 0 and value.coverage == 1
    assert all(value.extras[part] == pytest.approx(3.5, abs=1e-4) for part in ("body", "hands", "face"))
    assert np.allclose(value.series["frame"], 3.5, atol=1e-4)


def test_akd_grows_with_the_shift_and_does_not_depend_on_the_size_of_the_frames():
    for size in ((384, 640), (192, 320), (1080, 1080)):
        true = people(3, size=size)
        values = [
            Akd(source()).measure_video(sample(generated=moved(true, [s, 0]), ground_truth=true))["AKD"].value
            for s in (0, 1, 2, 4, 8)
        ]
        assert values == pytest.approx([0, 0.5, 1, 2, 4], abs=1e-3)


def test_missing_points_are_left_out_and_counted():
    true, made = people(4), moved(people(4), [2, 2])
    made["scores"][:, HANDS] = 0.1  # hands that are gone
    made["points"].reshape(4, KEYPOINTS, 2)[:, HANDS] = np.nan
    true["scores"][:, :18] = 0.3  # points the ground truth does not show surely
    value = Akd(source()).measure_video(sample(generated=made, ground_truth=true))["AKD"]
    assert value.value == pytest.approx(2, abs=1e-4)
    assert value.extras["missing_rate"] == pytest.approx(42 / (42 + 68))
    assert math.isnan(value.extras["body"]) and math.isnan(value.extras["hands"])


def test_akd_without_a_common_point_is_not_a_number():
    true, made = people(4), people(4, score=0.0)
    value = Akd(source()).measure_video(sample(generated=made, ground_truth=true))["AKD"]
    assert math.isnan(value.value) and value.coverage == 0 and "no key point" in value.reason


def test_akd_compares_the_frames_that_belong_together():
    true = moved(people(8), np.arange(8)[:, None, None] * [1.0, 1.0])
    made = {k: v[::2] if k != "size" else v for k, v in true.items()}
    given = sample(generated=made, ground_truth=true)
    pairs = np.stack([np.arange(4), np.arange(4) * 2], 1)
    value = Akd(source()).measure_video(Sample(given.name, given.identity, 4, 12.5, given.features, pairs))["AKD"]
    assert value.value == pytest.approx(0, abs=1e-5)


def of_hands(features: dict[str, np.ndarray]) -> dict[str, VideoValue]:
    return Hands(source()).measure_video(sample(generated=features))


def test_hkv_of_known_motions():
    t = np.arange(100)
    swing = np.stack([10 * np.sin(2 * np.pi * t / 25), 0 * t], 1)[:, None]
    # 7.07107 in x and nothing in y
    assert of_hands(moved(people(), swing))["HKV"].value == pytest.approx(3.53553, abs=1e-4)
    assert temporal_deviation([10 * np.sin(2 * np.pi * t[:, None] / 25)]) == pytest.approx(7.07107, abs=1e-5)
    line = np.stack([t, t], 1)[:, None]
    assert of_hands(moved(people(), line))["HKV"].value == pytest.approx(28.86607, abs=1e-3)
    assert of_hands(people())["HKV"].value == pytest.approx(0, abs=1e-5)


def test_hkv_sees_only_points_it_may_trust():
    steady = people()
    steady["scores"][::10, HANDS] = 0.1  # now and then a hand is lost and guessed far away
    steady["points"].reshape(100, KEYPOINTS, 2)[::10, HANDS] += 0.3
    value = of_hands(steady)["HKV"]
    assert value.value == pytest.approx(0, abs=1e-5) and value.extras["ungated"] > 20
    assert value.coverage == pytest.approx(0.9) and value.extras["seen_share"] == pytest.approx(0.9)


def test_hkc_is_the_mean_score_as_it_is():
    features = people()
    features["scores"][:50, HANDS] = 1.5  # no probability, and not clipped
    features["scores"][50:, HANDS] = 0.5
    features["found"][:20] = 0
    value = of_hands(features)["HKC"]
    assert (
        value.value == pytest.approx(1.0)
        and value.extras["person_rate"] == pytest.approx(0.8)
        and len(value.series["frame"]) == 100
    )


def test_no_hands_are_no_motion_but_a_score():
    features = people(score=0.0)
    features["points"][:] = np.nan
    values = of_hands(features)
    assert values["HKC"].value == 0 and math.isnan(values["HKV"].value) and "no hand" in values["HKV"].reason


def test_deviation_in_pieces_is_that_of_the_whole():
    x = np.random.default_rng(0).normal(1000, 3, (500, 4, 2))
    x[10:300:7, 1] = np.nan
    found = temporal_deviation(np.split(x, [1, 100, 101, 350]))
    assert np.allclose(found, np.nanstd(x, 0), rtol=1e-9)
    assert np.isnan(temporal_deviation([np.full((5, 1), np.nan), np.ones((1, 1))])).all()


def test_csim_leaves_frames_without_a_face_out():
    wanted = np.array([[1.0, 0.0]], np.float32)
    angle = np.deg2rad([0, 60, 60, 90])
    made = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    made[1] = np.nan
    value = Csim(source()).measure_video(sample(generated={"embeddings": made}, image={"embeddings": wanted}))["CSIM"]
    assert value.value == pytest.approx((1 + 0.5 + 0) / 3, abs=1e-6)
    assert value.coverage == value.extras["face_rate"] == 0.75 and math.isnan(value.series["frame"][1])
    none = Csim(source()).measure_video(sample(generated={"embeddings": made * np.nan}, image={"embeddings": wanted}))[
        "CSIM"
    ]
    assert math.isnan(none.value) and none.extras["face_rate"] == 0 and "no face is found in the video" in none.reason
    blind = Csim(source()).measure_video(sample(generated={"embeddings": made}, image={"embeddings": wanted * np.nan}))[
        "CSIM"
    ]
    assert math.isnan(blind.value) and "reference picture" in blind.reason


def test_rows_keep_the_order_and_know_what_is_not_there():
    k = Keypoints.empty()
    k.body[:], k.body_score[:] = 0.25, 0.8
    k.face[:], k.face_score[:] = 0.5, 0.9
    features = keypoint_rows([k, None], np.array([True, False]))
    points = in_pixels(features["points"], SIZE)
    assert np.allclose(points[0, :18], [96, 160]) and np.allclose(points[0, 60:], [192, 320])
    assert np.isnan(points[0, HANDS]).all() and np.isnan(points[1]).all()
    assert features["scores"][0, HANDS].max() == 0 and features["found"].ravel().tolist() == [1, 0]


def test_per_frame_features_are_spooled():
    extractor = PerFrame("mean", "1", lambda frames: {"mean": frames.mean((1, 2))}, {"mean": 3})
    for _ in range(2):  # the second video does not see the first
        extractor.begin(VideoInfo(Path("x"), 25.0, (4, 6), 5))
        extractor.push(np.full((3, 6, 4, 3), 7, np.uint8))
        extractor.push(np.full((2, 6, 4, 3), 9, np.uint8))
        found = extractor.finish()
        assert found["mean"].shape == (5, 3) and found["mean"][4, 0] == 9 and found["size"].tolist() == [4, 6]

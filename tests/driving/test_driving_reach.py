"""A driving is brought as near to the picture's pose as a small model can follow."""

import numpy as np
import pytest

from cyberhost_model.driving.reach import HANDS_ALONE, WHOLE, carry_hands, limit_reach, reach_warnings
from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.perception.keypoints import Keypoints

CELL = (0.05, 0.1)


@pytest.fixture
def rest() -> Keypoints:
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.random((*shape, 2)).astype(np.float32)  # noqa: E731
    ones = lambda *shape: np.ones(shape, np.float32)  # noqa: E731
    return Keypoints(draw(18), ones(18), draw(2, 21), ones(2, 21), draw(68), ones(68))


def moved(rest: Keypoints, *steps: tuple[float, float]) -> PoseSequence:
    """The whole person moved by so many cells, a frame a step."""
    return PoseSequence.of(
        [rest.map(lambda p, s=s: (p + np.multiply(s, CELL)).astype(np.float32)) for s in steps], 25, (100, 100)
    )


def test_what_is_near_stays_and_what_is_far_comes_near_the_same_way(rest):
    steps = [(0.0, 0.0), (0.3, -0.4), (0.1, 0.0), (5.0, 0.0), (0.0, -40.0)]
    near, share = limit_reach(moved(rest, *steps), rest, CELL, HANDS_ALONE)
    away = (near.points() - PoseSequence.of([rest], 25, (100, 100)).points()) / CELL
    np.testing.assert_allclose(away[:3], np.broadcast_to(np.array(steps[:3])[:, None], away[:3].shape), atol=1e-4)
    assert share == 0.4
    assert (away[3, :, 0] > 1.15).all() and (away[3, :, 0] < 1.21).all() and np.abs(away[3, :, 1]).max() < 1e-4
    assert (away[4, :, 1] < -1.15).all() and (away[4, :, 1] > -1.21).all()


def test_a_hand_that_is_elsewhere_moves_about_the_pictures_own_and_keeps_its_shape(rest):
    """A fist six cells away that swings by half a cell: the swing remains, where the picture has the hand."""
    poses = moved(rest, *[(0.0, 0.0)] * 5)
    middle = rest.hands[0].mean(0)
    fist = middle + 0.1 * (rest.hands[0] - middle) + np.multiply((6.0, 0.0), CELL)
    swing = np.array([-0.5, -0.25, 0.0, 0.25, 0.5])
    poses.hands[:, 0] = fist + (swing * CELL[0])[:, None, None] * [1, 0]
    near, share = limit_reach(poses, rest, CELL, HANDS_ALONE)
    away = (near.hands[:, 0] - rest.hands[0]) / CELL
    assert share == 1.0  # and this is told
    np.testing.assert_allclose(away[..., 0], np.broadcast_to(swing[:, None], (5, 21)), atol=1e-3)
    np.testing.assert_allclose(away[..., 1], 0, atol=1e-3)
    np.testing.assert_array_equal(near.hands[:, 1], poses.hands[:, 1])
    wrist = near.body[:, 7] - rest.body[7]
    np.testing.assert_allclose(wrist, near.hands[:, 0, 0] - rest.hands[0, 0], atol=1e-6)  # it goes along
    np.testing.assert_array_equal(np.delete(near.body, 7, 1), np.delete(poses.body, 7, 1))


def test_with_its_arm_a_hand_that_is_elsewhere_moves_on_the_way_there(rest):
    swing = np.array([-0.4, -0.2, 0.0, 0.2, 0.4])
    poses = moved(rest, *[(0.0, 0.0)] * 5)
    poses.hands[:, 0] += (np.array([[0.0, -5.0]]) + swing[:, None] * [1, 0])[:, None] * CELL
    near, share = limit_reach(poses, rest, CELL)
    away = (near.hands[:, 0].mean(1) - rest.hands[0].mean(0)) / CELL
    assert share == 1.0
    np.testing.assert_allclose(away, np.stack([swing, [-WHOLE.towards] * 5], 1), atol=1e-3)


def test_a_hand_that_becomes_a_fist_does_so_by_a_little(rest):
    poses = moved(rest, *[(0.0, 0.0)] * 5)
    middle = rest.hands[0].mean(0)
    poses.hands[4, 0] = middle + 0.1 * (rest.hands[0] - middle)
    near, share = limit_reach(poses, rest, CELL, HANDS_ALONE)
    away = np.linalg.norm((near.hands[:, 0] - rest.hands[0]) / CELL, axis=-1)
    assert share == pytest.approx(0.2) and away[:4].max() < 1e-4 and 0.3 < away[4].max() < 0.36


def test_points_that_one_side_does_not_show_say_nothing(rest):
    poses = moved(rest, (3.0, 0.0))
    poses.body[0, 4], poses.body_score[0, 4] = np.nan, 0
    rest.face_score[:] = 0
    near, _ = limit_reach(poses, rest, CELL, HANDS_ALONE)
    assert np.isnan(near.body[0, 4]).all() and np.isfinite(near.hands).all()
    np.testing.assert_array_equal(near.face, poses.face)


def test_with_its_arms_a_hand_goes_further_and_takes_its_wrist_along(rest):
    rest.body[[4, 7]] = rest.hands[::-1, 0]
    far = moved(rest, (0.0, 0.0), (0.4, 0.0), (40.0, 0.0))
    near, share = limit_reach(far, rest, CELL)
    away = ((near.hands[:, 0] - rest.hands[0]) / CELL)[..., 0]
    np.testing.assert_allclose(away[1], 0.4, atol=1e-3)
    assert (
        share == pytest.approx(1 / 3) and WHOLE.hand[1] - 0.05 < away[2].min() and away[2].max() < WHOLE.hand[1] + 0.01
    )
    np.testing.assert_allclose(near.body[:, 7], near.hands[:, 0, 0], atol=1e-6)
    elbow = ((near.body[2, 6] - rest.body[6]) / CELL)[0]
    assert 0.35 < elbow < WHOLE.elbow[1] + 0.01  # it stays nearer to the body


def turned(rest: Keypoints, angle: float) -> np.ndarray:
    """The left hand turned about its middle, in units of CELL as it is seen."""
    shape = (rest.hands[0] - rest.hands[0].mean(0)) / CELL
    c, s = np.cos(angle), np.sin(angle)
    return rest.hands[0].mean(0) + shape @ np.array([[c, s], [-s, c]]) * CELL


def test_a_hand_turns_as_a_whole(rest):
    poses = moved(rest, *[(0.0, 0.0)] * 5)
    poses.hands[1, 0], poses.hands[3, 0] = turned(rest, 0.6), turned(rest, 3.0)
    near, _ = limit_reach(poses, rest, CELL)
    np.testing.assert_allclose(near.hands[1, 0], turned(rest, 0.6), atol=1e-4)
    np.testing.assert_allclose(near.hands[3, 0], turned(rest, WHOLE.turn[1]), atol=0.01)  # its shape stays


def test_points_of_a_hand_that_are_hidden_say_nothing(rest):
    poses = moved(rest, *[(0.5, 0.0)] * 5)
    poses.hands[2, 0, 5], poses.hands_score[2, 0, 5] = np.nan, 0  # a knuckle in one frame
    rest.hands[1, 0], rest.hands_score[1, 0] = np.nan, 0  # a wrist of the picture
    near, _ = limit_reach(poses, rest, CELL)
    shown = (poses.hands_score > 0) & (rest.hands_score > 0)
    away = (near.hands - rest.hands)[shown] / CELL
    np.testing.assert_allclose(away, np.broadcast_to([0.5, 0.0], away.shape), atol=1e-3)


def test_a_hand_without_points_goes_with_its_wrist(rest):
    poses = moved(rest, (0.0, 0.0), (1.0, 0.5))
    poses.hands_score[1, 0] = 0
    carried = carry_hands(poses, rest)
    np.testing.assert_allclose(carried.hands[1, 0], rest.hands[0] + np.multiply((1.0, 0.5), CELL), atol=1e-6)
    np.testing.assert_array_equal(carried.hands_score[1, 0], rest.hands_score[0])
    rest.hands_score[0] = 0  # a picture without that hand has nothing to carry
    np.testing.assert_array_equal(carry_hands(poses, rest).hands_score, poses.hands_score)


def test_only_what_is_often_out_of_reach_is_told():
    assert reach_warnings(0.05) == []
    assert "38% of the frames" in reach_warnings(0.38)[0]

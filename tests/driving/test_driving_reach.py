"""A driving is brought as near to the picture's pose as a small model can follow."""

import numpy as np
import pytest

from cyberhost_model.driving.reach import FACE_HEIGHTS, carry_hands, limit_reach, reach_warnings
from cyberhost_model.driving.sequence import FACE, HANDS, PoseSequence
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


def moved_alone(rest: Keypoints, part: str, *steps: tuple[float, float]) -> PoseSequence:
    """One part of the person moved: "face", "hands" (the left one) or "elbow"."""
    poses = moved(rest, *[(0.0, 0.0)] * len(steps))
    points = {"face": poses.face, "hands": poses.hands[:, 0], "elbow": poses.body[:, 6:7]}[part]
    points += np.multiply(steps, CELL)[:, None]
    return poses


def offsets(poses: PoseSequence, rest: Keypoints) -> np.ndarray:
    return (poses.points() - PoseSequence.of([rest], 25, (100, 100)).points()) / CELL


@pytest.mark.parametrize("part", ["face", "hands", "elbow"])
def test_what_is_near_stays_and_what_is_far_comes_near_the_same_way(rest, part):
    steps = [(0.0, 0.0), (0.12, -0.16), (0.1, 0.0), (5.0, 0.0), (0.0, -40.0)]
    near, _ = limit_reach(moved_alone(rest, part, *steps), rest, CELL)
    place = {"face": FACE, "hands": HANDS[0], "elbow": [6]}[part]
    _, most = {"face": FACE_HEIGHTS.head, "hands": FACE_HEIGHTS.hand, "elbow": FACE_HEIGHTS.elbow}[part]
    away = offsets(near, rest)[:, place]
    np.testing.assert_allclose(away[:3], np.broadcast_to(np.array(steps[:3])[:, None], away[:3].shape), atol=1e-4)
    assert (away[3, :, 0] > 0.9 * most).all() and (away[3, :, 0] < most + 0.01).all()
    assert (away[4, :, 1] < -0.9 * most).all() and (away[4, :, 1] > -most - 0.01).all()
    assert np.abs(away[3, :, 1]).max() < 1e-4


def test_a_body_that_walks_away_stays_near_and_hands_keep_their_places_about_it(rest):
    """A head that went further than the network was taught is seen twice."""
    steps = [(0.0, 0.0), (0.15, 0.1), (0.9, 0.0), (4.0, 0.0)]
    poses = moved(rest, *steps)
    poses.hands[:, 0] += np.multiply((0.0, -0.5), CELL)
    near, share = limit_reach(poses, rest, CELL)
    away = offsets(near, rest)
    shoulders = away[:, [2, 5]].mean(1)
    np.testing.assert_allclose(shoulders[:2], steps[:2], atol=1e-4)
    assert share == 0.5 and (shoulders[2:, 0] > 0.9 * FACE_HEIGHTS.body[1]).all()
    assert (
        np.abs(shoulders[:, 0]).max() < FACE_HEIGHTS.body[1] + 1e-4
        and np.abs(away[:, FACE]).max() < FACE_HEIGHTS.head[1]
    )
    hand = away[:, HANDS[0]].mean(1) - shoulders
    np.testing.assert_allclose(hand, np.broadcast_to([0.0, -0.5], hand.shape), atol=1e-3)


def test_a_hand_that_is_elsewhere_most_of_the_time_has_its_way_shortened(rest):
    """It is five units above, swings there by 0.3, and is twice where the picture has it, and half way."""
    above = np.array([0.0, 0.0, -2.5, -5.0, -5.0, -5.0, -5.0, -5.0, -5.0])
    swing = np.array([0.0, 0.2, 0.0, -0.3, 0.3, -0.3, 0.3, 0.0, 0.0])
    poses = moved(rest, *[(0.0, 0.0)] * len(above))
    poses.hands[:, 0] += np.stack([swing, above], 1)[:, None] * CELL
    near, share = limit_reach(poses, rest, CELL)
    away = (near.hands[:, 0].mean(1) - rest.hands[0].mean(0)) / CELL
    assert share == pytest.approx(7 / 9)  # and this is told
    np.testing.assert_allclose(away[:2], [[0, 0], [0.2, 0]], atol=1e-3)  # the picture's own pose is kept
    np.testing.assert_allclose(away[2:, 1], [-FACE_HEIGHTS.hand[0] / 2, *[-FACE_HEIGHTS.hand[0]] * 6], atol=0.03)
    np.testing.assert_allclose(away[:, 0], swing, atol=0.01)
    np.testing.assert_array_equal(near.hands[:, 1], poses.hands[:, 1])
    wrist = near.body[:, 7] - rest.body[7]
    np.testing.assert_allclose(wrist, near.hands[:, 0, 0] - rest.hands[0, 0], atol=1e-6)  # it goes along
    np.testing.assert_array_equal(np.delete(near.body, 7, 1), np.delete(poses.body, 7, 1))


def test_a_hand_keeps_its_points_places_about_its_middle(rest):
    """A fist that is turned, too far away: what of it the picture's hand can show is the layer's to say."""
    poses = moved(rest, *[(0.0, 0.0)] * 3)
    middle = rest.hands[0].mean(0)
    poses.hands[:, 0] = middle + 0.1 * (rest.hands[0] - middle)[:, ::-1] + np.multiply((9.0, 0.0), CELL)
    near, _ = limit_reach(poses, rest, CELL)
    np.testing.assert_allclose(np.diff(near.hands[0, 0], axis=0), np.diff(poses.hands[0, 0], axis=0), atol=1e-6)


def test_points_that_one_side_does_not_show_say_nothing(rest):
    poses = moved(rest, (3.0, 0.0))
    poses.body[0, 4], poses.body_score[0, 4] = np.nan, 0
    rest.face_score[:] = 0
    near, _ = limit_reach(poses, rest, CELL)
    assert np.isnan(near.body[0, 4]).all() and np.isfinite(near.hands).all()
    np.testing.assert_array_equal(near.face, poses.face)


def test_points_of_a_hand_that_are_hidden_say_nothing(rest):
    poses = moved(rest, *[(0.15, 0.0)] * 5)
    poses.hands[2, 0, 5], poses.hands_score[2, 0, 5] = np.nan, 0  # a knuckle in one frame
    rest.hands[1, 0], rest.hands_score[1, 0] = np.nan, 0  # a wrist of the picture
    near, _ = limit_reach(poses, rest, CELL)
    shown = (poses.hands_score > 0) & (rest.hands_score > 0)
    away = (near.hands - rest.hands)[shown] / CELL
    np.testing.assert_allclose(away, np.broadcast_to([0.15, 0.0], away.shape), atol=1e-3)


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

"""Skeleton map and body movement map: exact places and colours."""

import numpy as np
import pytest

from cyberhost_model.conditions.movement import BodyMovementMap, fixed_movement_box, movement_box, movement_map
from cyberhost_model.conditions.pose_maps import FINGERS, LIMBS, hue, skeleton_map
from cyberhost_model.perception.keypoints import NECK, Keypoints


def person() -> Keypoints:
    """Shoulders at 0.3 and 0.7, a flat face above them, an open left hand."""
    k = Keypoints.empty()
    k.body[2], k.body[5], k.body[NECK] = (0.3, 0.5), (0.7, 0.5), (0.5, 0.5)
    k.body_score[[1, 2, 5]] = 1
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    k.face[:] = np.stack([0.5 + 0.1 * np.cos(angles), 0.25 + 0.12 * np.sin(angles)], -1)
    k.face_score[:] = 1
    k.hands[0] = np.random.default_rng(0).uniform([0.7, 0.7], [0.9, 0.9], (21, 2))
    k.hands_score[0] = 1
    return k


def test_hues_are_openpose_colours():
    assert [hue(20 * i) for i in (0, 1, 2, 3, 6, 12)] == [
        (255, 0, 0),
        (255, 85, 0),
        (255, 170, 0),
        (255, 255, 0),
        (0, 255, 0),
        (0, 0, 255),
    ]


def test_limb_lies_where_the_points_are_in_its_own_colour():
    k = Keypoints.empty()
    k.body[1], k.body[2], k.body_score[[1, 2]] = (0.5, 0.5), (0.1, 0.5), 1
    m = skeleton_map(k, (300, 200))
    assert m.shape == (3, 200, 300) and m.dtype == np.float32
    assert np.allclose(m[:, 100, 90], np.array(hue(0)) / 255, atol=0.05)
    ys, xs = np.nonzero(m.sum(0) > 0.5)
    assert 97 <= ys.min() <= 99 and 100 <= ys.max() <= 102 and 27 <= xs.min() <= 30 and 149 <= xs.max() <= 152


def test_second_limb_has_the_second_colour():
    k = Keypoints.empty()
    a, b = LIMBS[1]
    k.body[a], k.body[b], k.body_score[[a, b]] = (0.2, 0.5), (0.8, 0.5), 1
    assert np.allclose(skeleton_map(k, (256, 256))[:, 128, 128], np.array([255, 85, 0]) / 255, atol=0.05)


def test_lines_need_both_ends():
    k = person()
    k.body_score[1] = 0.2
    assert skeleton_map(k, (64, 64), parts=("body",)).max() == 0
    assert skeleton_map(k, (64, 64), threshold=0.1, parts=("body",)).max() > 0.5
    assert skeleton_map(Keypoints.empty(), (64, 64)).max() == 0


def test_parts_are_drawn_apart():
    k = person()
    maps = {part: skeleton_map(k, (128, 128), parts=(part,)) for part in ("body", "hands", "face")}
    assert all(m.max() > 0.5 for m in maps.values())
    assert maps["hands"][:, :80].max() == 0 and maps["face"][:, 60:].max() == 0
    assert np.allclose(np.maximum(maps["body"], np.maximum(maps["hands"], maps["face"])), skeleton_map(k, (128, 128)))
    assert np.array_equal(maps["face"][0], maps["face"][2])  # white
    with pytest.raises(ValueError, match="feet"):
        skeleton_map(k, (64, 64), parts=("feet",))


def test_fingers_start_at_the_wrist_and_reach_the_tips():
    assert FINGERS[0] == (0, 1) and FINGERS[4] == (0, 5) and FINGERS[-1] == (19, 20) and len(FINGERS) == 20


def test_far_points_do_not_overflow():
    k = person()
    k.body[2] = (-1e6, 0.5)
    assert np.isfinite(skeleton_map(k, (64, 64))).all()


def test_movement_box_is_the_range_enlarged():
    thorax = np.array([[0.4, 0.5], [0.6, 0.54], [0.5, 0.52]])
    assert np.allclose(movement_box(thorax, 0.0), (0.4, 0.5, 0.6, 0.54))
    assert np.allclose(movement_box(thorax, 1.0), (0.3, 0.48, 0.7, 0.56))
    assert np.allclose(movement_box(thorax, 1.5), (0.25, 0.47, 0.75, 0.57))
    assert np.allclose(movement_box(np.array([[0.5, 0.5]]), 1.5, minimum=0.1), (0.45, 0.45, 0.55, 0.55))
    assert np.allclose(movement_box(np.vstack([thorax, [np.nan, 0]]), 1.0), (0.3, 0.48, 0.7, 0.56))
    with pytest.raises(ValueError, match="thorax"):
        movement_box(np.full((3, 2), np.nan), 1.0)


def test_training_enlarges_by_100_to_150_percent():
    thorax = np.array([[0.4, 0.4], [0.5, 0.5]])
    rng = np.random.default_rng(0)
    widths = [b[2] - b[0] for b in (BodyMovementMap.of_clip(thorax, rng).box for _ in range(200))]
    assert 0.2 <= min(widths) < 0.205 and 0.245 < max(widths) <= 0.25


def test_movement_map_fills_the_box_and_keeps_fractions():
    m = movement_map((0.25, 0.5, 0.75, 0.625), (8, 8))
    expected = np.zeros((8, 8))
    expected[4, 2:6] = 1
    assert m.shape == (3, 8, 8) and m.dtype == np.float32 and all(np.array_equal(c, expected) for c in m)
    assert np.isclose(movement_map((0.1, 0.1, 0.4, 0.3), (16, 32)).sum(), 3 * 16 * 32 * 0.3 * 0.2, rtol=1e-5)
    assert movement_map((1.2, 0, 1.5, 1), (8, 8)).max() == 0


def test_fixed_box_follows_amount_and_shoulders():
    k = person()
    assert np.allclose(fixed_movement_box(k, 1.0), (0.4, 0.44, 0.6, 0.56))
    assert np.allclose(fixed_movement_box(k, 0.0), (0.49, 0.494, 0.51, 0.506))
    assert fixed_movement_box(k, 7.0) == fixed_movement_box(k, 1.0)
    wide = fixed_movement_box(k, 1.0, aspect=2.0)
    assert np.isclose((wide[3] - wide[1]) / (wide[2] - wide[0]), 1.2)  # the same shape in pixels
    assert BodyMovementMap.fixed(k, 0.5).render((32, 16)).shape == (3, 16, 32)


def test_fixed_box_without_shoulders():
    k = person()
    k.body_score[:] = 0
    x0, y0, x1, y1 = fixed_movement_box(k, 1.0)
    assert np.isclose(x1 - x0, 0.5 * 2.5 * 0.2, rtol=1e-3) and (y0 + y1) / 2 > k.face[8, 1]
    none = fixed_movement_box(Keypoints.empty(), 1.0)
    assert np.allclose(none, (0.35, 0.71, 0.65, 0.89))

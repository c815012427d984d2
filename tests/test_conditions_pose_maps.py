"""Pose drawings as others' weights were taught.

The facts are those of the peers' drawing code; scripts/peer_parity.py compares every pixel with it.
"""

import dataclasses

import numpy as np
import pytest

from cyberhost_model.conditions.pose_maps import POSE_MAPS, dwpose_map, hand_map, skeleton_map
from cyberhost_model.config import PRESETS, preset
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.porting import animate_anyone, echomimic, echomimic_v2, hallo

SIZE = (512, 768)  # AnimateAnyone draws with a shorter side of 512: nothing is resized


def body_of(points: dict[int, tuple[float, float]], score: float = 1.0) -> Keypoints:
    k = Keypoints.empty()
    for joint, place in points.items():
        k.body[joint], k.body_score[joint] = place, score
    return k


def hand_of(score: float, hand: int = 0) -> Keypoints:
    """An open hand: fingers fan out upwards from the wrist, joints far apart."""
    k = Keypoints.empty()
    k.hands[hand, 0] = 0.5, 0.8
    for finger in range(5):
        for joint in range(4):
            k.hands[hand, 1 + 4 * finger + joint] = 0.3 + 0.1 * finger, 0.65 - 0.1 * joint
    k.hands_score[hand] = score
    return k


def colour(drawn: np.ndarray, x: float, y: float) -> list[int]:
    """0..255 at a place in 0..1."""
    return np.round(drawn[:, int(y * drawn.shape[1]), int(x * drawn.shape[2])] * 255).astype(int).tolist()


def test_limbs_are_dim_ellipses_and_joints_bright_dots():
    drawn = dwpose_map(body_of({1: (0.5, 0.5), 2: (0.2, 0.5)}), SIZE)
    assert drawn.shape == (3, 768, 512) and drawn.dtype == np.float32
    assert colour(drawn, 0.35, 0.5) == [153, 0, 0]  # 0.6 of red, the first limb's
    assert colour(drawn, 0.2, 0.5) == [255, 170, 0] and colour(drawn, 0.5, 0.5) == [255, 85, 0]  # the joints' own hues
    thick = (drawn[0] > 0).sum(0)
    assert thick[179] == 9 and thick[130] < 9  # 4 pixels to either side in the middle, less towards the ends
    assert thick[102] == 9  # a dot of radius 4


def test_what_is_not_sure_is_not_drawn():
    pair = {1: (0.5, 0.5), 2: (0.2, 0.5)}
    assert not dwpose_map(body_of(pair, 0.3), SIZE).any()
    one = body_of(pair)
    one.body_score[2] = 0.1
    drawn = dwpose_map(one, SIZE)
    assert colour(drawn, 0.5, 0.5) == [255, 85, 0] and not drawn[:, :, :200].any()  # a joint without its limb
    assert not dwpose_map(hand_of(0.29), SIZE).any() and dwpose_map(hand_of(0.3), SIZE).any()
    nowhere = Keypoints.empty()
    for points in (nowhere.body, nowhere.hands, nowhere.face):
        points[:] = np.nan  # as key point files may have them
    assert not any(draw(nowhere, SIZE).any() for draw in POSE_MAPS.values())


def test_hands_have_blue_joints_and_fingers_of_twenty_hues():
    drawn = dwpose_map(hand_of(0.5), SIZE)
    assert colour(drawn, 0.5, 0.8) == [0, 0, 255] and colour(drawn, 0.3, 0.35) == [0, 0, 255]
    assert colour(drawn, 0.3, 0.6) == [255, 77, 0]  # the thumb's second bone, fully bright whatever the score
    tenth = colour(drawn, 0.5, 0.5)  # the middle finger's third bone
    assert tenth == [0, 255, 255]


def test_the_face_is_white_dots_over_the_rest():
    k = body_of({0: (0.5, 0.5), 1: (0.5, 0.7)})
    k.face[:], k.face_score[:] = (0.2, 0.2), 0.0
    k.face[30], k.face_score[30] = (0.5, 0.5), 0.3
    drawn = dwpose_map(k, SIZE)
    assert colour(drawn, 0.5, 0.5) == [255, 255, 255] and not drawn[:, :200].any()
    alone = dwpose_map(k, SIZE, parts=("face",))
    assert (alone[0] > 0).sum(0).max() == 7 and np.array_equal(alone[0], alone[2])  # radius 3
    assert not dwpose_map(k, SIZE, parts=("hands",)).any()


def test_echomimic_sees_hands_alone_as_bright_as_they_are_sure():
    k = hand_of(0.5)
    k.body[1:3], k.body_score[1:3] = ((0.1, 0.1), (0.3, 0.1)), 1
    k.face[:], k.face_score[:] = (0.8, 0.1), 1
    drawn = hand_map(k, (800, 800))  # its side: nothing is resized
    assert not drawn[:, :250].any()
    assert colour(drawn, 0.5, 0.8) == [127, 0, 0]  # a joint: half, and red for blue
    assert colour(drawn, 0.3, 0.6) == [0, 19, 63]  # a bone: half of a half
    sure, unsure = hand_map(hand_of(1.0), (800, 800)), hand_map(hand_of(0.1), (800, 800))
    assert sure.max() == 1 and 0 < unsure.max() <= 0.1
    assert not hand_map(k, (800, 800), parts=("body", "face")).any()


@pytest.mark.parametrize("draw", [dwpose_map, hand_map])
def test_other_sizes_are_the_same_drawing_resized(draw):
    """Strokes keep their width in the drawing, so a small map is not a thin one: it is a darker, blurred one."""
    k = hand_of(1.0)
    large, small = draw(k, (512, 512)), draw(k, (128, 128))
    assert small.shape == (3, 128, 128)
    averaged = large.reshape(3, 128, 4, 128, 4).mean((2, 4))
    assert np.corrcoef(averaged.ravel(), small.ravel())[0, 1] > 0.8
    wide = draw(k, (320, 192))
    ys, xs = np.nonzero(wide.sum(0))
    assert xs.min() / 320 == pytest.approx(0.3, abs=0.02) and ys.max() / 192 == pytest.approx(0.8, abs=0.03)


def test_points_outside_the_picture_are_no_fault():
    k = hand_of(1.0).map(lambda p: (p + [0.6, -0.7]).astype(np.float32))
    k.body[[1, 2]], k.body_score[[1, 2]] = ((0.5, 0.5), (9e9, -40)), 1
    for draw in (dwpose_map, hand_map):
        drawn = draw(k, (128, 192))
        assert np.isfinite(drawn).all() and drawn.max() <= 1


def test_every_preset_names_a_drawing():
    assert [module.full_size().pose_maps for module in (animate_anyone, echomimic_v2, echomimic, hallo)] == [
        "dwpose",
        "dwpose-hands",
        "face",
        "face",
    ]
    assert POSE_MAPS["skeleton"] is skeleton_map and all(p.pose_maps == "skeleton" for p in PRESETS.values())
    for name in POSE_MAPS:
        assert dataclasses.replace(preset("tiny"), pose_maps=name).pose_maps == name
    with pytest.raises(ValueError, match="pose_maps"):
        dataclasses.replace(preset("tiny"), pose_maps="openpose")

"""Photo puppets: labels agree with the pixels."""

import cv2
import numpy as np
import pytest

from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.framing import mirrored
from cyberhost_model.lab.synthetic.puppet import Pose, Puppet
from cyberhost_model.lab.synthetic.stills import crop_still


@pytest.fixture(scope="module")
def puppet() -> Puppet:
    return Puppet(drawn_still(5, (192, 192)))


def gap(frame) -> float:
    """Distance of the inner lips' middle points, in shares of the face's height."""
    face = frame.keypoints.face
    return float((face[66, 1] - face[62, 1]) / np.linalg.norm(face[8] - face[[19, 24]].mean(0)))


def test_rest_is_the_still(puppet):
    """With the mouth as it is in the still, nothing moves."""
    face = puppet.face
    rest = face.rest_gap * 0.75 / (face.gape + face.rest_gap * 0.75)
    frame = puppet.render(Pose(opening=rest))
    assert np.abs(frame.flow).max() < 0.3, "a fraction of a pixel at the rim of the teeth"
    assert np.abs(frame.picture_u8.astype(int) - puppet.still.picture_u8).mean() < 1.0


def test_flow_explains_the_frame(puppet):
    """Where the still shows what is seen, warping it by the flow gives the frame."""
    pose = Pose(
        opening=0.6, roll=0.06, shift=(0.04, 0.02), sway=(0.05, 0.0), arms=((0.05, -0.15, 0.1), (0.05, -0.15, 0.1))
    )
    frame = puppet.render(pose)
    source = (puppet.grid + frame.flow).astype(np.float32)
    warped = cv2.remap(
        puppet.still.picture_u8, source[..., 0], source[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    moved = (np.linalg.norm(frame.flow, axis=-1) > 1) & (frame.seen > 0.99)
    error = np.abs(warped.astype(float) - frame.picture_u8).mean(-1)[moved]
    still = np.abs(puppet.still.picture_u8.astype(float) - frame.picture_u8).mean(-1)[moved]
    assert moved.mean() > 0.05
    assert error.mean() < 0.4 * still.mean()


def test_mouth_opens_with_the_label(puppet):
    gaps = [gap(puppet.render(Pose(opening=o))) for o in (0.0, 0.3, 0.6, 1.0)]
    assert gaps == sorted(gaps)
    assert gaps[-1] - gaps[0] > 0.08
    opened = puppet.render(Pose(opening=1.0))
    upper, lower = opened.keypoints.face[[62, 66]] * 192
    x, y = (0.3 * upper + 0.7 * lower).astype(int)
    assert opened.seen[y, x] < 0.5, "what is below the teeth of an opened mouth is not in the still"


def test_background_stands_still(puppet):
    frame = puppet.render(Pose(roll=0.08, shift=(0.05, 0.03), sway=(0.08, 0.02)))
    far = cv2.dilate(puppet.still.mask, np.ones((25, 25))) < 0.05
    assert far.any()
    assert np.abs(frame.flow[far]).max() == 0
    assert np.array_equal(frame.picture_u8[far], puppet.still.picture_u8[far])


def test_eyes_shut(puppet):
    def opening(frame) -> float:
        return float((frame.keypoints.face[[40, 41], 1] - frame.keypoints.face[[38, 37], 1]).mean())

    assert opening(puppet.render(Pose(blink=1.0))) < 0.4 * opening(puppet.render(Pose()))


def test_arms_carry_their_hands():
    """A turned forearm moves the hand's points and pixels by the same amount."""
    for seed in range(40):
        still = drawn_still(seed, (192, 192))
        puppet = Puppet(still)
        if puppet.bones and not puppet.clasped:
            break
    side = next(iter(puppet.bones))
    arms = [(0.0, 0.0, 0.0), (0.0, 0.0, 0.0)]
    arms[side] = (0.0, 0.2, 0.0)
    frame = puppet.render(Pose(arms=tuple(arms)))
    moved = np.linalg.norm((frame.keypoints.hands[side] - still.keypoints.hands[side]) * 192, axis=-1)
    assert moved.mean() > 3
    other = 1 - side
    assert np.abs(frame.keypoints.hands[other] - still.keypoints.hands[other]).max() * 192 < 0.5
    point = frame.keypoints.hands[side][9] * 192
    x, y = np.clip(point.astype(int), 0, 191)
    back = point + frame.flow[y, x]
    assert np.linalg.norm(back - still.keypoints.hands[side][9] * 192) < 4


def test_mirror_swaps_sides():
    still = drawn_still(3, (128, 128))
    twice = mirrored(mirrored(still))
    assert np.array_equal(twice.picture_u8, still.picture_u8)
    assert np.allclose(twice.keypoints.face, still.keypoints.face, atol=1e-6)
    once = mirrored(still)
    assert np.allclose(once.keypoints.body[2, 0], 1 - still.keypoints.body[5, 0])
    assert np.allclose(once.keypoints.hands[0, :, 0], 1 - still.keypoints.hands[1, :, 0])
    assert once.keypoints.face[36, 0] < once.keypoints.face[45, 0], "image-left eye comes first"


def test_crop_moves_the_points_with_the_pixels():
    still = drawn_still(7, (200, 200))
    part = crop_still(still, (40, 20, 168, 148), (128, 128))
    want = still.keypoints.face * 200 - [40, 20]
    assert np.allclose(part.keypoints.face * 128, want, atol=1e-3)
    assert np.array_equal(part.picture_u8, still.picture_u8[20:148, 40:168])


def test_hands_without_an_arm_move_with_the_body():
    """Where no elbow is seen there is no layer for the arm; the body carries the hand's pixels, and its points go with
    them.
    """
    stills = (drawn_still(seed, (192, 192)) for seed in range(40))
    still = next(s for s in stills if s.keypoints.hands_score[0].max() > 0.3 and (s.keypoints.hands[0] < 0.9).all())
    still.keypoints.body_score[[3, 6]] = 0
    puppet = Puppet(still)
    assert not puppet.bones
    frame = puppet.render(Pose(shift=(0.1, 0.0), sway=(0.1, 0.05)))
    points, rest = (k.hands[0] * 192 for k in (frame.keypoints, still.keypoints))
    assert np.linalg.norm(points - rest, axis=-1).max() > 0.5
    x, y = points.round().astype(int).T
    on = still.mask[rest[:, 1].astype(int), rest[:, 0].astype(int)] > 0.9
    assert on.any()
    assert np.linalg.norm(points + frame.flow[y, x] - rest, axis=-1)[on].max() < 0.5


def two_armed(clasped: bool) -> Puppet:
    """A drawn person with both arms cut out, hands together or apart."""
    for seed in range(60):
        puppet = Puppet(drawn_still(seed, (192, 192)))
        if len(puppet.bones) == 2 and puppet.clasped == clasped:
            return puppet
    raise AssertionError("no such person in sixty")


def test_hands_that_rest_on_each_other_go_together():
    puppet = two_armed(clasped=True)
    before, after = (
        puppet.render(pose).keypoints.hands for pose in (Pose(), Pose(arms=((0.0, 0.2, 0.0), (0.0, 0.2, 0.0))))
    )
    moved = (after - before).reshape(-1, 2)
    assert np.abs(moved).max() > 0.005 and np.allclose(moved, moved[0], atol=1e-5)


def test_a_hand_that_reaches_takes_its_arm_along():
    puppet = two_armed(clasped=False)
    frame, still = puppet.render(Pose(reach=((-0.6, -0.9), (0.0, 0.0)))), puppet.still.keypoints
    size = np.array(puppet.size)
    wrist = (frame.keypoints.hands[0, 0] - still.hands[0, 0]) * size / puppet.face.height
    elbow, shoulder = ((frame.keypoints.body[i] - still.body[i]) * size / puppet.face.height for i in (6, 5))
    assert np.allclose(wrist, (-0.6, -0.9), atol=0.02)
    assert np.allclose(elbow, 0.25 * wrist, atol=0.02) and np.allclose(shoulder, 0, atol=0.01)
    assert np.allclose(frame.keypoints.hands[1], still.hands[1], atol=1e-4)
    middle = frame.keypoints.body[[6, 7]].mean(0) * size  # of the forearm, whose pixels come from the forearm
    x, y = middle.astype(int)
    assert np.linalg.norm(middle + frame.flow[y, x] - still.body[[6, 7]].mean(0) * size) < 3


def test_no_outline_of_a_hand_stays_where_it_was():
    """A half-transparent rim would teach the network to draw ghosts."""
    puppet = two_armed(clasped=False)
    frame = puppet.render(Pose(arms=((0.0, -0.6, 0.0), (0.0, -0.6, 0.0))))
    moved = cv2.dilate((np.abs(frame.flow).max(-1) > 0).astype(np.uint8), np.ones((9, 9)))  # and their soft rims
    shows = (puppet.body[..., 3] < 128) & (moved == 0)  # the background
    left = (puppet.bones[0][2].cover > 0.99) & (puppet.bones[0][0].cover < 0.01) & shows
    assert left.sum() > 20
    ghosts = np.abs(frame.picture_u8.astype(float) - puppet.background)[left].max(-1)
    assert np.percentile(ghosts, 90) < 8

"""Hands and forearms are cut out of a picture, and laid where key points say."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from cyberhost_model.codecs.arm_layers import ELBOW, arm_points
from cyberhost_model.codecs.cut_arms import make_arm_layers
from cyberhost_model.codecs.lay_arms import _keep_shape, arms_share, bend, covered, flow_around, lay_arms, take_out_arms
from cyberhost_model.config import PRESETS, GenerationConfig
from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.media.audio import Sound
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.runtime.cutout import Cutout
from cyberhost_model.runtime.pose_source import cut_arms, driven_arms, keep_hands, skeleton_source
from data_helpers import open_hands, voice, with_hands

SIZE = 192
FINGERS = ((0, 1, 2, 3, 4), (0, 5, 6, 7, 8), (0, 9, 10, 11, 12), (0, 13, 14, 15, 16), (0, 17, 18, 19, 20))
BOTH = (True, True)


@pytest.fixture(scope="module")
def reference(host, picture):
    return host.open_picture(picture, GenerationConfig(size=256))[0]


@pytest.fixture
def person(reference) -> Keypoints:
    """A person whose left hand is in the middle of the picture, its forearm going down; the right one is not seen."""
    points = open_hands(reference.keypoints)
    hands = points.hands + np.array([[-0.35, -0.3], [0, 0]], np.float32)[:, None]
    body, score = points.body.copy(), points.body_score.copy()
    body[[5, 6, 7]], score[[5, 6, 7]] = [[0.8, 0.4], [0.5, 0.92], [0.5, 0.62]], 1
    return replace(points, hands=hands, hands_score=np.array([[1.0], [0.0]]) * np.ones(21), body=body, body_score=score)


@pytest.fixture
def drawn(person) -> torch.Tensor:
    """Its hand and forearm are light before a dark wall."""
    canvas = np.full((SIZE, SIZE, 3), 60, np.uint8)
    hand = (person.hands[0] * SIZE).round().astype(np.int32)
    for finger in FINGERS:
        cv2.polylines(canvas, [hand[list(finger)]], False, (220, 180, 160), 5)
    cv2.line(canvas, hand[0].tolist(), (person.body[6] * SIZE).astype(int).tolist(), (220, 180, 160), 9)
    return torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 127.5 - 1


def light(frame: torch.Tensor) -> np.ndarray:
    return (frame.reshape(3, SIZE, SIZE).mean(0) > 0).numpy()


def test_a_hand_is_cut_out_and_the_wall_goes_on_behind_it(drawn, person):
    layers = make_arm_layers(drawn, person, BOTH)
    assert layers.sides == (True, False)
    assert light(drawn).sum() > 500 and light(layers.behind)[: int(0.72 * SIZE)].sum() == 0
    arm = layers.arms[0]
    x, y = arm.corner
    inside = light(drawn)[y : y + arm.pixels.shape[0], x : x + arm.pixels.shape[1]]
    hand = np.s_[: int(0.62 * SIZE) - y]
    assert arm.pixels[..., 3][hand][inside[hand]].mean() > 0.9 > 0.1 > arm.pixels[..., 3][hand][~inside[hand]].mean()


def test_hands_lie_where_key_points_have_them(drawn, person):
    """And nothing is left where they were; at rest the frame is the picture."""
    layers = make_arm_layers(drawn, person, BOTH)
    away = replace(person, hands=person.hands + np.float32([-0.2, -0.1]))
    points = np.stack([arm_points(person), arm_points(away)])
    points[:, :, ELBOW:, 2] = 0  # elbows go with the body, which stays
    bare = take_out_arms(layers, drawn.repeat(2, 1, 1, 1), points)
    assert torch.equal(bare[0], drawn[0]) and light(bare[1])[: int(0.6 * SIZE)].sum() == 0
    frames = lay_arms(layers, bare, points, torch.zeros(2, 2, SIZE // 2, SIZE // 2))
    assert (frames[0] - drawn[0]).abs().mean() < 0.01
    hand = np.s_[: int(0.6 * SIZE)]
    rows, columns = (np.array([np.nonzero(light(f)[hand])[axis].mean() for f in (drawn, frames[1])]) for axis in (0, 1))
    assert np.diff(columns) == pytest.approx(-0.2 * SIZE, abs=4) and np.diff(rows)[0] < -0.05 * SIZE
    old = (person.hands[0, 1:] * SIZE).astype(int)
    assert light(frames[1])[old[:, 1], old[:, 0]].mean() < 0.3


def test_a_hand_seen_from_its_edge_does_not_grow(drawn, person):
    """Points may ask for an open hand; its fingers would be spread wide."""
    layers = make_arm_layers(drawn, person, BOTH)
    middle = person.hands.mean(1, keepdims=True)
    wide = replace(person, hands=middle + 1.8 * (person.hands - middle))
    points = arm_points(wide)[None]
    frame = lay_arms(
        layers, take_out_arms(layers, drawn.clone(), points), points, torch.zeros(1, 2, SIZE // 2, SIZE // 2)
    )
    hand = np.s_[: int(0.55 * SIZE)]
    assert light(frame)[hand].sum() < 2 * light(drawn)[hand].sum(), "3.2 times as large in all"


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("place", [(-0.9, 0.0), (0.0, 0.6), (3.0, 3.0), (-0.44, 0.0), (0.44, 0.1), (0.0, 0.42)])
def test_hands_at_the_edge_and_outside(drawn, person, place, side):
    """Where nothing of a hand is in the picture there is no layer; at its edge there is one, and it can be laid."""
    points = replace(person, hands=person.hands[[0, 0]] + np.float32(place), hands_score=np.ones((2, 21), np.float32))
    layers = make_arm_layers(drawn, points, (side == 0, side == 1))
    if layers is not None:
        there = arm_points(points)[None]
        frame = lay_arms(layers, take_out_arms(layers, drawn.clone(), there), there, torch.zeros(1, 2, 96, 96))
        away = replace(points, hands=points.hands + np.float32(9.0))
        assert frame.isfinite().all() and covered(layers, arm_points(away)[None], (96, 96)).isfinite().all()
    assert (layers is None) == (max(map(abs, place)) >= 0.6)


def test_a_hand_of_no_size_is_left_alone(drawn, person):
    points = replace(person, hands=np.full_like(person.hands, 0.5))
    assert make_arm_layers(drawn, points, BOTH) is None


def test_the_share_of_arms_is_where_they_lie(drawn, person):
    layers = make_arm_layers(drawn, person, BOTH)
    away = replace(person, hands=person.hands + np.float32([-0.2, -0.1]))
    rest, moved = (arms_share(layers, arm_points(p)) for p in (person, away))
    hand = np.s_[: int(0.6 * SIZE)]
    assert rest[hand][light(drawn)[hand]].mean() > 0.85 and rest[hand][~light(drawn)[hand]].mean() < 0.1
    across = [(share[hand] * np.arange(SIZE)).sum() / share[hand].sum() for share in (rest, moved)]
    assert np.diff(across) == pytest.approx(-0.2 * SIZE, abs=4)


def test_hands_that_are_laid_are_cut_out_with_the_person(host, reference):
    """Before another background a hand that went far away is seen, and nothing is where it was."""
    seen = with_hands(reference)
    far = replace(seen.picture_keypoints, hands=seen.picture_keypoints.hands - np.float32([0, 0.4]))
    layers = cut_arms(host.model.network.preset, seen)
    poses = PoseSequence.of([seen.picture_keypoints, far], 25.0, (512, 512))
    cutout = Cutout(np.zeros((1, 1, 3), np.uint8), seen, driven_arms(seen, poses, layers))
    shares = [arms_share(layers, points) for points in cutout.arms.points(0, 2)]
    mattes = [cutout.matte(cutout.picture, number) for number in (0, 1)]
    for share, matte in zip(shares, mattes, strict=True):
        assert (matte >= share - 1e-6).all() and share.max() > 0.9
    assert (mattes[1] - cutout.still)[(shares[0] > 0.5) & (shares[1] == 0)].max() == 0


def test_bending_is_exact_for_turns_and_shifts():
    rng = np.random.default_rng(0)
    at, places = rng.normal(size=(2, 26, 2)) @ [1, 1j] * 20
    for turn, shift in ((1, 0), (1, 5 - 2j), (np.exp(0.7j), 3j)):
        to = at * turn + shift
        np.testing.assert_allclose(bend(places, to, at, 3.0), (places - shift) / turn, atol=1e-9)


def test_under_an_arm_the_flow_is_that_around_it(drawn, person):
    layers = make_arm_layers(drawn, person, BOTH)
    share = covered(layers, arm_points(person)[None], (96, 96))
    assert 0.02 < share.mean() < 0.5
    flow = torch.full((1, 2, 96, 96), 3.0) + 20 * (share > 0.5)  # the hand's own way
    under = (flow_around(flow, share) - 3).abs()[..., share[0, 0] > 0.95]
    assert under.mean() < 1 and under.max() < 5
    assert (flow_around(flow, share) - flow).abs()[..., share[0, 0] == 0].max() == 0


def test_the_network_is_told_of_no_hands_that_move_the_pictures_own_pixels(host, reference):
    seen, preset = with_hands(reference), host.model.network.preset
    poses = PoseSequence.of([seen.picture_keypoints] * 2, 25.0, (512, 512))
    hidden = poses.only("body")
    hidden.body_score[:, [4, 7]] = 0
    hands = skeleton_source(preset, seen, poses.only("hands"))(0, 2)
    assert not hands.pose.any() and not hands.shift.any()
    assert torch.equal(
        skeleton_source(preset, seen, poses, ("body", "hands"))(0, 2).pose,
        skeleton_source(preset, seen, hidden, ("body", "hands"))(0, 2).pose,
    )


def beside(reference, away: float):
    """The reference whose right hand is so far left of its left one."""
    apart = with_hands(reference)
    hands = apart.keypoints.hands.copy()
    hands[1] = hands[0] + np.float32([-away, 0])
    return replace(
        apart,
        keypoints=replace(apart.keypoints, hands=hands),
        picture_keypoints=replace(apart.picture_keypoints, hands=hands),
    )


def test_a_hand_that_touches_something_stays_and_that_is_told(host, reference):
    preset, seen = host.model.network.preset, with_hands(reference)
    poses = PoseSequence.of([seen.picture_keypoints] * 2, 25.0, (512, 512))
    layers = cut_arms(preset, seen)
    assert layers.sides == BOTH and keep_hands(preset, seen, poses, layers)[1] == []
    one = cut_arms(preset, seen, (True, False))
    assert one.sides == (True, False)
    kept, lines = keep_hands(preset, seen, poses, one)
    assert not kept.hands_score[:, 1].any() and kept.hands_score[:, 0].all()
    assert len(lines) == 1 and "right hand stays" in lines[0]
    assert cut_arms(preset, reference) is None  # a cuff is no hand
    assert cut_arms(preset, beside(reference, 0.02), (True, False)) is None  # it holds the other one, which stays
    assert cut_arms(PRESETS["sd15"], seen) is None and keep_hands(PRESETS["sd15"], seen, poses, None) == (poses, [])


def test_hands_that_touch_each_other_move_as_one(host, reference):
    """Those of the driving go apart: they go where its middle does."""
    seen, preset = beside(reference, 0.02), host.model.network.preset
    layers, points = cut_arms(preset, seen), seen.picture_keypoints
    assert layers.sides == BOTH
    steps = np.float32([[[0, 0], [0, 0]], [[0.1, -0.2], [-0.1, -0.2]], [[0.2, 0], [0, 0]]])
    poses = [replace(points, hands=points.hands + step[:, None]) for step in steps]
    own = seen.keypoints.hands
    track = driven_arms(seen, PoseSequence.of(poses, 25.0, (512, 512)), layers).points(0, 3)[:, :, :ELBOW, :2]
    np.testing.assert_allclose(track[0], own, atol=1e-5)
    for frame, middle in ((1, (0, -0.2)), (2, (0.1, 0))):
        np.testing.assert_allclose(track[frame].mean((0, 1)) - own.mean((0, 1)), middle, atol=1e-5)
        gap = track[frame, 0].mean(0) - track[frame, 1].mean(0)
        assert np.linalg.norm(gap) == pytest.approx(0.02, abs=1e-4)


def test_a_hand_that_is_lost_for_a_while_goes_on_between(host, reference):
    seen = with_hands(reference)
    frames = [
        replace(seen.picture_keypoints, hands=seen.picture_keypoints.hands + np.float32(0.01 * i)) for i in range(5)
    ]
    for i in (2, 3):
        frames[i] = replace(frames[i], hands=np.zeros_like(frames[i].hands), hands_score=np.zeros((2, 21), np.float32))
    arms = driven_arms(seen, PoseSequence.of(frames, 25.0, (512, 512)), cut_arms(host.model.network.preset, seen))
    way = arms.points(0, 8)[:, 0, 0, 0]
    np.testing.assert_allclose(np.diff(way)[:4], np.diff(way)[0], atol=1e-5)
    assert np.diff(way)[0] > 0 and (np.diff(way)[4:] == 0).all()


def test_gestures_move_hands_and_leave_the_rest_to_the_network(host, reference):
    """Away from the arms a video with gestures is the one without."""
    seen, sound = with_hands(reference), Sound.from_samples(voice(0.5), 16_000)
    made = {
        on: host.animate_reference(seen, GenerationConfig(size=256, steps=1), sound, gestures=on)
        for on in (True, False)
    }
    frames = {on: np.stack(list(one.frames)).astype(int) for on, one in made.items()}
    assert made[True].job.arms.layers.sides == (True, True) and made[False].job.arms is None
    track = made[True].job.arms.points(0, 12)
    assert np.ptp(track[:, :, 0, :2], axis=0).max() > 0.01
    difference = np.abs(frames[True] - frames[False]).mean(-1)
    h = difference.shape[1]
    assert difference[:, : h // 2].max() == 0 < difference[:, int(0.75 * h) :].max()


def bent_arm(canvas: np.ndarray, person: Keypoints, bare: bool) -> tuple[torch.Tensor, Keypoints]:
    """The hand points at the camera, before an elbow beside it; what is seen of the forearm is bare or of cloth."""
    elbow = person.hands[0, 0] + np.float32([0.018, 0.0])
    body = person.body.copy()
    body[[5, 6, 7]] = [elbow + np.float32([0.1, -0.45]), elbow, person.hands[0, 0]]
    skin, cloth = (220, 180, 160), (40, 60, 120)
    z = (elbow * SIZE).astype(int).tolist()
    cv2.line(canvas, (body[5] * SIZE).astype(int).tolist(), z, cloth, 24)
    cv2.circle(canvas, z, 14, skin if bare else cloth, -1)
    for finger in FINGERS:
        cv2.polylines(canvas, [(person.hands[0, list(finger)] * SIZE).round().astype(np.int32)], False, skin, 6)
    return torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 127.5 - 1, replace(person, body=body)


@pytest.mark.parametrize("bare", [True, False])
def test_a_hidden_forearm_is_drawn_bare_where_what_is_seen_of_it_is(person, bare):
    picture, points = bent_arm(np.full((SIZE, SIZE, 3), 90, np.uint8), person, bare)
    layers = make_arm_layers(picture, points, (True, False), np.ones((SIZE, SIZE), np.float32))
    arm = layers.arms[0]
    assert len(arm.points) == ELBOW and (arm.forearm.colour is not None) == bare
    away = replace(points, hands=points.hands + np.float32([-0.1, -0.3]))
    track = arm_points(away)[None]
    track[:, :, ELBOW:, 2] = 0
    ground = take_out_arms(layers, picture.clone(), track)
    frame = lay_arms(layers, ground.clone(), track, torch.zeros(1, 2, SIZE // 2, SIZE // 2))[0]
    ends = arm.elbow / SIZE, complex(*away.hands[0, 0])
    x, y = (int(round(v * SIZE)) for v in ((ends[0] + ends[1]).real / 2, (ends[0] + ends[1]).imag / 2))
    red, _, blue = frame[:, y, x].tolist()
    assert (red > blue + 0.1) == bare and (blue > red + 0.1) != bare


@pytest.mark.parametrize("step", [(0.0, -0.06), (-0.06, -0.02)])
def test_a_cuff_goes_with_the_hand_that_hides_its_forearm(person, step):
    """What sticks out of the sleeve is not left behind, and nothing shows through."""
    picture, points = bent_arm(np.full((SIZE, SIZE, 3), 90, np.uint8), person, bare=False)
    cuff = ((points.hands[0, 0] + np.float32([-0.03, 0.05])) * SIZE).astype(int)
    red = torch.tensor([0.6, -0.8, -0.8])
    picture[0, :, cuff[1] - 6 : cuff[1] + 6, cuff[0] - 6 : cuff[0] + 6] = red[:, None, None]
    theirs = ((picture[0] - (90 / 127.5 - 1)).abs().amax(0) > 0.01).float().numpy()
    layers = make_arm_layers(picture, points, (True, False), theirs)
    assert layers.arms[0].about is not None
    away = replace(points, hands=points.hands + np.float32(step))
    track = arm_points(away)[None]
    track[:, :, ELBOW:, 2] = 0
    frame = lay_arms(
        layers, take_out_arms(layers, picture.clone(), track), track, torch.zeros(1, 2, SIZE // 2, SIZE // 2)
    )[0]

    def is_red(image: torch.Tensor) -> np.ndarray:
        return (image[0] > image[2] + 0.7).numpy() & (image[1] < -0.5).numpy()

    before, after = (np.argwhere(is_red(image)) for image in (picture[0], frame))
    assert len(after) > 0.5 * len(before)
    moved = (after.mean(0) - before.mean(0))[::-1] / SIZE
    assert moved @ step > 0.5 * np.square(step).sum()
    assert not is_red(layers.behind[0]).any()


@pytest.mark.parametrize("palms", [0.1, 0.2])
def test_no_second_hand_is_seen_as_a_hand_begins_to_move(drawn, person, palms):
    layers = make_arm_layers(drawn, person, BOTH)
    step = np.float32([-palms * layers.arms[0].palm / SIZE, 0])
    points = arm_points(replace(person, hands=person.hands + step))[None]
    points[:, :, ELBOW:, 2] = 0
    bare = take_out_arms(layers, drawn.clone(), points)
    assert light(bare)[: int(0.6 * SIZE)].sum() == 0


def test_a_hand_that_shows_its_back_keeps_the_pictures_shape():
    """Asked to be its own mirror image it turns and moves, and no finger is bent."""
    hand = np.random.default_rng(0).normal(size=21) + 1j * np.random.default_rng(1).normal(size=21)
    mirrored = 5 + hand.conj()
    kept = _keep_shape(hand, mirrored, palm=1.0)
    shape, own = kept - kept.mean(), hand - hand.mean()
    turn = np.vdot(own, shape) / np.vdot(own, own)
    assert np.abs(kept.mean() - mirrored.mean()) < 0.02
    assert np.abs(shape - turn * own).max() < 0.05 and 0.85 < abs(turn) < 1.15
    bent = hand + 0.1 * np.eye(21)[4]
    assert np.abs(_keep_shape(hand, bent, palm=1.0) - bent).max() < 0.03

"""Drawn people: the same bytes by seed, labels that lie on the drawn parts, variety, any size."""

from dataclasses import replace

import numpy as np
import pytest

from cyberhost_model.lab.synthetic.drawn import draw_person, drawn_still
from cyberhost_model.lab.synthetic.drawn_appearance import sample_appearance
from cyberhost_model.lab.synthetic.drawn_paint import Light
from cyberhost_model.lab.synthetic.drawn_pose import Face, sample_pose

SIZE = 256


@pytest.fixture(scope="module")
def stills():
    return [drawn_still(s) for s in range(6)]


@pytest.fixture(scope="module")
def person():
    """A plain person from the front, hands up beside the body, mouth shut."""
    look = replace(
        sample_appearance(np.random.default_rng(5)),
        beard="none",
        glasses="none",
        hair_style="short",
        sleeve="long",
        clothes="sweater",
        pattern="plain",
        skin=np.array([0.8, 0.6, 0.48], np.float32),
        watch=False,
        cloth=np.array([0.15, 0.2, 0.4], np.float32),
    )
    rng = np.random.default_rng(0)
    pose = next(
        p
        for p in iter(lambda: sample_pose(rng, look.shoulders, (SIZE, SIZE)), None)
        if [a.kind for a in p.arms] == ["open", "open"]
    )
    return look, replace(pose, face=Face(), scale=0.3, centre=(0.5, 0.5), lean=0.0)


def _draw(look, pose, size=(SIZE, SIZE), grey=0.5):
    return draw_person(look, pose, Light(), np.full((size[1], size[0], 3), grey, np.float32))


def _at(picture, points):
    """The picture's pixels under points in 0..1."""
    h, w = picture.shape[:2]
    x, y = np.clip((points * (w, h)).astype(int), 0, (w - 1, h - 1)).T
    return picture[y, x]


def test_same_seed_same_bytes(stills):
    again = drawn_still(3)
    assert np.array_equal(again.picture_u8, stills[3].picture_u8)
    assert np.array_equal(again.mask, stills[3].mask)
    for name in ("body", "hands", "face", "body_score", "hands_score", "face_score"):
        assert np.array_equal(getattr(again.keypoints, name), getattr(stills[3].keypoints, name))


def test_types_and_ranges(stills):
    for s in stills:
        assert s.picture_u8.dtype == np.uint8 and s.picture_u8.shape == (SIZE, SIZE, 3)
        assert s.mask.dtype == np.float32 and 0 <= s.mask.min() and s.mask.max() <= 1
        assert 0.1 < s.mask.mean() < 0.95
        k = s.keypoints
        assert k.body.shape == (18, 2) and k.hands.shape == (2, 21, 2) and k.face.shape == (68, 2)
        assert all(a.dtype == np.float32 and np.isfinite(a).all() for a in vars(k).values())
        assert (k.face_score == 1).all() and (k.body_score[[9, 10, 12, 13]] == 0).all()


def test_people_differ(stills):
    for i in range(len(stills)):
        for j in range(i):
            assert np.abs(stills[i].picture_u8.astype(int) - stills[j].picture_u8).mean() > 15
    assert len({s.identity for s in stills}) == len(stills)
    looks = [sample_appearance(np.random.default_rng(s)) for s in range(80)]
    assert (
        len({k.hair_style for k in looks}) > 8
        and len({k.clothes for k in looks}) > 6
        and len({k.pattern for k in looks}) > 5
    )
    light = [float(k.skin.mean()) for k in looks]
    assert min(light) < 0.35 and max(light) > 0.7


def test_mask_covers_the_points(stills):
    seen = 0
    for s in stills:
        k = s.keypoints
        for points, score in (
            (k.face[17:], k.face_score[17:]),
            (k.hands, k.hands_score),
            (k.body[:8], k.body_score[:8]),
        ):
            p = points.reshape(-1, 2)[score.reshape(-1) > 0]
            seen += len(p)
            if len(p):
                assert (_at(s.mask, p) > 0.5).mean() > 0.97
    assert seen > 51 * len(stills)


def test_hand_points_lie_on_skin(person):
    look, pose = person
    _, _, k = _draw(look, pose)
    a = _draw(look, pose)[0]
    b = _draw(replace(look, skin=np.array([0.3, 0.2, 0.15], np.float32), nails=look.nails), pose)[0]
    skin = np.abs(a - b).mean(-1) > 0.04  # what the skin's colour changes is skin
    assert k.hands_score.min() == 1
    for i in range(2):
        assert _at(skin, k.hands[i]).mean() > 0.95
        assert _at(skin, k.hands[i][[4, 8, 12, 16, 20]]).all()  # all five tips
    # the left hand hangs on the left wrist, at the image's right
    assert np.allclose(k.hands[0, 0], k.body[7], atol=0.01) and np.allclose(k.hands[1, 0], k.body[4], atol=0.01)
    assert k.body[7, 0] > k.body[4, 0]
    # between the middle of two spread fingers there is no skin: the fingers are apart
    gap = (k.hands[1, 8] + k.hands[1, 12]) / 2
    assert not _at(skin, gap[None])[0]


def test_mouth_points_lie_on_the_mouth(person):
    look, pose = person
    for turn in (0.0, 0.25):
        shut = replace(pose, face=Face(yaw=turn), scale=0.55, centre=(0.5, 0.92))
        picture, _, k = _draw(look, shut)
        grey = picture.mean(-1)
        line = _at(grey, k.face[[61, 62, 63]])
        upper, lower = (
            _at(grey, (k.face[[49, 51, 53]] + k.face[61:64]) / 2),
            _at(grey, (k.face[[59, 57, 55]] + k.face[61:64]) / 2),
        )
        assert np.allclose(k.face[61:64], k.face[[67, 66, 65]], atol=1e-6)
        assert (line < 0.85 * np.minimum(upper, lower)).all()
        wide = replace(shut, face=replace(shut.face, open=0.08))
        picture, _, k = _draw(look, wide)
        inside = _at(picture.mean(-1), (0.15 * k.face[62] + 0.85 * k.face[66])[None])
        assert inside < 0.6 * _at(picture.mean(-1), (k.face[57] * 0.5 + k.face[66] * 0.5)[None])
        assert 0.15 * look.mouth_width < np.hypot(*((k.face[66] - k.face[62]) * SIZE)) / (0.55 * SIZE)


def test_eyes_are_between_their_lids(person):
    look, pose = person
    near = replace(pose, face=Face(), scale=0.55, centre=(0.5, 0.92))
    picture, _, k = _draw(look, near)
    for i in (36, 42):
        eye = k.face[i : i + 6]
        pupil = _at(picture.mean(-1), eye.mean(0)[None])[0]
        white = _at(picture.mean(-1), (0.78 * eye[0] + 0.22 * eye[3])[None])[0]
        assert pupil < 0.5 * white
        assert eye[1:3, 1].max() < eye[4:6, 1].min() and eye[0, 0] < eye[1, 0] < eye[2, 0] < eye[3, 0]


@pytest.mark.parametrize("size", [(192, 320), (320, 192), (201, 255)])
def test_any_size_without_stretching(person, size):
    look, pose = person
    still = drawn_still(11, size)
    assert still.picture_u8.shape == (size[1], size[0], 3) and still.mask.shape == (size[1], size[0])
    _, mask, k = _draw(look, pose, size)
    face = k.face * size
    ratio = np.ptp(face[:17, 0]) / np.ptp(face[:, 1])
    square = _draw(look, pose)[2].face
    assert ratio == pytest.approx(np.ptp(square[:17, 0]) / np.ptp(square[:, 1]), rel=0.02)
    assert (_at(mask, k.face[17:]) > 0.9).all()

"""Retargeting: the motion is the driving's, the proportions are the reference's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from figures import Person, mirrored, perform, upright

from cyberhost_model.driving.retarget import retarget
from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.errors import InputError
from cyberhost_model.perception.keypoints import NECK, Keypoints

OTHER = Person(head=0.3, shoulders=0.36, upper=0.24, fore=0.27, hand=0.14, look=3, neck=(0.7, 0.45), size=(640, 480))
BONES = ((NECK, 2), (NECK, 5), (2, 3), (3, 4), (5, 6), (6, 7), (NECK, 8))


def lengths(sequence: PoseSequence) -> np.ndarray:
    """(T, bones) in picture heights."""
    p = upright(sequence)
    return np.stack([np.linalg.norm(p[:, a] - p[:, b], axis=-1) for a, b in BONES], 1)


def off(a: PoseSequence, b: PoseSequence) -> float:
    """The largest distance of seen points, in picture heights."""
    seen = (a.scores() > 0.3) & (b.scores() > 0.3)
    return float(np.linalg.norm(upright(a) - upright(b), axis=-1)[seen].max())


def shape_of(face: np.ndarray) -> np.ndarray:
    """Points (68, 2) without place, size and roll."""
    z = (face[:, 0] + 1j * face[:, 1]) - complex(*face[27:36].mean(0))
    eyes = z[42:48].mean() - z[36:42].mean()
    return z / eyes


def gap(points: np.ndarray) -> np.ndarray:
    """(T,) the opening of the mouth in heights of the face, points (T, 128, 2)."""
    face = points[:, 60:]
    height = np.linalg.norm(face[:, 8] - face[:, [19, 24]].mean(1), axis=-1)
    return (
        np.mean([np.linalg.norm(face[:, a] - face[:, b], axis=-1) for a, b in ((61, 67), (62, 66), (63, 65))], 0)
        / height
    )


@pytest.mark.parametrize("frame", [0, 17])
def test_a_person_to_itself_is_the_identity(frame: int) -> None:
    sequence = perform(Person())
    same = retarget(sequence, sequence.frame(frame), sequence.size)
    assert off(same, sequence) < 1e-6
    assert np.array_equal(same.scores(), sequence.scores()) and same.size == sequence.size


def test_bones_have_the_references_lengths_and_the_drivings_directions() -> None:
    drive, own = perform(Person()), perform(OTHER)
    moved = retarget(drive, own.frame(0), own.size)
    assert moved.size == own.size
    np.testing.assert_allclose(lengths(moved), np.repeat(lengths(own)[:1], len(drive), 0), rtol=1e-3)
    for a, b in BONES:
        bone, was = upright(moved)[:, b] - upright(moved)[:, a], upright(drive)[:, b] - upright(drive)[:, a]
        turned = np.angle((bone[:, 0] + 1j * bone[:, 1]) / (was[:, 0] + 1j * was[:, 1]))
        assert np.abs(turned).max() < 1e-3
    for hand in (slice(18, 39), slice(39, 60)):
        spans = [np.linalg.norm(upright(s)[:, hand] - upright(s)[:, hand][:, :1], axis=-1).mean() for s in (moved, own)]
        assert spans[0] == pytest.approx(spans[1], rel=0.02)


def test_it_starts_where_the_reference_is() -> None:
    drive, own = perform(Person()), perform(OTHER)
    moved = upright(retarget(drive, own.frame(0), own.size))
    assert np.abs(moved[0, NECK] - upright(own)[0, NECK]).max() < 0.02
    assert np.linalg.norm(moved[0, 60:].mean(0) - upright(own)[0, 60:].mean(0)) < 0.02


def test_the_face_keeps_its_shape_and_takes_the_motion() -> None:
    drive, own = perform(Person(look=1)), perform(replace(OTHER, look=5))
    moved = retarget(drive, own.frame(0), own.size)
    mine, theirs = shape_of(upright(own)[0, 60:]), shape_of(upright(drive)[0, 60:])
    after = shape_of(upright(moved)[0, 60:])
    rigid = np.r_[0:17, 27:48]
    assert np.abs(after - mine)[rigid].mean() < 0.15 * np.abs(theirs - mine)[rigid].mean()
    assert np.corrcoef(gap(upright(moved)), gap(upright(drive)))[0, 1] > 0.99
    assert np.abs(gap(upright(moved)) - gap(upright(drive))).max() < 0.25 * gap(upright(drive)).max()
    roll = [
        np.unwrap(np.angle(np.array([complex(*(f[42:48].mean(0) - f[36:42].mean(0))) for f in upright(s)[:, 60:]])))
        for s in (moved, drive)
    ]
    np.testing.assert_allclose(roll[0] - roll[0][0], roll[1] - roll[1][0], atol=0.02)


def test_closed_lips_close_though_the_picture_smiles_openly() -> None:
    drive, own = perform(Person(look=1)), perform(replace(OTHER, look=5), mouth=0.06)
    wide = int(gap(upright(own)).argmax())
    moved = retarget(drive, own.frame(wide), own.size)
    shut = gap(upright(drive)) < 0.005
    assert gap(upright(own))[wide] > 0.05 and shut.any()
    assert gap(upright(moved))[shut].max() < 0.01


def test_eyes_shut_and_do_not_cross() -> None:
    drive, own = perform(Person(look=1)), perform(replace(OTHER, look=5))
    points = drive.points()
    points[20, [60 + p for p in (37, 38, 43, 44)]] = points[20, [60 + p for p in (41, 40, 47, 46)]]  # a blink
    face = upright(retarget(drive.with_points(points, drive.scores()), own.frame(0), own.size))[:, 60:]
    roll = np.array([complex(*(f[42:48].mean(0) - f[36:42].mean(0))) for f in face])
    for pairs in (((37, 41), (38, 40)), ((43, 47), (44, 46))):
        lids = np.mean([(((face[:, b] - face[:, a]) @ [1, 1j]) / roll).imag for a, b in pairs], 0)
        assert abs(lids[20]) < 1e-3 and lids.min() > -1e-3 and lids[0] > 0.03


def test_size_place_and_aspect_of_the_driving_do_not_matter() -> None:
    drive, own = perform(Person()), perform(OTHER)
    moved = retarget(drive, own.frame(0), own.size)
    smaller = drive.map(lambda p: p * 0.6 + [0.3, 0.1])
    assert off(retarget(smaller, own.frame(0), own.size), moved) < 1e-4
    wide = replace(drive.map(lambda p: p * [drive.aspect / 2, 1] + [0.2, 0]), size=(1280, 640))
    assert off(retarget(wide, own.frame(0), own.size), moved) < 1e-4


def test_a_mirrored_driving_gives_the_mirrored_result() -> None:
    drive, own = perform(Person()), perform(OTHER)
    moved = mirrored(retarget(drive, own.frame(0), own.size))
    assert off(retarget(mirrored(drive), mirrored(own).frame(0), own.size), moved) < 1e-4


def hidden(keypoints: Keypoints, body: list[int], hands: list[int]) -> Keypoints:
    """The key points with some of them not seen, and so without meaning."""
    keypoints.body[body], keypoints.body_score[body] = np.nan, 0
    keypoints.hands[hands], keypoints.hands_score[hands] = np.nan, 0
    return keypoints


def test_limbs_the_reference_does_not_show_get_its_scale() -> None:
    drive, own = perform(Person()), perform(OTHER)
    reference = hidden(own.frame(0), [4, 7, 8, 11], [0, 1])
    moved = retarget(drive, reference, own.size)
    assert np.isfinite(moved.points()).all() and np.array_equal(moved.scores(), drive.scores())
    scale = OTHER.shoulders / Person().shoulders
    assert lengths(moved)[:, 3].mean() == pytest.approx(scale * Person().fore, rel=0.01)
    assert lengths(moved)[:, 2].mean() == pytest.approx(OTHER.upper, rel=0.01)


def test_a_portrait_of_a_head_is_placed_by_the_face() -> None:
    drive, own = perform(Person()), perform(OTHER)
    reference = hidden(own.frame(0), [1, 2, 3, 4, 5, 6, 7, 8, 11], [0, 1])
    moved = upright(retarget(drive, reference, own.size))
    assert np.isfinite(moved).all()
    assert np.linalg.norm(moved[0, 60:].mean(0) - upright(own)[0, 60:].mean(0)) < 0.02
    assert (moved[:, NECK, 1] > moved[:, 60 + 8, 1]).all()


def test_a_driving_without_face_or_arms() -> None:
    drive, own = perform(Person()), perform(OTHER)
    faceless = retarget(drive.only("body", "hands"), own.frame(0), own.size)
    assert faceless.face_score.max() == 0 and np.isfinite(faceless.points()).all()
    np.testing.assert_allclose(lengths(faceless), np.repeat(lengths(own)[:1], len(drive), 0), rtol=1e-3)
    headless = retarget(drive.only("face"), own.frame(0), own.size)
    assert np.linalg.norm(upright(headless)[0, 60:].mean(0) - upright(own)[0, 60:].mean(0)) < 0.02
    assert headless.body_score.max() == 0


def test_nothing_to_fit_by() -> None:
    drive, own = perform(Person()), perform(OTHER)
    with pytest.raises(InputError, match="the driving shows neither shoulders nor a face"):
        retarget(drive.only("hands"), own.frame(0), own.size)
    with pytest.raises(InputError, match="the picture shows neither"):
        retarget(drive, Keypoints.empty(), own.size)


def raised(person: Person) -> PoseSequence:
    """The arms go from where they usually are to far out and up."""
    return PoseSequence.of([perform(person, 1, angle=a).frame(0) for a in np.linspace(0, 1.7, 40)], 25.0, person.size)


def test_arms_start_from_the_pictures_pose_and_reach_the_drivings() -> None:
    drive, own = raised(Person()), perform(OTHER, 1, angle=-0.5)
    moved = upright(retarget(drive, own.frame(0), own.size))
    mine, theirs = upright(own)[0], upright(drive)
    assert np.abs(moved[0, :60] - mine[:60]).max() < 0.02
    for a, b in ((2, 3), (3, 4), (5, 6), (6, 7)):
        end, wanted = (p[b] - p[a] for p in (moved[-1], theirs[-1]))
        apart = np.angle((end[0] + 1j * end[1]) / (wanted[0] + 1j * wanted[1]))
        assert abs(apart) < 0.12
    # It never turns back on the way.
    rise = np.diff(moved[:, 4, 1])
    assert rise.max() < 0.002


def turned(points: np.ndarray, about: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Points (T, N, 2) turned about points (T, 2) by angles (T,)."""
    z = (points - about[:, None]) @ [1, 1j] * np.exp(1j * angle)[:, None]
    return about[:, None] + np.stack([z.real, z.imag], -1)


def hand_to_the_head(person: Person, swing: float, frames: int = 60) -> PoseSequence:
    """The right hand goes to the head and back twice, by a turn of the forearm, while the upper arm swings three times
    by `swing` radians to either side.
    """
    still = upright(perform(person, 1, angle=-0.3))
    points, t = np.repeat(still, frames, 0), np.linspace(0, 2 * np.pi, frames)
    arm, fore = [3, 4, *range(39, 60)], [4, *range(39, 60)]
    points[:, arm] = turned(points[:, arm], points[:, 2], swing * np.sin(3 * t))
    points[:, fore] = turned(points[:, fore], points[:, 3], 1.1 * (1 - np.cos(2 * t)))
    scores = np.repeat(perform(person, 1).scores(), frames, 0)
    empty = PoseSequence.of([perform(person, 1).frame(0)] * frames, 25.0, person.size)
    return empty.with_points(points / [person.size[0] / person.size[1], 1], scores)


@pytest.mark.parametrize("angle", [-0.6, 0.0])
def test_an_elbow_moves_as_the_drivings_while_its_hand_goes_to_the_head(angle: float) -> None:
    drive, own = hand_to_the_head(Person(), 0.08), perform(OTHER, 1, angle=angle)
    moved, theirs = upright(retarget(drive, own.frame(0), own.size)), upright(drive)
    scale = OTHER.upper / Person().upper
    for axis in (0, 1):
        elbow, wanted = moved[:, 3, axis] - moved[:, 2, axis], scale * (theirs[:, 3, axis] - theirs[:, 2, axis])
        assert np.corrcoef(elbow, wanted)[0, 1] > 0.85
        assert 0.6 < elbow.std() / wanted.std() < 1.6
    assert np.ptp(moved[:, 4, 1]) > 0.14  # and the hand does go


def test_an_elbow_gives_way_where_its_hand_would_stretch_the_arm() -> None:
    drive, own = hand_to_the_head(Person(), 0.08), perform(OTHER, 1, angle=0.6)
    moved = lengths(retarget(drive, own.frame(0), own.size))
    longest = np.maximum(lengths(own)[0], lengths(drive).max(0) * OTHER.shoulders / Person().shoulders)
    assert (moved[:, 2:6] <= 1.001 * longest[2:6]).all()


def test_a_bone_that_points_at_the_camera_in_the_picture_is_no_short_bone() -> None:
    drive, own = raised(Person()), perform(OTHER)
    reference = own.frame(0)
    away = (reference.body[4] - reference.body[3]) * 0.8
    reference.body[4] -= away
    reference.hands[1] -= away
    forearm = lengths(retarget(drive, reference, own.size))[:, 3]
    assert forearm[0] == pytest.approx(0.2 * OTHER.fore, rel=0.02)
    full = Person().fore * OTHER.shoulders / Person().shoulders
    assert 0.75 * full < forearm[-1] < 1.05 * full

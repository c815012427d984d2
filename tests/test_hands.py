"""Both hands of a person: never two in one place, the other one looked for again. Exact hands of drawn people."""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cyberhost_model.lab.filmed.source import open_video, to_rgb
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.perception.hands import Arms, FoundHand, HandMaps, choose_hands, in_one_place, separate_hands
from cyberhost_model.perception.keypoint_detector import KeypointDetector
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints
from cyberhost_model.perception.people import visible_hands
from cyberhost_model.perception.registry import embedded_detector

FILMED = Path(os.environ.get("CYBERHOST_FILMED", Path(__file__).resolve().parents[2] / "shared" / "data" / "filmed"))
CELLS, SIDE = 40, 384


@pytest.fixture(scope="module")
def person() -> Still:
    """A drawn person whose hands are both seen and apart."""
    for seed in range(100):
        still = drawn_still(seed, (SIDE, SIDE))
        left, right = hands_of(still)
        if min(visible_hands(still.keypoints)) and np.linalg.norm(left.centre - right.centre) > 1.5 * left.size:
            return still
    raise AssertionError("no drawn person shows two hands")


def hands_of(still: Still) -> list[FoundHand]:
    return [FoundHand(hand, still.keypoints.hands[hand] * SIDE, 1.0) for hand in (0, 1)]


def arms_of(still: Still) -> Arms:
    pixels = still.keypoints.map(lambda p: p * SIDE)
    return Arms.of(replace(pixels, body_score=np.ones(18, np.float32)), float(np.ptp(pixels.face, axis=0).max()))


def maps_with(peaks: list[tuple[int, np.ndarray, float]], size: float) -> HandMaps:
    """Maps of the whole picture with a peak of this probability at each (hand, place in pixels)."""
    heat = torch.full((2, CELLS, CELLS), -9.0)
    for hand, place, sure in peaks:
        column, row = (place / SIDE * CELLS).astype(int)
        heat[hand, row, column] = math.log(sure / (1 - sure))
    return HandMaps(heat, torch.zeros(2, CELLS, CELLS), np.array([SIDE / 2, SIDE / 2]), float(SIDE), size)


class SeesTruth(KeypointDetector):
    """Finds whichever true hand is near a seed, like the network taking a right hand for a left one just as well."""

    def __init__(self, hands: list[FoundHand]):
        super().__init__()
        self.true, self.looked = hands, 0

    def hand_points(self, picture_u8, hands, passes=2):
        found = []
        for _, centre, _ in hands:
            self.looked += passes
            nearest = min(self.true, key=lambda h: float(np.linalg.norm(h.centre - centre)))
            near = np.linalg.norm(nearest.centre - centre) < nearest.size
            found.append((nearest.points, 1.0) if near else (nearest.points * 0 + centre, 0.0))
        return found


def search(true: list[FoundHand], peaks: list[tuple[int, np.ndarray, float]], arms: Arms) -> dict[int, np.ndarray]:
    detector = SeesTruth(true)
    maps = maps_with(peaks, true[0].size)
    chosen, again = (detector._hands(np.zeros((SIDE, SIDE, 3), np.uint8), maps, arms) for _ in range(2))
    assert chosen.keys() == again.keys() and all(np.array_equal(chosen[h].points, again[h].points) for h in chosen)
    return {hand: found.points for hand, found in chosen.items() if found.score > VISIBLE}


def test_hands_apart_are_both_found_without_a_search(person):
    left, right = hands_of(person)
    detector = SeesTruth([left, right])
    maps = maps_with([(0, left.centre, 0.9), (1, right.centre, 0.8), (1, left.centre, 0.5)], left.size)
    found = detector._hands(np.zeros((SIDE, SIDE, 3), np.uint8), maps, arms_of(person))
    assert np.array_equal(found[0].points, left.points) and np.array_equal(found[1].points, right.points)
    assert found[0].score == pytest.approx(math.sqrt(0.9)) and detector.looked == 4


@pytest.mark.parametrize("taken", [0, 1])
def test_of_two_in_one_place_the_arm_decides_and_the_other_is_found_elsewhere(person, taken):
    """Both maps are surest of one hand, the wrong one of the two even more so."""
    hands, arms = hands_of(person), arms_of(person)
    other = 1 - taken
    peaks = [
        (taken, hands[taken].centre, 0.6),
        (other, hands[taken].centre, 0.9),
        (other, hands[other].centre, 0.4),
    ]
    found = search(hands, peaks, arms)
    assert {hand: hands[hand].points.tolist() for hand in (0, 1)} == {h: p.tolist() for h, p in found.items()}


def test_one_hand_alone_is_one(person):
    left, _ = hands_of(person)
    found = search([left], [(0, left.centre, 0.6), (1, left.centre, 0.9)], arms_of(person))
    assert list(found) == [0] and np.array_equal(found[0], left.points)


def test_a_hand_is_looked_for_where_the_other_hands_map_has_it(person):
    left, right = hands_of(person)
    arms = arms_of(person)
    confused = [(0, left.centre, 0.9), (0, right.centre, 0.5), (1, right.centre, 0.14)]  # its own peak is too low
    assert np.array_equal(search([left, right], confused, arms)[1], right.points)
    assert list(search([left, right], confused[:1], arms)) == [0]


def test_crossed_and_folded_hands_are_two(person):
    left, right = hands_of(person)
    crossed = [FoundHand(0, right.points, 0.9), FoundHand(1, left.points, 0.8)]
    peaks = [(0, right.centre, 0.9), (1, left.centre, 0.8)]
    assert len(choose_hands(crossed, arms_of(person))) == 2
    arms = arms_of(person)
    assert arms.wrists is not None
    for joints in ({"wrists": None}, {"wrists": arms.wrists[::-1], "elbows": None}):  # unseen, or crossed as well
        found = search(crossed, peaks, replace(arms, **joints))
        assert np.array_equal(found[0], right.points) and np.array_equal(found[1], left.points)
    named = search(crossed, peaks, arms)  # each lies at the other arm's wrist: the maps mistook one for the other
    assert np.array_equal(named[0], left.points) and np.array_equal(named[1], right.points)
    folded = FoundHand(1, 2 * left.centre - left.points, 0.9)  # on the left hand, its wrist at the other end
    assert not in_one_place(left, folded) and in_one_place(left, FoundHand(1, left.points + 3, 0.9))
    assert len(choose_hands([left, folded], arms_of(person))) == 2


def test_without_elbows_the_better_score_stays(person):
    left, _ = hands_of(person)
    arms = Arms(None, 50.0)
    pair = [replace(left, score=0.6), FoundHand(1, left.points, 0.7)]
    assert list(choose_hands(pair, arms)) == [1] and list(choose_hands(pair[::-1], arms)) == [1]
    assert arms.fit(0, left.centre) == 1.0 and arms.detour(0, left.centre) == 0.0


def test_a_place_out_of_reach_does_not_fit(person):
    arms = arms_of(person)
    assert arms.elbows is not None
    assert arms.fit(0, arms.elbows[0] + [4 * arms.face, 0]) == 0.0
    assert arms.fit(0, arms.elbows[0]) == 1.0
    beyond = arms.elbows[0] * 0.4 + arms.elbows[1] * 0.6  # nearer to the other elbow
    assert 0 < replace(arms, face=float(np.linalg.norm(arms.elbows[0] - arms.elbows[1]))).fit(0, beyond) < 1


def test_other_detectors_points_are_separated(person):
    """The same rule for a detector that finds whole people, as DWPose does."""
    k = replace(person.keypoints, body_score=np.ones(18, np.float32))
    assert separate_hands(k, (SIDE, SIDE)) is k
    double = replace(k, hands=np.stack([k.hands[0], k.hands[0]]))
    assert visible_hands(separate_hands(double, (SIDE, SIDE))) == (True, False)
    assert visible_hands(double) == (True, True)  # the given points stay as they are
    assert separate_hands(Keypoints.empty(), (SIDE, SIDE)).hands_score.max() == 0


def in_one_place_of(k: Keypoints, size: tuple[int, int]) -> bool:
    return in_one_place(*(FoundHand(hand, k.hands[hand] * size, 1.0) for hand in (0, 1)))


def test_the_embedded_detector_on_drawn_people():
    detector, right_place, found = embedded_detector(), 0, 0
    for seed in range(12):
        still = drawn_still(seed, (SIDE, SIDE))
        first, again = (detector.detect(still.picture_u8) for _ in range(2))
        if not first:
            continue
        k = first[0].keypoints
        assert np.array_equal(k.hands, again[0].keypoints.hands)
        assert min(visible_hands(k)) is False or not in_one_place_of(k, (SIDE, SIDE))
        for hand, true in enumerate(hands_of(still)):
            if visible_hands(k)[hand]:
                found += 1
                right_place += bool(np.linalg.norm(k.hands[hand].mean(0) * SIDE - true.centre) < 0.5 * true.size)
    assert found >= 8 and right_place >= 0.8 * found


def test_a_hand_that_the_map_does_not_show_is_found_where_it_was_and_fades(person):
    left, right = hands_of(person)
    maps = maps_with([(0, left.centre, 0.9)], left.size)
    picture, arms = np.zeros((SIDE, SIDE, 3), np.uint8), arms_of(person)
    was = FoundHand(1, right.points + 3, 0.8)
    scores = []
    for _ in range(12):
        found = SeesTruth([left, right])._hands(picture, maps, arms, [was])
        if found[1].score <= VISIBLE:
            break
        assert np.array_equal(found[1].points, right.points) and found[0].score > 0.9
        was = found[1]
        scores.append(was.score)
    assert 4 <= len(scores) < 12 and (np.diff(scores) < 0).all() and 0.5 < scores[0] < 0.8
    moved = FoundHand(1, right.points + 2 * right.size, 0.8)  # far from where it was: nothing speaks for it
    assert 1 not in {
        h for h, f in SeesTruth([left, right])._hands(picture, maps, arms, [moved]).items() if f.score > VISIBLE
    }


def test_a_wrist_at_the_elbow_goes_to_a_hand_that_is_surely_found(person):
    left, right = hands_of(person)
    arms = replace(arms_of(person), wrists=np.stack([left.points[0], right.points[0]]))
    assert not arms.wrist_is_off(left) and not arms.wrist_is_off(right)
    low = arms.wrists.copy()
    low[0] = left.points[0] - (right.points[0] - left.points[0]) * 0.9  # aside, still nearer than the other wrist
    arms.wrists, arms.face = low, float(np.linalg.norm(low[0] - left.points[0])) / 0.6
    assert arms.wrist_is_off(left) and not arms.wrist_is_off(replace(left, score=0.55))
    assert not arms.wrist_is_off(FoundHand(1, left.points, 0.9))  # the left hand's place, taken for the right hand
    assert not replace(arms, wrists=None).wrist_is_off(left)
    assert not arms.is_astray(replace(left, score=0.55))  # 0.6 face sizes away
    arms.face /= 2
    assert arms.is_astray(replace(left, score=0.55)) and not arms.is_astray(left)  # a sure hand is not astray
    assert not replace(arms, wrists=None).is_astray(replace(left, score=0.55))


def test_a_followed_person_keeps_the_hands_of_the_frame_before(person, monkeypatch):
    detector, handed = embedded_detector(), []
    search = detector._hands
    monkeypatch.setattr(
        detector, "_hands", lambda p, maps, arms, last=(): handed.append(last) or search(p, maps, arms, last)
    )
    last = replace(person.keypoints, hands_score=np.array([[0.8] * 21, [0.1] * 21], np.float32))
    assert detector.follow(person.picture_u8, last) is not None
    assert [h.hand for h in handed[0]] == [0] and handed[0][0].score == pytest.approx(0.8)
    assert np.allclose(handed[0][0].points, person.keypoints.hands[0] * SIDE)


@pytest.mark.skipif(not (FILMED / "asl").is_dir(), reason="needs ../shared (filmed people who sign)")
def test_filmed_people_who_sign():
    detector, frames, with_hand, doubles = embedded_detector(), 0, 0, 0
    for path in sorted((FILMED / "asl").glob("*.mkv"))[::3]:
        with open_video(path) as video:
            pictures = [to_rgb(shown.frame) for shown in video.frames()][::8]
        for picture in pictures:
            people = detector.detect(picture)
            frames += 1
            if people and any(visible_hands(people[0].keypoints)):
                with_hand += 1
                k = people[0].keypoints
                doubles += min(visible_hands(k)) and in_one_place_of(k, (picture.shape[1], picture.shape[0]))
    assert frames > 40 and doubles == 0 and with_hand >= 0.25 * frames

"""Templates: the bundled gestures, any length without a jump, and hands on another person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from figures import Person, perform, upright

from cyberhost_model.driving.proportions import hand_size
from cyberhost_model.driving.retarget import hands_for
from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.driving.template import (
    FOLDER,
    fit_length,
    load_template,
    loops_smoothly,
    step_sizes,
    template_names,
)
from cyberhost_model.errors import InputError
from cyberhost_model.perception.keypoints import Keypoints

NAMES = ["counting", "open_palms", "pointing", "rest", "wave"]
OTHER = Person(head=0.3, shoulders=0.36, upper=0.24, fore=0.27, hand=0.14, look=3, neck=(0.7, 0.45), size=(640, 480))
ROOT = Path(__file__).resolve().parents[2]
HANDS = (slice(18, 39), slice(39, 60))
WRISTS = (7, 4)


def test_bundled_gestures() -> None:
    assert template_names() == NAMES
    for name in NAMES:
        template = load_template(name)
        assert template.fps == 25 and 2 <= template.seconds <= 6 and loops_smoothly(template)
        assert template.hands_score.min() == 1 and template.face_score.max() == 0
        assert (FOLDER / f"{name}.npz").stat().st_size < 60_000
        points = upright(template)
        assert points[:, 18:60].min() > 0 and points[:, 18:60].max() < 1
        # Smooth: a finger's tip in quick motion changes its speed by less than 2.5% of the picture in a frame.
        assert np.linalg.norm(np.diff(points[:, 18:60], 2, axis=0), axis=-1).max() < 0.025


def test_bundled_gestures_are_what_the_script_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import make_templates

    for name in NAMES:
        assert np.abs(make_templates.gesture(name).points() - load_template(name).points()).max() < 2e-4
        seconds, right, left = make_templates.GESTURES[name]
        for keys, side in ((right, -1), (left, 1)):
            for shoulder, arm in make_templates.arms(keys, seconds, side):
                fore = (arm.wrist - arm.elbow) / np.linalg.norm(arm.wrist - arm.elbow)
                assert fore @ arm.fingers > np.cos(np.radians(75))  # no wrist bends further
                assert np.linalg.norm(arm.elbow - shoulder) == pytest.approx(1.22, abs=0.01)


def test_gestures_do_what_their_names_say() -> None:
    straight = lambda hand, finger: np.linalg.norm(hand[4 * finger + 4] - hand[0]) / hand_size(hand[None])[0]  # noqa: E731
    counting = load_template("counting")
    right = [upright(counting)[round(t * 25), HANDS[1]] for t in (1.3, 2.0, 2.7, 3.4, 4.3)]
    assert [sum(bool(straight(hand, f) > (3 if f else 2.6)) for f in range(5)) for hand in right] == [1, 2, 3, 4, 5]
    wave = upright(load_template("wave"))
    tips = wave[32:78, 39 + 12, 0]
    assert np.diff(np.sign(np.diff(tips))).nonzero()[0].size >= 4  # to and fro
    assert wave[50, 4, 1] < wave[0, 4, 1] - 0.2
    palms = upright(load_template("open_palms"))
    assert palms[50, 7, 0] - palms[50, 4, 0] > 1.5 * (palms[0, 7, 0] - palms[0, 4, 0])
    pointing = upright(load_template("pointing"))[60, HANDS[1]]
    assert straight(pointing, 1) > 1.4 * max(straight(pointing, f) for f in (2, 3, 4))
    rest = upright(load_template("rest"))
    assert np.ptp(rest[:, 18:60], 0).max() < 0.06


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fps", [25.0, 30.0])
def test_bundled_gestures_go_round_without_a_jump(name: str, fps: float) -> None:
    template = load_template(name)
    long = fit_length(template, 400, fps)
    assert len(long) == 400 and long.fps == fps
    inside, _ = step_sizes(template)
    assert step_sizes(long)[0].max() <= inside.max() * 25 / fps * 1.001 + 1e-6
    np.testing.assert_allclose(
        fit_length(template, 250, 25).points()[len(template) : len(template) + 5], template.points()[:5], atol=1e-6
    )


@pytest.mark.parametrize("frames", [2, 3, 7, 30])
def test_one_that_does_not_end_where_it_begins_is_played_to_and_fro(frames: int) -> None:
    ramp = perform(Person(), 12)
    away = ramp.points() + np.linspace(0, 0.3, 12)[:, None, None]
    template = ramp.with_points(away, ramp.scores()).resampled(25, 12).cut(0, min(frames, 12))
    assert not loops_smoothly(template) or len(template) == 2
    long = fit_length(template, 100, 25)
    inside, _ = step_sizes(template)
    assert len(long) == 100 and step_sizes(long)[0].max() <= inside.max() * 1.001
    assert np.abs(long.points() - template.points()[0]).max(axis=(1, 2)).min() == 0
    assert np.abs(long.points() - template.points()[-1]).max(axis=(1, 2)).min() < 0.02


def test_a_single_pose_is_held_and_a_long_one_is_cut() -> None:
    template = perform(Person(), 30)
    held = fit_length(template.cut(4, 5), 60, 25)
    assert len(held) == 60 and np.ptp(held.points(), 0).max() == 0
    np.testing.assert_array_equal(fit_length(template, 12, 25).points(), template.points()[:12])
    np.testing.assert_array_equal(fit_length(template, 30, 25).points(), template.points())
    assert len(fit_length(template, 1, 60)) == 1
    with pytest.raises(ValueError, match="at least one frame"):
        fit_length(template, 0, 25)


def test_a_hand_that_comes_and_goes_is_no_jump_at_the_seam() -> None:
    template = load_template("rest")
    scores = template.scores()
    scores[:30, 18:39] = 0
    partly = template.with_points(template.points(), scores)
    long = fit_length(partly, 350, 25)
    changes = np.diff((long.hands_score[:, 0, 0] > 0).astype(int))
    assert len(long) == 350 and np.abs(changes).sum() >= 3


def test_other_templates(tmp_path: Path) -> None:
    sequence = perform(Person(), 5)
    path = sequence.save(tmp_path / "mine.json")
    assert len(load_template(path)) == 5 and len(load_template(str(path))) == 5
    for name in ("waving", str(tmp_path / "none.mp4")):
        with pytest.raises(InputError, match="no such template; give one of counting, open_palms") as caught:
            load_template(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such key point file"):
        load_template("none.npz")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match="not a video"):
        load_template(tmp_path / "text.mp4")


def test_hands_start_at_the_references_wrists_and_have_its_size() -> None:
    template, own = load_template("wave"), perform(OTHER)
    reference = own.frame(0)
    hands = hands_for(template, reference, own.size)
    points, mine = upright(hands), upright(own)[0]
    assert hands.size == own.size and hands.body_score.max() == 0 and hands.face_score.max() == 0
    assert hands.hands_score.min() == 1 and hands.warnings == []
    for side in (0, 1):
        away = np.linalg.norm(points[:, HANDS[side].start] - mine[WRISTS[side]], axis=-1)
        assert away.min() < 1e-6
        shoulder = mine[(5, 2)[side]]
        reach = max(1.03 * (OTHER.upper + OTHER.fore), float(np.linalg.norm(mine[WRISTS[side]] - shoulder)))
        assert np.linalg.norm(points[:, HANDS[side].start] - shoulder, axis=-1).max() <= 1.6 * reach
        ratio = hand_size(points[:, HANDS[side]]).mean() / hand_size(mine[None, HANDS[side]])[0]
        assert 0.6 < ratio < 1.7
    # The right hand is raised, the left one rests.
    assert np.ptp(points[:, 39, 1]) > 0.2 and np.ptp(points[:, 18, 1]) < 0.05


def test_hands_of_the_same_person_stay_where_they_are() -> None:
    own = perform(Person())
    body = own.body.copy()
    still = own.with_points(own.points() - (body[:, [1]] - body[:1, [1]]), own.scores())
    hands = hands_for(still, still.frame(9), still.size)
    assert np.abs(hands.hands - still.hands).max() < 1e-5


def test_hands_move_alike_whatever_the_templates_size_and_place() -> None:
    template, own = load_template("open_palms"), perform(OTHER)
    hands = hands_for(template, own.frame(0), own.size)
    smaller = template.map(lambda p: p * 0.5 + [0.3, 0.2])
    assert np.abs(hands_for(smaller, own.frame(0), own.size).hands - hands.hands).max() < 1e-4


def test_hands_alone_are_enough() -> None:
    template, own = load_template("open_palms").only("hands"), perform(OTHER)
    hands = hands_for(template, own.frame(0), own.size)
    assert np.isfinite(hands.hands).all() and hands.hands_score.min() == 1
    assert np.ptp(hands.hands[:, 0, 0], 0).max() > 0.05


def test_a_picture_without_hands() -> None:
    template, own = load_template("wave"), perform(OTHER)

    def without(*sides: int) -> Keypoints:
        k = own.frame(0)
        for side in sides:
            k.hands_score[side] = k.body_score[WRISTS[side]] = 0
        return k

    one = hands_for(template, without(0), own.size)
    assert one.hands_score[:, 0].max() == 0 and one.hands_score[:, 1].min() == 1
    assert one.warnings == ["the picture shows no left hand: the template's is left out"]
    with pytest.raises(InputError, match="the picture shows no left and no right hand"):
        hands_for(template, without(0, 1), own.size)
    with pytest.raises(InputError, match="the template shows no hands"):
        hands_for(template.only("body"), own.frame(0), own.size)


def test_a_wrist_without_its_hand_is_enough() -> None:
    template, own = load_template("wave"), perform(OTHER)
    k = own.frame(0)
    k.hands_score[:] = 0
    k.hands[:] = np.nan
    hands = hands_for(template, k, own.size)
    assert np.isfinite(hands.hands).all() and hands.hands_score.min() == 1


def test_the_template_keeps_its_length() -> None:
    template, own = load_template("rest"), perform(OTHER)
    assert isinstance(template, PoseSequence) and len(hands_for(template, own.frame(0), own.size)) == len(template)


@pytest.mark.parametrize("name", ["x" * 300 + ".npz", "x" * 300 + ".mp4", "x" * 300])
def test_a_name_that_no_file_can_have_is_told(name: str) -> None:
    with pytest.raises(InputError):
        load_template(name)

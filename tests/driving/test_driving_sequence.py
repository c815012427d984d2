"""Sequences: frames, parts and frame rates."""

from __future__ import annotations

import numpy as np
import pytest
from figures import Person, perform, upright

from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.perception.keypoints import Keypoints


def test_frames_and_stacked_points_are_the_same() -> None:
    sequence = perform(Person(), 6)
    k = sequence.frame(4)
    assert isinstance(k, Keypoints)
    np.testing.assert_array_equal(sequence.points()[4], np.concatenate([k.body, k.hands.reshape(42, 2), k.face]))
    again = sequence.with_points(sequence.points(), sequence.scores())
    for a, b in zip(again, sequence, strict=True):
        np.testing.assert_array_equal(a.hands, b.hands)
        np.testing.assert_array_equal(a.body_score, b.body_score)
    k.body[:] = 9
    assert sequence.body.max() < 9
    with pytest.raises(ValueError, match="at least one frame"):
        PoseSequence.of([], 25, (64, 64))


@pytest.mark.parametrize(("fps", "frames"), [(25.0, 40), (50.0, 80), (30.0, 48), (12.5, 20), (23.976, 38)])
def test_resampling_keeps_time(fps: float, frames: int) -> None:
    sequence = perform(Person(), 40)
    other = sequence.resampled(fps)
    assert len(other) == frames and other.fps == fps
    back = other.sampled(np.arange(30) * fps / 25, 25)
    assert np.abs(upright(back) - upright(sequence)[:30]).max() < 0.012
    if fps == 25:
        np.testing.assert_array_equal(other.points(), sequence.points())


def test_resampling_to_a_length_holds_the_last_pose() -> None:
    sequence = perform(Person(), 10)
    longer = sequence.resampled(25, 15)
    np.testing.assert_array_equal(longer.points()[10:], np.repeat(sequence.points()[-1:], 5, 0))
    assert len(perform(Person(), 1).resampled(60)) == 2


def test_points_seen_on_one_side_alone_are_not_mixed_with_what_is_not() -> None:
    sequence = perform(Person(), 4)
    sequence.body[1, 4], sequence.body_score[1, 4] = np.nan, 0
    finer = sequence.resampled(100, 13)
    seen = finer.body_score[:, 4] > 0
    assert seen.tolist() == [True, True, False, False, False, False, True, True, True, True, True, True, True]
    assert np.isfinite(finer.body[seen]).all()
    np.testing.assert_array_equal(finer.body[1, 4], sequence.body[0, 4])


def test_only() -> None:
    hands = perform(Person(), 3).only("hands")
    assert hands.hands_score.min() == 1 and hands.body_score.max() == hands.face_score.max() == 0

"""Limits of motion: how far from the picture's own pose a small model can bring a point before it tears what it moves.

A model that moves the picture's own pixels was trained on motions of some length. An arm that is raised further stays
where it is, and smears are painted where the hand should be. A gesture made smaller is the better video.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cyberhost_model.driving.sequence import FACE, HANDS, PoseSequence
from cyberhost_model.perception.hands import ELBOWS, SHOULDERS, WRISTS
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints


class Reach(NamedTuple):
    """Up to where a point moves freely, and what it comes near and never passes, in units of `limit_reach`."""

    body: tuple[float, float]
    """Of the shoulders' middle, with which all else goes."""
    hand: tuple[float, float]
    """Of a hand's middle; its points keep their places about it, and the arm's layer its shape (`codecs.lay_arms`)."""
    head: tuple[float, float]
    """Of the face's middle."""
    face: tuple[float, float]
    """Of a face's point about its middle."""
    limb: tuple[float, float]
    """Of a point of the body; a wrist goes with its hand."""
    elbow: tuple[float, float]
    """Of an elbow."""


FACE_HEIGHTS = Reach(
    body=(0.2, 0.3), hand=(1.6, 2.4), head=(0.25, 0.36), face=(0.19, 0.33), limb=(1.2, 1.8), elbow=(0.3, 0.6)
)
"""In face heights: hands that are laid over the frames go as far as a face."""
# What goes together: left hand, right hand and face, and the joints that lead there.
_HANDS = tuple(zip(HANDS, WRISTS, strict=True))
_HEAD = [0, 14, 15, 16, 17]
_SHOULDERS = list(SHOULDERS)
_ELBOWS, _LIMBS = list(ELBOWS), [joint for joint in range(18) if joint not in ELBOWS]
_NO_WRISTS = [joint for joint in range(18) if joint not in WRISTS]
_WARN_FROM = 0.25  # share of frames with something beyond reach


def limit_reach(
    poses: PoseSequence, reference: Keypoints, unit: tuple[float, float], reach: Reach = FACE_HEIGHTS
) -> tuple[PoseSequence, float]:
    """Bring all points of a sequence within reach of the reference's.

    Returns the sequence and the share of its frames in which something was out of reach. A head that stays out of reach
    moves about the picture's own place. Of a hand that does, the way there is shortened, and it moves about its end.
    What is still too far is brought near. `unit`: width and height of the unit of `reach` in 0..1 of the picture.
    Points that one side does not show stay.
    """
    rest = PoseSequence.of([reference], poses.fps, poses.size)
    shown = (rest.scores() > VISIBLE) & (poses.scores() > VISIBLE)
    away = np.where(shown[..., None], (poses.points() - rest.points()) / np.asarray(unit), np.nan)
    beyond = _exceeds(middle := _centre(away[:, _SHOULDERS]), reach.body)
    away += _compress(middle, reach.body) - middle
    near = away.copy()
    beyond |= _limit_head(near, away, reach)
    beyond |= _exceeds(near[:, _NO_WRISTS], reach.limb)
    for body, limit in ((_LIMBS, reach.limb), (_ELBOWS, reach.elbow)):
        near[:, body] = _compress(near[:, body], limit)
    for hand, wrist in _HANDS:
        middle = _centre(away[:, hand])
        placed, far = middle, _lengths(usual := _median_offset(middle)).max()
        if far > reach.hand[0]:
            placed = _nearer(middle, usual, reach.hand[0] / far)
        beyond |= _exceeds(middle, reach.hand)
        near[:, hand] = away[:, hand] + _compress(placed, reach.hand) - middle
        seen = shown[:, hand.start]
        near[seen, wrist] = near[seen, hand.start]
    moved = np.where(shown[..., None], rest.points() + near * np.asarray(unit), poses.points())
    return poses.with_points(moved, poses.scores()), float(beyond.mean())


def _limit_head(near: np.ndarray, away: np.ndarray, reach: Reach) -> np.ndarray:
    """Bring the head's points of `near` (T, n, 2) within reach -> (T,) whether they were out of it in `away`."""
    beyond = np.zeros(len(away), bool)
    middle = _centre(away[:, FACE])
    about = away[:, FACE] - middle
    if _lengths(usual := _median_offset(middle)).max() > reach.head[0]:
        beyond |= _exceeds(middle, reach.head)
        middle, near[:, _HEAD] = middle - usual, away[:, _HEAD] - _median_offset(away[:, _HEAD])
    if _lengths(usual := _median_offset(about)).max() > reach.face[0]:
        beyond |= _exceeds(about, reach.face)
        about = about - usual
    beyond |= _exceeds(middle, reach.head) | _exceeds(about, reach.face)
    near[:, FACE] = _compress(middle, reach.head) + _compress(about, reach.face)
    return beyond


def carry_hands(poses: PoseSequence, reference: Keypoints) -> PoseSequence:
    """Let a hand of which a frame shows the wrist alone go with it, in the picture's shape.

    Blur and other hands hide fingers; without points a hand would stay where the picture has it.
    """
    rest = PoseSequence.of([reference], poses.fps, poses.size)
    points, scores, shown = poses.points().copy(), poses.scores().copy(), rest.scores()[0] > VISIBLE
    for group, wrist in _HANDS:
        lost = (scores[:, group].max(1) <= VISIBLE) & (scores[:, wrist] > VISIBLE)
        if shown[group].all() and shown[wrist]:
            step = points[lost, wrist] - rest.points()[0, wrist]
            points[lost, group] = rest.points()[0, group] + step[:, None]
            scores[lost, group] = rest.scores()[0, group]
    return poses.with_points(points, scores)


def reach_warnings(share: float) -> list[str]:
    """Say in a line for the user that motion was made smaller, where `share` of the frames is large."""
    if share < _WARN_FROM:
        return []
    return [
        f"the driving goes further from the picture's pose than this model can follow in {share:.0%} of the frames: "
        "there the motion is made smaller"
    ]


def _lengths(away: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.linalg.norm(away, axis=-1))


def _exceeds(away: np.ndarray, limit: tuple[float, float]) -> np.ndarray:
    """Frames (T,) in which one of the vectors (T, n, 2) is longer than the second length."""
    return np.any(_lengths(away) > limit[1], axis=1)


def _centre(away: np.ndarray) -> np.ndarray:
    """(T, n, 2) -> (T, 1, 2): of those that are visible."""
    visible = ~np.isnan(away[..., :1])
    return np.nansum(away, 1, keepdims=True) / np.maximum(visible.sum(1, keepdims=True), 1)


def _median_offset(away: np.ndarray) -> np.ndarray:
    """(T, n, 2) -> (n, 2): the median of the frames that show it, 0 where none does."""
    out = np.zeros(away.shape[1:])
    for i in np.flatnonzero(~np.isnan(away[..., 0]).all(0)):
        out[i] = np.nanmedian(away[:, i], 0)
    return out


def _nearer(away: np.ndarray, usual: np.ndarray, stays: float) -> np.ndarray:
    """Bring offsets (T, n, 2) nearer whose `usual` one (n, 2) is too far: that becomes `stays` times as long.

    What lies between the picture's own place and the usual one is shortened in the same measure, what lies beyond or
    to the side is moved with it. So a frame that has the picture's pose keeps it.
    """
    share = np.nansum(away * usual, (1, 2)) / float(np.square(usual).sum())
    return away - (1 - stays) * usual * np.clip(share, 0, 1)[:, None, None]


def _compress(away: np.ndarray, limit: tuple[float, float]) -> np.ndarray:
    """Vectors (..., 2) as they are up to the first length, and bent towards the second beyond it."""
    free, reach = limit
    far = _lengths(away)[..., None]
    bent = free + (reach - free) * np.tanh((far - free) / (reach - free))
    return away * np.where(far > free, bent / np.maximum(far, 1e-6), 1)

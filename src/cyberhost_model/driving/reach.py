"""Limits of motion: how far from the picture's own pose a small model can bring a point before it tears what it moves.

A model that moves the picture's own pixels was trained on motions of some length. An arm that is raised further stays
where it is, and smears are painted where the hand should be. A gesture made smaller is the better video.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cyberhost_model.driving.sequence import FACE, HANDS, PoseSequence
from cyberhost_model.perception.hands import ELBOWS
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints


class Reach(NamedTuple):
    """Up to where a point moves freely, and what it comes near and never passes, in units of `limit_reach`."""

    hand: tuple[float, float]
    """Of a hand's middle."""
    fingers: tuple[float, float]
    """Of a hand's point about its middle, beside the hand's turn."""
    turn: tuple[float, float]
    """Radians that a hand turns as a whole; at 0 all of that counts as fingers."""
    head: tuple[float, float]
    """Of the face's middle."""
    face: tuple[float, float]
    """Of a face's point about its middle."""
    limb: tuple[float, float]
    """Of a point of the body; a wrist goes with its hand."""
    elbow: tuple[float, float]
    """Of an elbow: asked for more, hands are followed less well."""
    towards: float
    """How far a hand that stays out of reach is moved towards where it stays."""


WHOLE = Reach((0.7, 1.0), (0.1, 0.18), (0.7, 1.3), (0.75, 1.1), (0.19, 0.33), (1.2, 1.8), (0.2, 0.4), 0.4)
"""Where arms are driven too, in face heights. Further away hands are torn (docs/reference/driving.md)."""
LAID = WHOLE._replace(hand=(1.0, 1.6), elbow=(0.3, 0.6), towards=0.7)
"""Where hands are laid over the frames (`codecs.arm_layers`), in face heights."""
HANDS_ALONE = Reach((0.8, 1.2), (0.2, 0.35), (0.0, 0.0), (0.8, 1.2), (0.2, 0.35), (0.8, 1.2), (0.8, 1.2), 0.0)
"""In latent cells: as most of the training's hands move."""
# What goes together: left hand, right hand and face, and the joints that lead there.
_GROUPS = ((HANDS[0], (6, 7)), (HANDS[1], (3, 4)), (FACE, (0, 14, 15, 16, 17)))
_ELBOWS, _LIMBS = list(ELBOWS), [joint for joint in range(18) if joint not in ELBOWS]
_KNUCKLES = (5, 9, 13, 17)  # of a hand's 21 points; the first is the wrist
_WARN_FROM = 0.25  # share of frames with something beyond reach


def limit_reach(
    poses: PoseSequence,
    reference: Keypoints,
    unit: tuple[float, float],
    reach: Reach = WHOLE,
    frame_by_frame: bool = False,
) -> tuple[PoseSequence, float]:
    """Bring all points of a sequence within reach of the reference's.

    Returns the sequence and the share of its frames in which something was out of reach. A head that stays out of reach
    moves about the picture's own place, a hand about one on the way to where it stays (`Reach.towards`), and one that
    has another shape or direction all the time about the picture's own. Then what is still too far is brought near: the
    centre of a hand or face first, a hand's turn, each point to its place about them. `unit`: width and height of the
    unit of `reach` in 0..1 of the picture. Points that one side does not show stay. frame_by_frame: each frame is
    brought near by itself, whatever the others show.
    """
    rest = PoseSequence.of([reference], poses.fps, poses.size)
    shown = (rest.scores() > VISIBLE) & (poses.scores() > VISIBLE)
    away = np.where(shown[..., None], (poses.points() - rest.points()) / np.asarray(unit), np.nan)
    beyond, near = np.zeros(len(poses), bool), away.copy()
    of_face, of_hand = (reach.head, reach.face, (0.0, 0.0)), (reach.hand, reach.fingers, reach.turn)
    for group, joints in _GROUPS:
        place, form, turn = of_face if group is FACE else of_hand
        middle = _centre(away[:, group])
        about = away[:, group] - middle
        if not frame_by_frame and (far := _lengths(usual := _median_offset(middle)).max()) > place[0]:
            beyond |= _exceeds(middle, place)
            stays = 0.0 if group is FACE else reach.towards / far
            middle, near[:, joints] = middle - (1 - stays) * usual, away[:, joints] - _median_offset(away[:, joints])
        shape = np.where(rest.scores()[0, group, None] > VISIBLE, rest.points()[0, group] / np.asarray(unit), np.nan)
        shape = shape - _centre(shape[None])[0]
        angle, own = _split_turn(shape, about, turn)
        if not frame_by_frame and (_lengths(usual := _median_offset(own)) > form[0]).any():
            beyond |= _exceeds(own, form)
            own = own - usual
        beyond |= _exceeds(middle, place) | _exceeds(own, form)
        near[:, group] = _compress(middle, place) + _rotate(shape + _compress(own, form), angle) - shape
    beyond |= _exceeds(near[:, :18], reach.limb)
    for body, limit in ((_LIMBS, reach.limb), (_ELBOWS, reach.elbow)):
        near[:, body] = _compress(near[:, body], limit)
    for group, (_, wrist) in _GROUPS[:2]:
        seen = shown[:, group.start]
        near[seen, wrist] = near[seen, group.start]
    moved = np.where(shown[..., None], rest.points() + near * np.asarray(unit), poses.points())
    return poses.with_points(moved, poses.scores()), float(beyond.mean())


def carry_hands(poses: PoseSequence, reference: Keypoints) -> PoseSequence:
    """Let a hand of which a frame shows the wrist alone go with it, in the picture's shape.

    Blur and other hands hide fingers; without points a hand would stay where the picture has it.
    """
    rest = PoseSequence.of([reference], poses.fps, poses.size)
    points, scores, shown = poses.points().copy(), poses.scores().copy(), rest.scores()[0] > VISIBLE
    for group, (_, wrist) in _GROUPS[:2]:
        lost = (scores[:, group].max(1) <= VISIBLE) & (scores[:, wrist] > VISIBLE)
        if shown[group].all() and shown[wrist]:
            step = points[lost, wrist] - rest.points()[0, wrist]
            points[lost, group] = rest.points()[0, group] + step[:, None]
            scores[lost, group] = rest.scores()[0, group]
    return poses.with_points(points, scores)


def _split_turn(shape: np.ndarray, own: np.ndarray, limit: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Split how a hand's points lie about its middle into a turn within `limit` and the rest.

    shape (n, 2): the picture's hand about its middle; own (T, n, 2): how far a frame's points are from there. Returns
    angles (T,) and (T, n, 2), which turned by them gives the frame's hand, but for what is out of reach.
    """
    unturned = np.zeros(len(own)), own
    if not limit[1]:
        return unturned
    angle = _direction(shape + own) - _direction(shape)
    seen = np.flatnonzero(~np.isnan(angle))
    if not len(seen):
        return unturned
    angle = np.interp(np.arange(len(own)), seen, np.unwrap(angle[seen]))  # between frames that show what is needed
    rest = _rotate(shape + own, -angle) - shape
    if abs(usual := float(np.median(angle[seen]))) > limit[0]:
        angle = angle - usual
    return _compress(angle[:, None], limit)[:, 0], rest


def _direction(hand: np.ndarray) -> np.ndarray:
    """Angle (...) of hands (..., 21, 2) from the wrist to the knuckles; no number where one of these is hidden."""
    x, y = np.moveaxis(hand[..., _KNUCKLES, :].mean(-2) - hand[..., 0, :], -1, 0)
    return np.arctan2(y, x)


def _rotate(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Turn points (T, n, 2) about their origin by angles (T,)."""
    turn = (points[..., 0] + 1j * points[..., 1]) * np.exp(1j * angle)[:, None]
    return np.stack([turn.real, turn.imag], -1)


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


def _compress(away: np.ndarray, limit: tuple[float, float]) -> np.ndarray:
    """Vectors (..., 2) as they are up to the first length, and bent towards the second beyond it."""
    free, reach = limit
    far = _lengths(away)[..., None]
    bent = free + (reach - free) * np.tanh((far - free) / (reach - free))
    return away * np.where(far > free, bent / np.maximum(far, 1e-6), 1)

"""Limits of motion: how far from the picture's own pose a small model can bring a point before it tears what it moves.

A model that moves the picture's own pixels was trained on motions of about a latent cell. An arm that is raised from
the hip to the shoulder is ten cells away: such a model leaves the arm where it is and paints smears where the hand
should be. A gesture made smaller is the better video.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cyberhost_model.driving.sequence import FACE, HANDS, PoseSequence
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints


class Reach(NamedTuple):
    """Cells that a point moves freely, and those that it comes near and never passes."""

    place: tuple[float, float]
    """Of a limb's point, a hand's or the face's middle."""
    shape: tuple[float, float]
    """Of a point against its own hand's or face's middle."""


WHOLE = Reach((2.4, 3.6), (0.6, 1.05))
"""Where arms are driven too. At twice as far arms are torn (docs/reference/driving.md)."""
HANDS_ALONE = Reach((0.8, 1.2), (0.2, 0.35))
"""As most of the training's hands moved."""
# What goes together: left hand, right hand and face, and the joints that lead there.
_GROUPS = ((HANDS[0], (6, 7)), (HANDS[1], (3, 4)), (FACE, (0, 14, 15, 16, 17)))
_WARN_FROM = 0.25  # share of frames with something beyond reach


def limit_reach(
    poses: PoseSequence, reference: Keypoints, cell: tuple[float, float], reach: Reach = WHOLE
) -> tuple[PoseSequence, float]:
    """Bring all points of a sequence within reach of the reference's.

    Returns the sequence and the share of its frames in which something was out of reach. A hand or a head that stays
    out of reach moves about the picture's own place instead of about its own, and keeps the picture's shape. Then what
    is still too far is brought near: the centre of a hand or face first, each point to its place about it. `cell`:
    width and height of a latent cell in 0..1 of the picture. Points that one side does not show stay.
    """
    rest = PoseSequence.of([reference], poses.fps, poses.size)
    shown = (rest.scores() > VISIBLE) & (poses.scores() > VISIBLE)
    away = np.where(shown[..., None], (poses.points() - rest.points()) / np.asarray(cell), np.nan)
    beyond, near = np.zeros(len(poses), bool), away.copy()
    for group, joints in _GROUPS:
        middle = _centre(away[:, group])
        own = away[:, group] - middle
        usual = [_median_offset(x) for x in (middle, own, away[:, joints])]
        if any(
            (_lengths(x) > limit[0]).any()
            for x, limit in zip(usual, (reach.place, reach.shape, reach.place), strict=True)
        ):
            beyond |= _exceeds(middle, reach.place) | _exceeds(own, reach.shape)
            middle, own, near[:, joints] = middle - usual[0], own - usual[1], away[:, joints] - usual[2]
        beyond |= _exceeds(middle, reach.place) | _exceeds(own, reach.shape)
        near[:, group] = _compress(middle, reach.place) + _compress(own, reach.shape)
    beyond |= _exceeds(near[:, :18], reach.place)
    near[:, :18] = _compress(near[:, :18], reach.place)
    moved = np.where(shown[..., None], rest.points() + near * np.asarray(cell), poses.points())
    return poses.with_points(moved, poses.scores()), float(beyond.mean())


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

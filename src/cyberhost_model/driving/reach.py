"""Reach: how far from the picture's own pose a small model brings a point before it tears what it moves.

A model that moves the picture's own pixels learnt motions of about a latent cell. An arm that is raised from the hip to
the shoulder is ten cells away: asked for it, it leaves the arm where it is and paints smears where the hand should be.
A gesture made smaller is the better video.
"""

from __future__ import annotations

import numpy as np

from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

# Cells a point moves freely, as most of the training's did, and those it comes near and never passes: a limb's point, a
# hand's or the face's middle; and a point against its own hand's or face's middle.
_WHOLE, _WITHIN = (0.8, 1.2), (0.2, 0.35)
# What goes together: left hand, right hand and face, and the joints that lead there.
_GROUPS = ((slice(18, 39), (6, 7)), (slice(39, 60), (3, 4)), (slice(60, 128), (0, 14, 15, 16, 17)))
_TOLD = 0.25  # share of frames with something beyond reach that is worth a line


def within_reach(poses: PoseSequence, reference: Keypoints, cell: tuple[float, float]) -> tuple[PoseSequence, float]:
    """(The sequence with all points within reach of the reference's, share of its frames in which something was not.)

    A hand or a head that stays out of reach moves about the picture's own instead of about its own place, and keeps the
    picture's shape. Then what is still too far is brought near: the middle of a hand or face first, each point to its
    place about it. `cell`: width and height of a latent cell in 0..1 of the picture. Points that one side does not show
    stay.
    """
    rest = PoseSequence.of([reference], poses.fps, poses.size)
    shown = (rest.scores() > VISIBLE) & (poses.scores() > VISIBLE)
    away = np.where(shown[..., None], (poses.points() - rest.points()) / np.asarray(cell), np.nan)
    beyond, near = np.zeros(len(poses), bool), away.copy()
    for group, joints in _GROUPS:
        middle = _mean(away[:, group])
        own = away[:, group] - middle
        usual = [_usual(x) for x in (middle, own, away[:, joints])]
        if any((_far(x) > limit[0]).any() for x, limit in zip(usual, (_WHOLE, _WITHIN, _WHOLE), strict=True)):
            beyond |= _passes(middle, _WHOLE) | _passes(own, _WITHIN)
            middle, own, near[:, joints] = middle - usual[0], own - usual[1], away[:, joints] - usual[2]
        beyond |= _passes(middle, _WHOLE) | _passes(own, _WITHIN)
        near[:, group] = _shorter(middle, _WHOLE) + _shorter(own, _WITHIN)
    beyond |= _passes(near[:, :18], _WHOLE)
    near[:, :18] = _shorter(near[:, :18], _WHOLE)
    moved = np.where(shown[..., None], rest.points() + near * np.asarray(cell), poses.points())
    return poses.with_points(moved, poses.scores()), float(beyond.mean())


def reach_note(share: float) -> list[str]:
    """What to tell the user about it."""
    if share < _TOLD:
        return []
    return [
        f"the driving goes further from the picture's pose than this model can follow in {share:.0%} of the frames: "
        "there the motion is made smaller"
    ]


def _far(away: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.linalg.norm(away, axis=-1))


def _passes(away: np.ndarray, limit: tuple[float, float]) -> np.ndarray:
    """Frames (T,) in which one of the vectors (T, n, 2) is longer than the second length."""
    return np.any(_far(away) > limit[1], axis=1)


def _mean(away: np.ndarray) -> np.ndarray:
    """(T, n, 2) -> (T, 1, 2): of those that are seen."""
    seen = ~np.isnan(away[..., :1])
    return np.nansum(away, 1, keepdims=True) / np.maximum(seen.sum(1, keepdims=True), 1)


def _usual(away: np.ndarray) -> np.ndarray:
    """(T, n, 2) -> (n, 2): the median of the frames that show it, 0 where none does."""
    out = np.zeros(away.shape[1:])
    for i in np.flatnonzero(~np.isnan(away[..., 0]).all(0)):
        out[i] = np.nanmedian(away[:, i], 0)
    return out


def _shorter(away: np.ndarray, limit: tuple[float, float]) -> np.ndarray:
    """Vectors (..., 2) as they are up to the first length, and bent towards the second beyond it."""
    free, reach = limit
    far = _far(away)[..., None]
    bent = free + (reach - free) * np.tanh((far - free) / (reach - free))
    return away * np.where(far > free, bent / np.maximum(far, 1e-6), 1)

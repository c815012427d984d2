"""A template's hands on the person in the picture: only they drive, the speech moves the rest (paper, section 4.4)."""

from __future__ import annotations

import numpy as np

from ..conditions.keypoints import NECK, Keypoints
from ..errors import InputError
from .arms import arm_root, move_arm, move_hand
from .proportions import (
    HANDS,
    WRISTS,
    Figure,
    arms_anchor,
    completed,
    figure_of,
    hand_size,
    overall_scale,
    reference_figure,
    shoulder_width,
)
from .sequence import PoseSequence

_SIDES = ("left", "right")


def hands_for(sequence: PoseSequence, reference: Keypoints, reference_size: tuple[int, int]) -> PoseSequence:
    """The template's hands, moved to where the hands of `reference` are, in a picture of `reference_size` (W, H); nothing else is seen.

    For each hand the frame of the template that is most like the picture is laid onto the picture's wrist, and the arm moves on from there
    (`arms`), its shoulder standing still. A hand the picture does not show is left out and `warnings` says so. Raises InputError where the template
    shows no hand, or none of those that the picture shows.
    """
    drive, own = figure_of(sequence), reference_figure(reference, reference_size)
    shown = [side for side in (0, 1) if drive.ever[HANDS[side]].all()]
    if not shown:
        raise InputError("the template shows no hands: give one that does")
    used = [side for side in shown if own.ever[WRISTS[side]]]
    if not used:
        raise InputError(f"the picture shows no {' and no '.join(_SIDES[s] for s in shown)} hand for the template to move; use another picture or template")
    out, scores = np.zeros_like(drive.points), np.zeros_like(sequence.scores())
    for side in used:
        out[:, HANDS[side]] = _placed(drive, own, side)
        scores[:, HANDS[side]] = sequence.scores()[:, HANDS[side]]
    placed = sequence.with_points(out / [reference_size[0] / reference_size[1], 1], scores, size=reference_size)
    placed.warnings += [f"the picture shows no {_SIDES[s]} hand: the template's is left out" for s in shown if s not in used]
    return placed


def _placed(drive: Figure, own: Figure, side: int) -> np.ndarray:
    """(T, 21, 2) one hand on the reference."""
    hand, wrist = HANDS[side], WRISTS[side]
    anchor = arms_anchor(_unlike(drive, own, side))
    scale = overall_scale(drive, own, anchor)
    root = arm_root(drive, side)
    if drive.ever[root] and own.ever[root]:
        whole = completed(own, drive, anchor, anchor, scale)
        still = np.repeat(whole.points[:, root], len(drive.points), 0)
        moved = move_arm(drive, whole, side, anchor, scale, still)
        return np.stack([moved[place] for place in range(hand.start, hand.stop)], 1)
    # There is no arm to go by: the wrist moves as the template's does in its picture.
    path = own.points[0, wrist] + scale * (drive.points[:, wrist] - drive.points[anchor, wrist])
    return move_hand(drive, own, side, anchor, scale, np.ones(len(path)), path).transpose(1, 0, 2)


def _unlike(drive: Figure, own: Figure, side: int) -> np.ndarray:
    """(T,) how far a hand is from the reference's: its shape in hand sizes, and its place against the neck in shoulder widths."""
    hand, wrist = HANDS[side], WRISTS[side]
    total = np.zeros(len(drive.points))
    if own.ever[hand].all():
        here, there = drive.points[:, hand], own.points[:, hand]
        shape = (here - here[:, :1]) / hand_size(here)[:, None, None] - (there - there[:, :1]) / hand_size(there)[:, None, None]
        total += 0.1 * np.linalg.norm(shape, axis=-1).mean(1)
    if drive.ever[NECK] and own.ever[NECK]:
        at = (drive.points[:, wrist] - drive.points[:, NECK]) / shoulder_width(drive)[:, None]
        place = (own.points[0, wrist] - own.points[0, NECK]) / shoulder_width(own)[0]
        total += np.linalg.norm(at - place, axis=-1)
    return np.where(drive.seen[:, hand].all(1), total, np.inf)

"""A template's hands on the person in the picture: only they drive, the speech moves the rest (paper, section 4.4)."""

from __future__ import annotations

import numpy as np

from ..conditions.keypoints import NECK, Keypoints
from ..errors import InputError
from .proportions import (
    HANDS,
    WRISTS,
    Figure,
    anchor_of,
    figure_of,
    hand_size,
    length_scale,
    overall_scale,
    reference_figure,
    shoulder_width,
)
from .retarget import hand_scale
from .sequence import PoseSequence

_ARMS = ((5, 6), (2, 3))  # shoulder and elbow of the left and the right arm
_REACH = 1.02  # the wrist may be that many arm lengths from the shoulder
_SIDES = ("left", "right")


def hands_for(sequence: PoseSequence, reference: Keypoints, reference_size: tuple[int, int]) -> PoseSequence:
    """The template's hands, moved to where the hands of `reference` are, in a picture of `reference_size` (W, H); nothing else is seen.

    For each hand the frame of the template that is most like the picture is laid onto the picture's wrist; from there the wrist moves as the
    template's moves against its body, scaled to this person and kept within the arm's reach. A hand the picture does not show is left out
    and `warnings` says so. Raises InputError where the template shows no hand, or none of those that the picture shows.
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
    at = drive.points[:, wrist] - drive.points[:, NECK] if drive.ever[NECK] else drive.points[:, wrist]
    anchor = anchor_of(_unlike(drive, own, side, at))
    scale = overall_scale(drive, own, anchor)
    path = own.points[0, wrist] + scale * (at - at[anchor])
    path = _within_reach(path, drive, own, side, anchor, scale)
    size = hand_scale(drive, own, hand, anchor, scale)
    return path[:, None] + size * (drive.points[:, hand] - drive.points[:, wrist, None])


def _unlike(drive: Figure, own: Figure, side: int, at: np.ndarray) -> np.ndarray:
    """(T,) how far a hand is from the reference's: its shape in hand sizes, and its place against the neck in shoulder widths."""
    hand, wrist = HANDS[side], WRISTS[side]
    total = np.zeros(len(at))
    if own.ever[hand].all():
        here, there = drive.points[:, hand], own.points[:, hand]
        shape = (here - here[:, :1]) / hand_size(here)[:, None, None] - (there - there[:, :1]) / hand_size(there)[:, None, None]
        total += 0.1 * np.linalg.norm(shape, axis=-1).mean(1)
    if drive.ever[NECK] and own.ever[NECK]:
        place = own.points[0, wrist] - own.points[0, NECK]
        total += np.linalg.norm(at / shoulder_width(drive)[:, None] - place / shoulder_width(own)[0], axis=-1)
    return np.where(drive.seen[:, hand].all(1), total, np.inf)


def _within_reach(path: np.ndarray, drive: Figure, own: Figure, side: int, anchor: int, scale: float) -> np.ndarray:
    """The wrist's path (T, 2) brought to where the arm can be, its shoulder standing still."""
    shoulder, elbow = _ARMS[side]
    if not own.ever[shoulder]:
        return path
    width = float(shoulder_width(own)[0])
    chain = ((shoulder, elbow), (elbow, WRISTS[side]))
    if not all(drive.ever[list(bone)].all() for bone in chain):
        return path
    reach = 0.0
    for a, b in chain:
        lengths = np.linalg.norm(drive.points[:, a] - drive.points[:, b], axis=-1)
        length = float(np.linalg.norm(own.points[0, a] - own.points[0, b])) if own.ever[[a, b]].all() else scale * float(lengths[anchor])
        full = float(np.percentile(lengths, 95))
        reach += length_scale(lengths, drive.seen[:, a] & drive.seen[:, b], anchor, length, scale, width) * full
    root = own.points[0, shoulder]
    reach = max(_REACH * reach, float(np.linalg.norm(own.points[0, WRISTS[side]] - root)))
    arm = path - root
    far = np.linalg.norm(arm, axis=-1, keepdims=True)
    return root + arm * np.minimum(1, reach / np.maximum(far, 1e-9))

"""Bringing a driving person's motion to the proportions of the person in the reference picture (docs/driving.md).

One frame of the driving, the anchor, is the one most like the reference. It is laid onto the reference, and every other frame differs from it
as the driving does: bones keep the directions the driving gives them and get the reference's lengths; the face keeps the reference's shape
and takes the driving's motion.
"""

from __future__ import annotations

import numpy as np

from ..conditions.keypoints import NECK, Keypoints
from ..errors import InputError
from .face import move_head
from .proportions import (
    FACE,
    HANDS,
    HEAD,
    WRISTS,
    Figure,
    anchor_of,
    figure_of,
    hand_size,
    length_scale,
    overall_scale,
    reference_figure,
    shoulder_width,
    unlikeness,
)
from .sequence import PoseSequence

# child -> its ancestors, the nearest first: one that is never seen is passed over.
_ANCESTORS = {2: (1,), 5: (1,), 3: (2, 1), 6: (5, 1), 4: (3, 2, 1), 7: (6, 5, 1), 8: (1,), 11: (1,), 9: (8, 1), 12: (11, 1),
              10: (9, 8, 1), 13: (12, 11, 1)}  # fmt: skip


def retarget(sequence: PoseSequence, reference: Keypoints, reference_size: tuple[int, int]) -> PoseSequence:
    """`sequence` as the person of `reference` would perform it, in a picture of `reference_size` (W, H).

    Scores are the driving's; what the reference does not show has the driving's proportions at the reference's scale.
    Raises InputError where the driving or the reference shows neither shoulders nor a face.
    """
    drive, own = figure_of(sequence), reference_figure(reference, reference_size)
    for figure, name in ((drive, "the driving"), (own, "the picture")):
        if not figure.ever[NECK]:
            raise InputError(f"{name} shows neither shoulders nor a face: there is nothing to fit the motion by")
    anchor = anchor_of(unlikeness(drive, own))
    scale = overall_scale(drive, own, anchor)
    own = completed(own, drive, anchor, scale)
    out = np.zeros_like(drive.points)
    out[:, NECK] = own.points[0, NECK] + scale * (drive.points[:, NECK] - drive.points[anchor, NECK])
    width = float(shoulder_width(own)[0])
    for child, parent in bones(drive):
        bone = drive.points[:, child] - drive.points[:, parent]
        length = float(np.linalg.norm(own.points[0, child] - own.points[0, parent]))
        s = length_scale(np.linalg.norm(bone, axis=-1), drive.seen[:, child] & drive.seen[:, parent], anchor, length, scale, width)
        out[:, child] = out[:, parent] + s * bone
    head = move_head(drive, own, anchor, scale, out[:, NECK])
    out[:, list(HEAD)], out[:, FACE] = head[:, :5], head[:, 5:]
    for wrist, hand in zip(WRISTS, HANDS, strict=True):
        if drive.ever[wrist]:
            s = hand_scale(drive, own, hand, anchor, scale)
            out[:, hand] = out[:, wrist, None] + s * (drive.points[:, hand] - drive.points[:, wrist, None])
    return sequence.with_points(out / [reference_size[0] / reference_size[1], 1], sequence.scores(), size=reference_size)


def bones(figure: Figure) -> list[tuple[int, int]]:
    """(child, parent) of the body's bones that are ever seen, parents first."""
    ever = figure.ever
    return [(child, next(a for a in ancestors if ever[a])) for child, ancestors in _ANCESTORS.items() if ever[child]]


def hand_scale(drive: Figure, own: Figure, hand: slice, anchor: int, scale: float) -> float:
    """By what the driving's hand is scaled to be as large as the reference's; `scale` where that shows none."""
    if not (drive.ever[hand].all() and own.ever[hand].all()):
        return scale
    size, wanted = hand_size(drive.points[:, hand]), float(hand_size(own.points[:, hand])[0])
    return length_scale(size, np.asarray(drive.seen[:, hand].all(1)), anchor, wanted, scale, wanted)


def completed(own: Figure, drive: Figure, anchor: int, scale: float) -> Figure:
    """The reference's figure with what it does not show put where the driving has it at the anchor, at the reference's scale."""
    points, ever, there = own.points[0].copy(), own.ever, drive.points[anchor]
    for child, parent in bones(drive):
        if not ever[child]:
            points[child] = points[parent] + scale * (there[child] - there[parent])
    head = np.array([*HEAD, *range(FACE.start, FACE.stop)])
    known = ever[head] & drive.ever[head]
    if known.any():
        origin, from_, size = points[head][known].mean(0), there[head][known].mean(0), scale
        if known.sum() >= 10:
            size = float(np.sqrt(np.square(points[head][known] - origin).sum() / max(np.square(there[head][known] - from_).sum(), 1e-12)))
    else:
        origin, from_, size = points[NECK], there[NECK], scale
    for place in head[~ever[head]]:
        points[place] = origin + size * (there[place] - from_)
    return Figure(points[None], own.seen)

"""Bringing a driving person's motion to the proportions of the person in the reference picture (docs/driving.md).

One frame of the driving, the anchor (one for head and trunk, one for the arms), is laid onto the reference, and every other frame differs from it
as the driving does: bones turn as the driving's turn and have the reference's lengths; the face keeps the reference's shape and takes the
driving's motion; arms (`arms`) end in the driving's pose.
"""

from __future__ import annotations

import numpy as np

from ..conditions.keypoints import NECK, Keypoints
from ..errors import InputError
from .arms import arm_root, move_arm
from .face import move_head
from .proportions import (
    ARM_ENDS,
    FACE,
    HEAD,
    LONGER,
    SHORTER,
    Figure,
    arms_anchor,
    arms_unlike,
    bones,
    completed,
    figure_of,
    head_anchor,
    head_unlike,
    overall_scale,
    reference_figure,
)
from .sequence import PoseSequence


def retarget(sequence: PoseSequence, reference: Keypoints, reference_size: tuple[int, int]) -> PoseSequence:
    """`sequence` as the person of `reference` would perform it, in a picture of `reference_size` (W, H).

    Scores are the driving's; what the reference does not show has the driving's proportions at the reference's scale.
    Raises InputError where the driving or the reference shows neither shoulders nor a face.
    """
    drive, own = figure_of(sequence), reference_figure(reference, reference_size)
    for figure, name in ((drive, "the driving"), (own, "the picture")):
        if not figure.ever[NECK]:
            raise InputError(f"{name} shows neither shoulders nor a face: there is nothing to fit the motion by")
    anchor, arms = head_anchor(drive, head_unlike(drive, own)), arms_anchor(arms_unlike(drive, own))
    scale = overall_scale(drive, own, anchor)
    own = completed(own, drive, anchor, arms, scale)
    out = np.zeros_like(drive.points)
    out[:, NECK] = own.points[0, NECK] + scale * (drive.points[:, NECK] - drive.points[anchor, NECK])
    for child, parent in bones(drive):
        if child not in ARM_ENDS:
            out[:, child] = out[:, parent] + _trunk_bone(drive, own, child, parent, anchor, scale)
    for side in (0, 1):
        for place, points in move_arm(drive, own, side, arms, scale, out[:, arm_root(drive, side)]).items():
            out[:, place] = points
    head = move_head(drive, own, anchor, scale, out[:, NECK])
    out[:, list(HEAD)], out[:, FACE] = head[:, :5], head[:, 5:]
    return sequence.with_points(out / [reference_size[0] / reference_size[1], 1], sequence.scores(), size=reference_size)


def _trunk_bone(drive: Figure, own: Figure, child: int, parent: int, anchor: int, scale: float) -> np.ndarray:
    """(T, 2) a bone of the trunk or a leg: at the anchor as the picture has it, and from there turned and foreshortened as the driving's is."""
    bone, picture = (f.points[:, child] - f.points[:, parent] for f in (drive, own))
    z, there = bone[:, 0] + 1j * bone[:, 1], complex(*picture[0])
    length = np.clip(abs(there / z[anchor]), scale * SHORTER, scale * LONGER) if abs(z[anchor]) > 1e-9 else scale
    moved = z * length * np.exp(1j * np.angle(there * z[anchor].conj()))
    return np.stack([moved.real, moved.imag], -1)

"""Measures of two people that retargeting rests on: sizes, and how similar their poses are.

Lengths are in picture heights, so that aspects compare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cyberhost_model.conditions.pose_maps import FINGERS
from cyberhost_model.driving.sequence import FACE, HANDS, PoseSequence, fill_gaps
from cyberhost_model.perception.keypoints import NECK, VISIBLE, Keypoints

# Places in `PoseSequence.points`.
SHOULDERS = (2, 5)
ARMS = (2, 3, 4, 5, 6, 7, 8, 11)
ARM_ENDS = (3, 4, 6, 7)
HEAD = (0, 14, 15, 16, 17)
WRISTS = (7, 4)  # of the left and the right hand
CHIN, BROWS = FACE.start + 8, (FACE.start + 19, FACE.start + 24)
# child -> its ancestors, the nearest first: one that is never visible is passed over.
_ANCESTORS = {
    2: (1,),
    5: (1,),
    3: (2, 1),
    6: (5, 1),
    4: (3, 2, 1),
    7: (6, 5, 1),
    8: (1,),
    11: (1,),
    9: (8, 1),
    12: (11, 1),
    10: (9, 8, 1),
    13: (12, 11, 1),
}
_BONES = np.array(FINGERS)  # pairs of a hand's 21 points
# The neck lies this part of the face's height (brows to chin) below the chin, where the shoulders are not visible.
_NECK_DOWN = 0.45
_FULL = 95  # percentile of a bone's length over time that counts as its length unforeshortened
# Shoulder widths: the length and direction of a bone that looks shorter than the first are not used, of one that looks
# longer than the second in full.
_SHORT = (0.1, 0.3)
# A bone of the reference may be that much shorter or longer than the whole figure suggests. One that looks shorter
# still points at the camera: the visible length is only the least it can be.
SHORTER, LONGER = 0.8, 1.6
_WORTH = 2.0  # how many times as similar another frame must be to take the place of the usual anchor


@dataclass
class Figure:
    """A person over time.

    points (T, 128, 2) in picture heights, with gaps filled; visible (T, 128): where they were measured.
    """

    points: np.ndarray
    visible: np.ndarray

    @property
    def ever_visible(self) -> np.ndarray:
        """(128,) which points have a place at all."""
        return np.asarray(self.visible.any(0))

    def mean(self, places: slice | tuple[int, ...]) -> np.ndarray:
        """Average some points: (T, 2)."""
        return self.points[:, list(places) if isinstance(places, tuple) else places].mean(1)


def figure_of(sequence: PoseSequence) -> Figure:
    """Convert a sequence to a figure.

    A wrist that is never visible is the hand's root; a neck that is never visible lies below the chin.
    """
    visible = sequence.scores() > VISIBLE
    points = fill_gaps(sequence.points().astype(np.float64) * [sequence.aspect, 1], visible)
    figure = Figure(points, visible)
    for wrist, hand in zip(WRISTS, HANDS, strict=True):
        if not figure.ever_visible[wrist]:
            points[:, wrist], visible[:, wrist] = points[:, hand.start], visible[:, hand.start]
    if not figure.ever_visible[NECK] and figure.ever_visible[FACE].all():
        chin = points[:, CHIN]
        points[:, NECK] = chin + _NECK_DOWN * (chin - figure.mean(BROWS))
        visible[:, NECK] = visible[:, CHIN]
    return figure


def to_complex(points: np.ndarray) -> np.ndarray:
    """Convert points (..., 2) to complex numbers: a product rotates and scales them."""
    return points[..., 0] + 1j * points[..., 1]


def from_complex(values: np.ndarray) -> np.ndarray:
    """Convert complex numbers to points; the inverse of `to_complex`."""
    return np.stack([values.real, values.imag], -1)


def reference_figure(reference: Keypoints, size: tuple[int, int]) -> Figure:
    """Convert one picture's key points to a figure of one frame."""
    return figure_of(PoseSequence.of([reference], 1.0, size))


def rms_radius(points: np.ndarray) -> np.ndarray:
    """Compute the root mean square distance of points (T, N, 2) from their centre: (T,).

    It is a size that no single point decides.
    """
    return np.sqrt(np.square(points - points.mean(1, keepdims=True)).sum(-1).mean(1))


def hand_size(points: np.ndarray) -> np.ndarray:
    """Compute the mean length of the bones of hands (T, 21, 2): (T,).

    It hardly depends on how fingers are bent, though on how the hand is turned.
    """
    return np.linalg.norm(points[:, _BONES[:, 1]] - points[:, _BONES[:, 0]], axis=-1).mean(1)


def shoulder_width(figure: Figure) -> np.ndarray:
    """Measure the distance between the shoulders: (T,).

    Where they are not visible, it is five times the face's `rms_radius`.
    """
    if figure.ever_visible[list(SHOULDERS)].all():
        return np.linalg.norm(figure.points[:, 2] - figure.points[:, 5], axis=-1)
    return 5.0 * rms_radius(figure.points[:, FACE])


def arm_distances(drive: Figure, reference: Figure) -> np.ndarray:
    """Compute how far each frame's arms are from the reference's: (T,), about the neck and in shoulder widths.

    Hands count a little, in their own size.
    """
    total = np.zeros(len(drive.points))
    if drive.ever_visible[NECK] and reference.ever_visible[NECK]:
        total += _distances(drive, reference, np.array(ARMS), (NECK,), shoulder_width)
    for hand in HANDS:

        def length(figure: Figure, points: slice = hand) -> np.ndarray:
            return rms_radius(figure.points[:, points])

        total += 0.2 * _distances(drive, reference, np.arange(hand.start, hand.stop), hand, length)
    return total


def head_distances(drive: Figure, reference: Figure) -> np.ndarray:
    """Compute how far each frame's head is from the reference's: (T,).

    Its place counts about the neck in shoulder widths, the face's shape in its own size.
    """
    total = 2 * _distances(
        drive, reference, np.arange(FACE.start, FACE.stop), FACE, lambda f: rms_radius(f.points[:, FACE])
    )
    if drive.ever_visible[NECK] and reference.ever_visible[NECK]:
        total += _distances(drive, reference, np.array(HEAD), (NECK,), shoulder_width)
    return total


def _distances(
    drive: Figure,
    reference: Figure,
    places: np.ndarray,
    origin: slice | tuple[int, ...],
    unit: Callable[[Figure], np.ndarray],
) -> np.ndarray:
    """(T,) the mean distance of points that both show, from the centre of `origin` and in `unit`s.

    0 where there are none, 1 for a frame that shows few.
    """
    common = drive.visible[:, places] & reference.visible[0, places]
    count = common.sum(1)
    if not count.any():
        return np.zeros(len(count))
    here, there = (
        (f.points[:, places] - f.mean(origin)[:, None]) / np.maximum(unit(f), 1e-6)[:, None, None]
        for f in (drive, reference)
    )
    far = (np.linalg.norm(here - there, axis=-1) * common).sum(1)
    return np.where(2 * count > count.max(), far / np.maximum(count, 1), 1.0)


def choose_arm_anchor(unlike: np.ndarray) -> int:
    """Choose the frame whose arms are laid onto the reference's.

    It is the first one, so that the video starts from the picture, or one that is far more similar.
    """
    nearest = int(unlike.argmin())
    return nearest if unlike[0] > _WORTH * unlike[nearest] else 0


def choose_head_anchor(drive: Figure, unlike: np.ndarray) -> int:
    """Choose the frame whose head and trunk are laid onto the reference's.

    It is one that is far more similar than most, as one of the same person would be; else the one nearest to where the
    driving mostly is, since two people's faces differ by more than a face does from itself.
    """
    nearest = int(unlike.argmin())
    if np.median(unlike) > _WORTH * unlike[nearest]:
        return nearest
    places = np.flatnonzero(
        drive.ever_visible
        & np.isin(np.arange(len(drive.ever_visible)), [*HEAD, NECK, *SHOULDERS, *range(FACE.start, FACE.stop)])
    )
    points = drive.points[:, places]
    away = np.linalg.norm(points - np.median(points, 0), axis=-1).mean(1)
    return int(np.where(2 * drive.visible[:, places].sum(1) > len(places), away, np.inf).argmin())


def overall_scale(drive: Figure, reference: Figure, anchor: int) -> float:
    """Compute the reference's size over the driving's at the anchor.

    By the shoulders; by the face or the hands where those are not visible.
    """
    ratios = []
    if drive.ever_visible[list(SHOULDERS)].all() and reference.ever_visible[list(SHOULDERS)].all():
        return _ratio(shoulder_width(reference)[0], shoulder_width(drive)[anchor])
    if drive.ever_visible[FACE].all() and reference.ever_visible[FACE].all():
        return _ratio(rms_radius(reference.points[:, FACE])[0], rms_radius(drive.points[:, FACE])[anchor])
    for hand in HANDS:
        if drive.ever_visible[hand].all() and reference.ever_visible[hand].all():
            ratios.append(_ratio(hand_size(reference.points[:, hand])[0], hand_size(drive.points[:, hand])[anchor]))
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else 1.0


def _ratio(a: float, b: float) -> float:
    return float(max(a, 1e-6) / max(b, 1e-6))


def bone_scale(
    lengths: np.ndarray, visible: np.ndarray, anchor: int, own: float, overall: float, width: float
) -> float:
    """Compute the scale from a bone of the driving with `lengths` (T,) to the reference's, which looks `own` long.

    A bone that points at the camera looks short, in the reference and at the anchor alike. So there are two answers,
    against the length at the anchor and against the full length, and of what lies between them the one nearest to the
    `overall` scale is taken. `width`: the reference's shoulder width.
    """
    full = float(np.percentile(lengths[visible] if visible.any() else lengths, _FULL))
    low, high = sorted((_ratio(own, full), _ratio(own, float(lengths[anchor]))))
    scale = float(np.clip(np.clip(overall, low, high), overall * SHORTER, overall * LONGER))
    return overall * (scale / overall) ** length_confidence(min(own, overall * float(lengths[anchor])), width)


def length_confidence(length: float, width: float) -> float:
    """Compute how reliable length and direction of a bone are, 0..1.

    length: of the bone; width: between the figure's shoulders.
    """
    return float(np.clip((length / max(width, 1e-6) - _SHORT[0]) / (_SHORT[1] - _SHORT[0]), 0, 1))


def visible_bones(figure: Figure) -> list[tuple[int, int]]:
    """List (child, parent) of the body's bones that are ever visible, parents first."""
    ever_visible = figure.ever_visible
    parents = {
        child: next((a for a in ancestors if ever_visible[a]), None)
        for child, ancestors in _ANCESTORS.items()
        if ever_visible[child]
    }
    return [(child, parent) for child, parent in parents.items() if parent is not None]


def complete_figure(own: Figure, drive: Figure, anchor: int, arms: int, scale: float) -> Figure:
    """Fill the reference's figure: what it does not show is put where the driving has it, at the reference's scale.

    `anchor`: the frame it is taken from; `arms`: that of elbows and wrists.
    """
    points, ever_visible, there = own.points[0].copy(), own.ever_visible, drive.points[anchor]
    for child, parent in visible_bones(drive):
        if not ever_visible[child]:
            shown = drive.points[arms] if child in ARM_ENDS else there
            points[child] = points[parent] + scale * (shown[child] - shown[parent])
    head = np.array([*HEAD, *range(FACE.start, FACE.stop)])
    known = ever_visible[head] & drive.ever_visible[head]
    if known.any():
        origin, from_, size = points[head][known].mean(0), there[head][known].mean(0), scale
        if known.sum() >= 10:
            size = float(
                np.sqrt(
                    np.square(points[head][known] - origin).sum()
                    / max(np.square(there[head][known] - from_).sum(), 1e-12)
                )
            )
    else:
        origin, from_, size = points[NECK], there[NECK], scale
    for place in head[~ever_visible[head]]:
        points[place] = origin + size * (there[place] - from_)
    return Figure(points[None], own.visible)

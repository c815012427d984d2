"""How large and how like each other two people are: the measures retargeting rests on.

Lengths are in picture heights, so that aspects compare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cyberhost_model.driving.sequence import PoseSequence, fill_gaps
from cyberhost_model.perception.keypoints import NECK, VISIBLE, Keypoints

# Places in `PoseSequence.points`.
SHOULDERS = (2, 5)
ARMS = (2, 3, 4, 5, 6, 7, 8, 11)
ARM_ENDS = (3, 4, 6, 7)
HEAD = (0, 14, 15, 16, 17)
WRISTS = (7, 4)  # of the left and the right hand
HANDS = (slice(18, 39), slice(39, 60))
FACE = slice(60, 128)
CHIN, BROWS = 60 + 8, (60 + 19, 60 + 24)
# child -> its ancestors, the nearest first: one that is never seen is passed over.
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
_BONES = np.array(
    [(0 if j == 0 else 4 * f + j, 4 * f + j + 1) for f in range(5) for j in range(4)]
)  # of a hand's 21 points
_NECK_DOWN = (
    0.45  # the neck lies this part of the face's height (brows to chin) below the chin, where no shoulders tell
)
_FULL = 95  # percentile of a bone's length over time that counts as its length unforeshortened
_SHORT = (0.1, 0.3)  # shoulder widths: a bone that looks shorter tells little, one that looks longer tells all
# A bone of the reference may be that much shorter or longer than the whole figure says. What looks shorter still points
# at the camera: the length seen is only the least it can be.
SHORTER, LONGER = 0.8, 1.6
_WORTH = 2.0  # how many times as alike another frame must be to take the place of the usual anchor


@dataclass
class Figure:
    """points (T, 128, 2) in picture heights, with gaps filled; seen (T, 128): where they were measured."""

    points: np.ndarray
    seen: np.ndarray

    @property
    def ever(self) -> np.ndarray:
        """(128,) which points have a place at all."""
        return np.asarray(self.seen.any(0))

    def mean(self, places: slice | tuple[int, ...]) -> np.ndarray:
        """(T, 2) the mean of some points."""
        return self.points[:, list(places) if isinstance(places, tuple) else places].mean(1)


def figure_of(sequence: PoseSequence) -> Figure:
    """A sequence's figure.

    A wrist that is never seen is the hand's root; a neck that is never seen lies below the chin.
    """
    seen = sequence.scores() > VISIBLE
    points = fill_gaps(sequence.points().astype(np.float64) * [sequence.aspect, 1], seen)
    figure = Figure(points, seen)
    for wrist, hand in zip(WRISTS, HANDS, strict=True):
        if not figure.ever[wrist]:
            points[:, wrist], seen[:, wrist] = points[:, hand.start], seen[:, hand.start]
    if not figure.ever[NECK] and figure.ever[FACE].all():
        chin = points[:, CHIN]
        points[:, NECK] = chin + _NECK_DOWN * (chin - figure.mean(BROWS))
        seen[:, NECK] = seen[:, CHIN]
    return figure


def as_complex(points: np.ndarray) -> np.ndarray:
    """Points (..., 2) as complex numbers: a product turns and scales them."""
    return points[..., 0] + 1j * points[..., 1]


def as_points(values: np.ndarray) -> np.ndarray:
    """The inverse of `as_complex`."""
    return np.stack([values.real, values.imag], -1)


def reference_figure(reference: Keypoints, size: tuple[int, int]) -> Figure:
    """The figure of one picture's key points."""
    return figure_of(PoseSequence.of([reference], 1.0, size))


def spread(points: np.ndarray) -> np.ndarray:
    """(T,) how far points (T, N, 2) lie from their middle: a size that no single point decides."""
    return np.sqrt(np.square(points - points.mean(1, keepdims=True)).sum(-1).mean(1))


def hand_size(points: np.ndarray) -> np.ndarray:
    """(T,) the mean length of the bones of hands (T, 21, 2): it hardly depends on how fingers are bent, though on how
    the hand is turned.
    """
    return np.linalg.norm(points[:, _BONES[:, 1]] - points[:, _BONES[:, 0]], axis=-1).mean(1)


def shoulder_width(figure: Figure) -> np.ndarray:
    """(T,) between the shoulders; two and a half face spreads times two where they are not seen."""
    if figure.ever[list(SHOULDERS)].all():
        return np.linalg.norm(figure.points[:, 2] - figure.points[:, 5], axis=-1)
    return 5.0 * spread(figure.points[:, FACE])


def arms_unlike(drive: Figure, reference: Figure) -> np.ndarray:
    """(T,) how far each frame's arms are from the reference's, about the neck and in shoulder widths, hands in their
    own size counting a little.
    """
    total = np.zeros(len(drive.points))
    if drive.ever[NECK] and reference.ever[NECK]:
        total += _unlike(drive, reference, np.array(ARMS), (NECK,), shoulder_width)
    for hand in HANDS:

        def length(figure: Figure, points: slice = hand) -> np.ndarray:
            return spread(figure.points[:, points])

        total += 0.2 * _unlike(drive, reference, np.arange(hand.start, hand.stop), hand, length)
    return total


def head_unlike(drive: Figure, reference: Figure) -> np.ndarray:
    """(T,) how far each frame's head is from the reference's: its place about the neck in shoulder widths, the face's
    shape in its own size.
    """
    total = 2 * _unlike(drive, reference, np.arange(FACE.start, FACE.stop), FACE, lambda f: spread(f.points[:, FACE]))
    if drive.ever[NECK] and reference.ever[NECK]:
        total += _unlike(drive, reference, np.array(HEAD), (NECK,), shoulder_width)
    return total


def _unlike(
    drive: Figure,
    reference: Figure,
    places: np.ndarray,
    origin: slice | tuple[int, ...],
    unit: Callable[[Figure], np.ndarray],
) -> np.ndarray:
    """(T,) the mean distance of points both show, from the middle of `origin` and in `unit`s; 0 where there are none,
    1 for a frame that shows few.
    """
    common = drive.seen[:, places] & reference.seen[0, places]
    count = common.sum(1)
    if not count.any():
        return np.zeros(len(count))
    here, there = (
        (f.points[:, places] - f.mean(origin)[:, None]) / np.maximum(unit(f), 1e-6)[:, None, None]
        for f in (drive, reference)
    )
    far = (np.linalg.norm(here - there, axis=-1) * common).sum(1)
    return np.where(2 * count > count.max(), far / np.maximum(count, 1), 1.0)


def arms_anchor(unlike: np.ndarray) -> int:
    """The frame whose arms are laid onto the reference's: the beginning, so that the video starts from the picture, or
    one that is far more alike.
    """
    nearest = int(unlike.argmin())
    return nearest if unlike[0] > _WORTH * unlike[nearest] else 0


def head_anchor(drive: Figure, unlike: np.ndarray) -> int:
    """The frame whose head and trunk are laid onto the reference's: one that is far more alike than most, as one of
    the same person would be; else the one nearest to where the driving mostly is, since two people's faces differ by
    more than a face does from itself.
    """
    nearest = int(unlike.argmin())
    if np.median(unlike) > _WORTH * unlike[nearest]:
        return nearest
    places = np.flatnonzero(
        drive.ever & np.isin(np.arange(len(drive.ever)), [*HEAD, NECK, *SHOULDERS, *range(FACE.start, FACE.stop)])
    )
    points = drive.points[:, places]
    away = np.linalg.norm(points - np.median(points, 0), axis=-1).mean(1)
    return int(np.where(2 * drive.seen[:, places].sum(1) > len(places), away, np.inf).argmin())


def overall_scale(drive: Figure, reference: Figure, anchor: int) -> float:
    """The reference's size over the driving's at the anchor: by the shoulders; by the face or the hands where those
    are not seen.
    """
    ratios = []
    if drive.ever[list(SHOULDERS)].all() and reference.ever[list(SHOULDERS)].all():
        return _ratio(shoulder_width(reference)[0], shoulder_width(drive)[anchor])
    if drive.ever[FACE].all() and reference.ever[FACE].all():
        return _ratio(spread(reference.points[:, FACE])[0], spread(drive.points[:, FACE])[anchor])
    for hand in HANDS:
        if drive.ever[hand].all() and reference.ever[hand].all():
            ratios.append(_ratio(hand_size(reference.points[:, hand])[0], hand_size(drive.points[:, hand])[anchor]))
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else 1.0


def _ratio(a: float, b: float) -> float:
    return float(max(a, 1e-6) / max(b, 1e-6))


def length_scale(lengths: np.ndarray, seen: np.ndarray, anchor: int, own: float, overall: float, width: float) -> float:
    """By what a bone of the driving with `lengths` (T,) is to be scaled so that it becomes the reference's, which
    looks `own` long.

    A bone that points at the camera looks short, in the reference and at the anchor alike. So there are two answers,
    against the length at the anchor and against the full length, and of what lies between them the one nearest to the
    `overall` scale is taken. `width`: the reference's shoulder width.
    """
    full = float(np.percentile(lengths[seen] if seen.any() else lengths, _FULL))
    low, high = sorted((_ratio(own, full), _ratio(own, float(lengths[anchor]))))
    scale = float(np.clip(np.clip(overall, low, high), overall * SHORTER, overall * LONGER))
    return overall * (scale / overall) ** trust_in(min(own, overall * float(lengths[anchor])), width)


def trust_in(length: float, width: float) -> float:
    """0..1: how much a bone of that length tells of its length and direction, in a figure whose shoulders are `width`
    apart.
    """
    return float(np.clip((length / max(width, 1e-6) - _SHORT[0]) / (_SHORT[1] - _SHORT[0]), 0, 1))


def bones(figure: Figure) -> list[tuple[int, int]]:
    """(child, parent) of the body's bones that are ever seen, parents first."""
    ever = figure.ever
    parents = {
        child: next((a for a in ancestors if ever[a]), None) for child, ancestors in _ANCESTORS.items() if ever[child]
    }
    return [(child, parent) for child, parent in parents.items() if parent is not None]


def completed(own: Figure, drive: Figure, anchor: int, arms: int, scale: float) -> Figure:
    """The reference's figure with what it does not show put where the driving has it, at the reference's scale.

    `anchor`: the frame it is taken from; `arms`: that of elbows and wrists.
    """
    points, ever, there = own.points[0].copy(), own.ever, drive.points[anchor]
    for child, parent in bones(drive):
        if not ever[child]:
            shown = drive.points[arms] if child in ARM_ENDS else there
            points[child] = points[parent] + scale * (shown[child] - shown[parent])
    head = np.array([*HEAD, *range(FACE.start, FACE.stop)])
    known = ever[head] & drive.ever[head]
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
    for place in head[~ever[head]]:
        points[place] = origin + size * (there[place] - from_)
    return Figure(points[None], own.seen)

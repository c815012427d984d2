"""How large and how like each other two people are: the measures retargeting rests on. Lengths are in picture heights, so that aspects compare."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..conditions.keypoints import NECK, Keypoints
from .sequence import SEEN, PoseSequence, held

# Places in `PoseSequence.points`.
SHOULDERS = (2, 5)
ARMS = (2, 3, 4, 5, 6, 7, 8, 11)
HEAD = (0, 14, 15, 16, 17)
WRISTS = (7, 4)  # of the left and the right hand
HANDS = (slice(18, 39), slice(39, 60))
FACE = slice(60, 128)
CHIN, BROWS = 60 + 8, (60 + 19, 60 + 24)
_BONES = np.array([(0 if j == 0 else 4 * f + j, 4 * f + j + 1) for f in range(5) for j in range(4)])  # of a hand's 21 points
_NECK_DOWN = 0.45  # the neck lies this part of the face's height (brows to chin) below the chin, where no shoulders tell
_FULL = 95  # percentile of a bone's length over time that counts as its length unforeshortened
_SHORT = (0.1, 0.3)  # shoulder widths: a bone that looks shorter tells little, one that looks longer tells all
# A bone of the reference may be that much shorter or longer than the whole figure says. What looks shorter still points at the camera: the length
# seen is only the least it can be.
SHORTER, LONGER = 0.8, 1.6
_WORTH = 2.0  # how many times as alike as the beginning another frame must be to be the anchor


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
    """A sequence's figure. A wrist that is never seen is the hand's root; a neck that is never seen lies below the chin."""
    seen = sequence.scores() > SEEN
    points = held(sequence.points().astype(np.float64) * [sequence.aspect, 1], seen)
    figure = Figure(points, seen)
    for wrist, hand in zip(WRISTS, HANDS, strict=True):
        if not figure.ever[wrist]:
            points[:, wrist], seen[:, wrist] = points[:, hand.start], seen[:, hand.start]
    if not figure.ever[NECK] and figure.ever[FACE].all():
        chin = points[:, CHIN]
        points[:, NECK] = chin + _NECK_DOWN * (chin - figure.mean(BROWS))
        seen[:, NECK] = seen[:, CHIN]
    return figure


def reference_figure(reference: Keypoints, size: tuple[int, int]) -> Figure:
    """The figure of one picture's key points."""
    return figure_of(PoseSequence.of([reference], 1.0, size))


def spread(points: np.ndarray) -> np.ndarray:
    """(T,) how far points (T, N, 2) lie from their middle: a size that no single point decides."""
    return np.sqrt(np.square(points - points.mean(1, keepdims=True)).sum(-1).mean(1))


def hand_size(points: np.ndarray) -> np.ndarray:
    """(T,) the mean length of the bones of hands (T, 21, 2): it hardly depends on how fingers are bent, though on how the hand is turned."""
    return np.linalg.norm(points[:, _BONES[:, 1]] - points[:, _BONES[:, 0]], axis=-1).mean(1)


def shoulder_width(figure: Figure) -> np.ndarray:
    """(T,) between the shoulders; two and a half face spreads times two where they are not seen."""
    if figure.ever[list(SHOULDERS)].all():
        return np.linalg.norm(figure.points[:, 2] - figure.points[:, 5], axis=-1)
    return 5.0 * spread(figure.points[:, FACE])


def unlikeness(drive: Figure, reference: Figure) -> np.ndarray:
    """(T,) how far each frame's pose is from the reference's, whatever their places and sizes: a sum over arms, head, face and hands."""

    def part(places: np.ndarray, origin: np.ndarray, unit: np.ndarray, own: np.ndarray, own_unit: float, weight: float) -> np.ndarray:
        common = drive.seen[:, places] & reference.seen[0, places]
        here = (drive.points[:, places] - origin[:, None]) / np.maximum(unit, 1e-6)[:, None, None]
        there = (reference.points[0, places] - own) / max(own_unit, 1e-6)
        far = (np.linalg.norm(here - there, axis=-1) * common).sum(1)
        count = common.sum(1)
        # A frame that shows less than half of what others show is no measure.
        return weight * np.where(2 * count > count.max(), far / np.maximum(count, 1), 1.0)

    total = np.zeros(len(drive.points))
    width, own_width = shoulder_width(drive), float(shoulder_width(reference)[0])
    if drive.ever[NECK] and reference.ever[NECK]:
        total += part(np.array(ARMS), drive.points[:, NECK], width, reference.points[0, NECK], own_width, 1.0)
        total += part(np.array(HEAD), drive.points[:, NECK], width, reference.points[0, NECK], own_width, 1.0)
    for places, weight in ((FACE, 2.0), *((hand, 0.2) for hand in HANDS)):
        if drive.ever[places].all() and reference.ever[places].all():
            size, own_size = spread(drive.points[:, places]), float(spread(reference.points[:, places])[0])
            every = np.arange(places.start, places.stop)
            total += part(every, drive.mean(places), size, reference.mean(places)[0], own_size, weight)
    return total


def anchor_of(unlike: np.ndarray) -> int:
    """The frame to be laid onto the reference: the beginning, so that the video starts from the picture, or one that is far more alike."""
    nearest = int(unlike.argmin())
    return nearest if unlike[0] > _WORTH * unlike[nearest] else 0


def overall_scale(drive: Figure, reference: Figure, anchor: int) -> float:
    """The reference's size over the driving's at the anchor: by the shoulders; by the face or the hands where those are not seen."""
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
    """By what a bone of the driving with `lengths` (T,) is to be scaled so that it becomes the reference's, which looks `own` long.

    A bone that points at the camera looks short, in the reference and at the anchor alike. So there are two answers, against the length at the
    anchor and against the full length, and of what lies between them the one nearest to the `overall` scale is taken. `width`: the
    reference's shoulder width.
    """
    full = float(np.percentile(lengths[seen] if seen.any() else lengths, _FULL))
    low, high = sorted((_ratio(own, full), _ratio(own, float(lengths[anchor]))))
    scale = float(np.clip(np.clip(overall, low, high), overall * SHORTER, overall * LONGER))
    trust = float(np.clip((min(own, overall * float(lengths[anchor])) / max(width, 1e-6) - _SHORT[0]) / (_SHORT[1] - _SHORT[0]), 0, 1))
    return overall * (scale / overall) ** trust

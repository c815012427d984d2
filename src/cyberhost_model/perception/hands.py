"""Which hand is where: places to look for a hand, how it fits its arm, and the choice where two lie in one place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from cyberhost_model.perception.geometry import face_height
from cyberhost_model.perception.heat_net import find_peaks
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

# Two hands are in one place when their centres and their wrists are nearer than these shares of the larger one's size.
# Hands folded on each other have wrists 1.2 sizes apart and more; of 574 filmed pairs that MediaPipe saw the centres of
# 4 and the wrists of none are so near.
ONE_PLACE, ONE_WRIST = 0.5, 0.7
PEAKS, LEAST_HEAT = 3, 0.15  # places a hand is looked for in its own map, and how sure the map must be of them
MIRRORED = 2  # places it is looked for in the other hand's map: that network mistakes one for the other
REACH = 3.0  # face sizes from the elbow to the hand's centre; 2.8 or less in 95% of filmed frames
CONFUSED = 0.8  # how much of the other hand's heat counts
SURE, OFF = 0.6, 0.5  # score of a hand that moves its wrist, and the least way in face sizes
ASTRAY = 1.0  # face sizes from its arm's wrist to a hand that is less sure and no hand
FADING = 0.9  # of its score a hand that the map does not show keeps from frame to frame
SHOULDERS, ELBOWS, WRISTS = (5, 2), (6, 3), (7, 4)  # joints of the left and the right arm


def middle_and_size(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the middle (2,) and the longer side of the box about points (N, 2)."""
    low, high = points.min(0), points.max(0)
    return (low + high) / 2, float(max(high - low))


@dataclass
class FoundHand:
    """A hand, 0 left or 1 right, at 21 points in pixels."""

    hand: int
    points: np.ndarray
    score: float

    @property
    def centre(self) -> np.ndarray:
        """The middle of its points."""
        return self.points.mean(0)

    @property
    def size(self) -> float:
        """The longer side of the box about its points."""
        return middle_and_size(self.points)[1]

    def peak(self) -> Peak:
        """Return its place as one where a hand may be."""
        return Peak(*middle_and_size(self.points), self.score)

    def keeps(self, found: FoundHand) -> float:
        """Tell how sure a hand seen in the last frame makes one that is found now, 0..1.

        Squared, as `sqrt` will be taken of it: a hand that this alone speaks for is a little less sure in each frame.
        """
        off = float(np.linalg.norm(found.centre - self.centre)) / max(self.size, 1e-6)
        return (FADING * self.score * float(np.exp(-(off**2)))) ** 2


def in_one_place(a: FoundHand, b: FoundHand) -> bool:
    """Check whether the points of two hands lie on one hand, see `ONE_PLACE`."""
    size = max(a.size, b.size)
    return bool(
        np.linalg.norm(a.centre - b.centre) < ONE_PLACE * size
        and np.linalg.norm(a.points[0] - b.points[0]) < ONE_WRIST * size
    )


@dataclass
class Arms:
    """Tells how well a hand's place fits its arm.

    elbows, wrists: (2, 2) in pixels, left then right, None where one is not seen. face: size of the face in pixels.
    """

    elbows: np.ndarray | None
    face: float
    wrists: np.ndarray | None = None

    @staticmethod
    def of(keypoints: Keypoints, face: float) -> Arms:
        """Take the elbows and wrists of key points in pixels."""
        elbows, wrists = (
            keypoints.body[list(pair)].copy() if keypoints.body_score[list(pair)].min() > VISIBLE else None
            for pair in (ELBOWS, WRISTS)
        )
        return Arms(elbows, face, wrists)

    def detour(self, hand: int, place: np.ndarray) -> float:
        """Measure how much nearer the other arm's wrist (or elbow) is than the hand's own, in face sizes.

        0 where neither is known.
        """
        joints = self.elbows if self.wrists is None else self.wrists
        if joints is None:
            return 0.0
        away = np.linalg.norm(joints - place, axis=1) / max(self.face, 1e-6)
        return float(away[hand] - away[1 - hand])

    def fit(self, hand: int, place: np.ndarray) -> float:
        """Rate a place for a hand: 1 nearer to its own arm, falling towards the other one's, 0 out of reach."""
        if self.elbows is not None and np.linalg.norm(self.elbows[hand] - place) > REACH * self.face:
            return 0.0
        return float(np.exp(-max(self.detour(hand, place), 0.0)))

    def fit_by_wrist(self, hand: int, place: np.ndarray) -> float:
        """Rate a place as `fit` does where wrists are seen, else 1: arms cross, and elbows alone do not tell."""
        return 1.0 if self.wrists is None else self.fit(hand, place)

    def wrist_is_off(self, found: FoundHand) -> bool:
        """Tell whether a hand is surely found, and its arm's wrist is far from its root: at the elbow, say."""
        if self.wrists is None or found.score <= SURE:
            return False
        away = np.linalg.norm(self.wrists - found.points[0], axis=1)
        return bool(OFF * self.face < away[found.hand] < away[1 - found.hand])

    def is_astray(self, found: FoundHand) -> bool:
        """Tell whether a hand that is not sure lies far from its arm's wrist: on a shoulder or a sleeve, say."""
        if self.wrists is None or found.score > SURE:
            return False
        return bool(np.linalg.norm(self.wrists[found.hand] - found.points[0]) > ASTRAY * self.face)


def choose_hands(found: Iterable[FoundHand], arms: Arms) -> dict[int, FoundHand]:
    """Choose at most one left (0) and one right (1) hand, never two in one place.

    Each is the best scored. Of two visible ones in one place it is the one whose own arm is nearer (elbows, on filmed
    people, right in 53 of 53 frames; the scores were right in 29), of others the better scored one.
    """
    chosen: dict[int, FoundHand] = {}
    for there in sorted(found, key=lambda f: (-f.score, f.hand)):
        other = chosen.get(1 - there.hand)
        if there.hand in chosen:
            continue
        if other is None or not in_one_place(there, other):
            chosen[there.hand] = there
        elif there.score > VISIBLE and arms.detour(there.hand, there.centre) < arms.detour(other.hand, other.centre):
            chosen = {there.hand: there}
    return chosen


def separate_hands(keypoints: Keypoints, size: tuple[int, int]) -> Keypoints:
    """Hide one of two hands that lie in one place: its scores become 0. Others stay as they are.

    keypoints: in 0..1 of a picture of `size` (W, H).
    """
    pixels = keypoints.map(lambda p: p * np.array(size, np.float32))
    score = keypoints.hands_score.max(1)
    if score.min() <= VISIBLE:
        return keypoints
    found = [FoundHand(hand, pixels.hands[hand], float(score[hand])) for hand in (0, 1)]
    chosen = choose_hands(found, Arms.of(pixels, face_height(pixels.face)))
    if len(chosen) == 2:
        return keypoints
    hidden = keypoints.hands_score.copy()
    hidden[1 - next(iter(chosen))] = 0
    return replace(keypoints, hands_score=hidden)


@dataclass
class Peak:
    """A place where a hand may be: its centre and size in pixels, and how sure the map is of it, 0..1."""

    centre: np.ndarray
    size: float
    heat: float


@dataclass
class HandMaps:
    """The body network's maps of both hands, float32 (2, h, w), and of the logs of their sizes, (2, h, w).

    They lie on a square of `side` pixels about `centre`; a log size of 0 stands for `unit` pixels.
    """

    heat: torch.Tensor
    log_size: torch.Tensor
    centre: np.ndarray
    side: float
    unit: float

    def peaks(self, hand: int) -> list[Peak]:
        """Find the highest peaks of a hand's map, the highest first."""
        heat, cells, found = self.heat[hand : hand + 1].clone(), self.heat.shape[-1], []
        for _ in range(PEAKS):
            places, values = find_peaks(heat[None])
            sure = float(values.sigmoid())
            if sure < LEAST_HEAT:
                break
            place = places[0, 0].numpy()
            column, row = np.clip(place * cells, 0, cells - 1).astype(int)
            size = float(np.exp(np.clip(float(self.log_size[hand, row, column]), -3, 2))) * self.unit
            found.append(Peak((place - 0.5) * self.side + self.centre, size, sure))
            heat[0, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = -1e4
        return found

    def heat_at(self, hand: int, place: np.ndarray) -> float:
        """Read how sure the maps are of a hand within two cells of a place in pixels: 0..1, 0 outside.

        The other hand's map counts too, by `CONFUSED`: which hand it is, arms tell better.
        """
        return max(self._heat(hand, place), CONFUSED * self._heat(1 - hand, place))

    def _heat(self, hand: int, place: np.ndarray) -> float:
        cells = self.heat.shape[-1]
        column, row = np.floor(((place - self.centre) / self.side + 0.5) * cells).astype(int)
        near = self.heat[hand, max(row - 2, 0) : max(row + 3, 0), max(column - 2, 0) : max(column + 3, 0)]
        return float(near.max().sigmoid()) if near.numel() else 0.0

"""Arm layers: hands and forearms of a picture apart from the rest, and what is behind them.

A latent that says for each pixel where it comes from cannot show a hand in front of what it uncovers: cloth is dragged
with it, and a second hand stays where it was. So where key points say where hands are, the picture without them is
moved by the latent, and its hands are laid over that (`codecs.cut_arms`, `codecs.lay_arms`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from torch import Tensor

from cyberhost_model.conditions.pose_maps import FINGERS
from cyberhost_model.perception.hands import ELBOWS, SHOULDERS
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

ARM_POINTS = 23
"""Of an arm: the hand's 21, the elbow and the shoulder."""
ELBOW, SHOULDER = 21, 22
PALM = (0, 9)
"""Wrist and middle knuckle, whose distance is a palm."""
_PALM_OUTLINE = (0, 1, 2, 5, 9, 13, 17)
_BONES = 0.05  # palms: thinner hands are drawn as their bones alone
_ALONG = np.array([0.2, 0.4, 0.6, 0.8, 1.0])  # of a forearm from the wrist to the elbow: points that bend it
_UPPER_ARM = 0.7  # palms, width of an upper arm


class Forearm(NamedTuple):
    """What a forearm is drawn like where the picture hides it, or shows too little of it."""

    colour: np.ndarray | None
    """float32 (3,) in -1..1; None where it goes on as the upper arm does."""
    half: float
    """Palms, half of its width at the wrist."""


class AboutHand(NamedTuple):
    """What a picture shows about a forearm that points at the camera: a cuff, skin, the end of a sleeve.

    It goes with the hand, and ends at the upper arm.
    """

    pixels: np.ndarray
    """As `ArmLayer.pixels`."""
    ends: np.ndarray
    """complex (n,): points of the upper arm in pixels of the picture, which stay."""


@dataclass(frozen=True)
class ArmLayer:
    """A hand and its forearm."""

    pixels: np.ndarray
    """float32 (h, w, 4): colour in -1..1 times the share, and the share in 0..1."""
    corner: tuple[int, int]
    """Left and upper edge in the picture."""
    points: np.ndarray
    """complex (22,): hand and elbow in pixels of the picture; (21,) where the hand hides its forearm."""
    elbow: complex | None
    """In pixels of the picture, where it is seen."""
    shoulder: complex | None
    """In pixels of the picture, where it and the elbow are seen."""
    forearm: Forearm | None
    """None where it is not to be drawn: too little is known of it."""
    about: AboutHand | None
    """None where the forearm is seen."""
    taken: Tensor
    """(h, w) in 0..1: what is to be taken out of the picture."""
    palm: float
    """Its palm's length in pixels (`measure_palm`)."""

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the picture that it lies in."""
        (x, y), (h, w) = self.corner, self.taken.shape
        return slice(y, y + h), slice(x, x + w)


@dataclass(frozen=True)
class ArmLayers:
    """A picture's arms, and what is behind them."""

    behind: Tensor
    """(1, 3, H', W') in -1..1: the picture without hands and forearms."""
    taken: Tensor
    """(1, 1, H', W') in 0..1: where arms are that are laid, and what is about them."""
    arms: tuple[ArmLayer | None, ArmLayer | None]
    """Those that are laid, left and right."""

    @property
    def sides(self) -> tuple[bool, bool]:
        """Whether the left and the right arm are laid."""
        return self.arms[0] is not None, self.arms[1] is not None

    @cached_property
    def taken_pixels(self) -> np.ndarray:
        """`taken` as float32 (H', W')."""
        return self.taken[0, 0].float().cpu().numpy()

    @cached_property
    def behind_pixels(self) -> np.ndarray:
        """`behind` as float32 (H', W', 3)."""
        return self.behind[0].float().permute(1, 2, 0).cpu().contiguous().numpy()


def arm_points(keypoints: Keypoints) -> np.ndarray:
    """Gather hand, elbow and shoulder of both arms: float32 (2, 23, 3), x, y and score."""
    out = np.zeros((2, ARM_POINTS, 3), np.float32)
    out[:, :ELBOW, :2], out[:, :ELBOW, 2] = keypoints.hands, keypoints.hands_score
    for place, joints in ((ELBOW, ELBOWS), (SHOULDER, SHOULDERS)):
        out[:, place, :2], out[:, place, 2] = keypoints.body[list(joints)], keypoints.body_score[list(joints)]
    return out


def measure_palm(points: np.ndarray) -> float:
    """Measure the palm of an arm's points (21 or more): half of what a hand reaches from its wrist, or to its knuckle.

    A palm that is seen from its edge looks short.
    """
    hand = points[:ELBOW]
    return float(max(abs(hand[PALM[1]] - hand[PALM[0]]), 0.5 * np.abs(hand - hand[0]).max()))


def forearm_points(points: np.ndarray) -> np.ndarray:
    """Points along the forearm of an arm that has one: complex (5,), or (0,)."""
    return points[0] + _ALONG * (points[ELBOW] - points[0]) if len(points) > ELBOW else points[:0]


def draw_arm(points: np.ndarray, palm: float, size: tuple[int, int], reach: float, forearm: float = 0.0) -> np.ndarray:
    """Draw a hand and its forearm, so many palms to each side of their bones: uint8 (h, w)."""
    out = np.zeros(size, np.uint8)
    if reach > _BONES:
        cv2.fillConvexPoly(out, cv2.convexHull(_pixels(points[list(_PALM_OUTLINE)])), 1)
    width = max(1, round(2 * reach * palm))
    cv2.polylines(out, [_pixels(points[list(bone)]) for bone in FINGERS], False, 1, width)
    if len(points) > ELBOW:
        draw_bone(out, (points[0], points[ELBOW]), 2 * forearm * palm)
    return out


def draw_upper_arm(out: np.ndarray, arm: np.ndarray, palm: float, corner: complex = 0) -> bool:
    """Draw the upper arm of an arm (23, 3) into uint8 (h, w) that begins at `corner`; False if it is not seen."""
    if arm[[ELBOW, SHOULDER], 2].min() <= VISIBLE:
        return False
    elbow, shoulder = (complex(*arm[joint, :2]) - corner for joint in (ELBOW, SHOULDER))
    draw_bone(out, (elbow, shoulder), _UPPER_ARM * palm)
    return True


def draw_bone(out: np.ndarray, ends: tuple[complex, complex], width: float) -> None:
    """Draw a line of ones into uint8 (h, w), so many pixels wide."""
    begin, stop = _pixels(np.array(ends)).tolist()
    cv2.line(out, begin, stop, 1, max(1, round(width)))


def box_about(points: np.ndarray, margin: float, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Find the rows and the columns, first and end, of a box about complex points that is inside a picture (h, w)."""
    rows, columns = (
        (int(np.clip(at.min() - margin, 0, most)), int(np.clip(at.max() + margin, 0, most)))
        for at, most in zip((points.imag, points.real), size, strict=True)
    )
    return rows, columns


def _pixels(points: np.ndarray) -> np.ndarray:
    return np.stack([points.real, points.imag], -1).round().astype(np.int32)

"""The body movement map: the box in which the thorax point may move (paper, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cyberhost_model.perception.geometry import Box
from cyberhost_model.perception.keypoints import NECK, VISIBLE, Keypoints

ENLARGE = (1.0, 1.5)  # the paper's 100% - 150%
MINIMUM = 0.01  # a thorax that does not move still has a box: its sides in 0..1 of the picture
LEAST, MOST = 0.05, 0.5  # the fixed box's width in shoulder widths at amount 0 and 1
REACH = 1.06  # deviation in latent cells of what moves with a key point
HEIGHT = 0.6  # the fixed box's height in its widths: bodies sway more than they bob


def movement_box(thorax: np.ndarray, enlarge: float, minimum: float = MINIMUM) -> Box:
    """The range of the thorax points (F, 2), grown about its middle by `enlarge` (1.0 = 100% = twice the size).

    Coordinates are in 0..1 of width and height; sides are at least `minimum`. Points that are not finite are left out.
    Raises ValueError when none is left.
    """
    points = np.asarray(thorax, np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(1)]
    if len(points) == 0:
        raise ValueError("no thorax point to take the range of")
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, np.maximum((high - low) * (1 + enlarge), minimum) / 2
    (x0, y0), (x1, y1) = middle - half, middle + half
    return float(x0), float(y0), float(x1), float(y1)


def fixed_movement_box(keypoints: Keypoints, amount: float, aspect: float = 1.0) -> Box:
    """The box given at inference: about the reference's thorax, sized by `amount` (0..1) and the shoulder width.

    `aspect` is W / H of the picture. A person without visible shoulders gets two and a half face widths for the
    shoulder width, and the point below the chin for the thorax; with no face either, the lower middle of the picture.
    """
    amount = float(np.clip(amount, 0, 1))
    body, seen = keypoints.body, keypoints.body_score > VISIBLE
    if seen[2] and seen[5]:
        middle, shoulders = body[NECK], float(np.hypot(*((body[2] - body[5]) * [aspect, 1]))) / aspect
    elif keypoints.face_score.max() > VISIBLE:
        face = keypoints.face
        width = float(np.ptp(face[:, 0]))
        middle, shoulders = face[8] + [0, 0.5 * width * aspect], 2.5 * width
    else:
        middle, shoulders = np.array([0.5, 0.8]), 0.6
    half_w = (LEAST + (MOST - LEAST) * amount) * shoulders / 2
    half_h = half_w * aspect * HEIGHT
    low, high = middle - [half_w, half_h], middle + [half_w, half_h]
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def movement_map(box: Box, size: tuple[int, int]) -> np.ndarray:
    """The box as a picture float32 (3, H, W): 1 inside, 0 outside, border pixels by the part covered; `size` is (W, H).

    All three channels are equal, so the PoseEncoder that takes skeleton maps takes it too. A box outside the picture
    gives zeros.
    """

    def covered(start: float, stop: float, n: int) -> np.ndarray:
        cells = np.arange(n)
        return np.clip(np.minimum(stop * n, cells + 1) - np.maximum(start * n, cells), 0, 1)

    x0, y0, x1, y1 = box
    plane = np.outer(covered(y0, y1, size[1]), covered(x0, x1, size[0])).astype(np.float32)
    return np.repeat(plane[None], 3, 0)


@dataclass(frozen=True)
class BodyMovementMap:
    """The condition of one clip: `box` (x0, y0, x1, y1) in 0..1 of width and height."""

    box: Box

    @staticmethod
    def of_clip(thorax: np.ndarray, rng: np.random.Generator) -> BodyMovementMap:
        """In training: the range of the clip's thorax points (F, 2), enlarged by a random 100% - 150%."""
        return BodyMovementMap(movement_box(thorax, float(rng.uniform(*ENLARGE))))

    @staticmethod
    def fixed(keypoints: Keypoints, amount: float, aspect: float = 1.0) -> BodyMovementMap:
        """At inference: see `fixed_movement_box`."""
        return BodyMovementMap(fixed_movement_box(keypoints, amount, aspect))

    def render(self, size: tuple[int, int]) -> np.ndarray:
        """float32 (3, H, W); see `movement_map`."""
        return movement_map(self.box, size)


def moving_parts(keypoints: Keypoints, hw: tuple[int, int]) -> np.ndarray:
    """float32 (h, w): 1 at the key points that are seen, less with the distance to them in cells: what is near may
    move, what stands behind does not. Key points in 0..1; zeros where none is seen.
    """
    pairs = (
        (keypoints.body, keypoints.body_score),
        (keypoints.hands, keypoints.hands_score),
        (keypoints.face, keypoints.face_score),
    )
    points = np.concatenate([where[score > VISIBLE] for where, score in pairs]) * [hw[1], hw[0]]
    y, x = np.mgrid[: hw[0], : hw[1]] + 0.5
    if not len(points):
        return np.zeros(hw, np.float32)
    squares = ((x - points[:, :1, None]) ** 2 + (y - points[:, 1:, None]) ** 2).min(0)
    return np.exp(-squares / (2 * REACH**2)).astype(np.float32)

"""Face and hand regions: boxes, crops for the identity descriptors, masks and heat maps (paper, section 3.2).

The masks and heat maps supervise what Region Codebook Attention predicts.
"""

from __future__ import annotations

import cv2
import numpy as np

from cyberhost_model.perception.geometry import Box
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints, points_box

# Sides of the square over the longer side of the minimal enclosing box. The 68 face points end at the brows: a face
# needs more than a hand.
FACE_ENLARGE = 1.5
HAND_ENLARGE = 1.3
HEAD_FACES = 2.64  # side of a talking head's crop in face heights, brows to chin (A2V-H, section 4.2)


def _square(
    points: np.ndarray, score: np.ndarray, size: tuple[int, int], enlarge: float, threshold: float
) -> Box | None:
    box = points_box(points * np.asarray(size, np.float32), score, threshold)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    half = max(x1 - x0, y1 - y0, 1e-3) * enlarge / 2
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    return cx - half, cy - half, cx + half, cy + half


def face_box(
    keypoints: Keypoints, size: tuple[int, int], enlarge: float = FACE_ENLARGE, threshold: float = VISIBLE
) -> Box | None:
    """The square (x0, y0, x1, y1) about the face points, in pixels of a picture of `size` (W, H).

    It may reach outside the picture; None without a face.
    """
    return _square(keypoints.face, keypoints.face_score, size, enlarge, threshold)


def hand_boxes(
    keypoints: Keypoints, size: tuple[int, int], enlarge: float = HAND_ENLARGE, threshold: float = VISIBLE
) -> list[Box | None]:
    """The squares about the left and the right hand, as `face_box`."""
    pairs = zip(keypoints.hands, keypoints.hands_score, strict=True)
    return [_square(points, score, size, enlarge, threshold) for points, score in pairs]


def cut_box(picture_u8: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """The part of a picture inside `box` (in pixels) scaled to `size` (W, H), filtered when it shrinks.

    Outside the picture its edge is repeated.
    """
    x0, y0, x1, y1 = box
    w, h = size
    sx, sy = w / (x1 - x0), h / (y1 - y0)
    left, top = max(0, int(x0) - 4), max(0, int(y0) - 4)
    part = picture_u8[top : max(top + 1, int(y1) + 5), left : max(left + 1, int(x1) + 5)]
    if part.size == 0:
        return np.zeros((h, w, *picture_u8.shape[2:]), np.uint8)
    if min(sx, sy) < 0.7:  # warpAffine does not filter
        part = cv2.GaussianBlur(part, (0, 0), 0.4 / min(sx, sy))
    # Pixel centres: output i + 0.5 = (input j + 0.5 - x0) * s.
    matrix = np.array([[sx, 0, (left + 0.5 - x0) * sx - 0.5], [0, sy, (top + 0.5 - y0) * sy - 0.5]])
    return cv2.warpAffine(part, matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def around(centre: np.ndarray, size: float) -> Box:
    """The square of side `size` about `centre`."""
    x, y = float(centre[0]), float(centre[1])
    return x - size / 2, y - size / 2, x + size / 2, y + size / 2


def turned_crop(
    picture_u8: np.ndarray, centre: np.ndarray, size: float, angle: float, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """The square about `centre` turned by `angle` (radians) as uint8 (side, side, 3), and the (2, 3) map of its 0..1
    to the picture's pixels.
    """
    c, s = np.cos(angle) * size, np.sin(angle) * size
    back = np.array([[c, -s, centre[0] - (c - s) / 2], [s, c, centre[1] - (s + c) / 2]])
    if abs(angle) < 1e-3:
        return cut_box(picture_u8, around(centre, size), (side, side)), back
    # Cut the upright square that holds the turned one, at the wanted scale, then turn that: only small arrays are
    # touched.
    wide = int(np.ceil(side * 1.42))
    upright = cut_box(picture_u8, around(centre, size * wide / side), (wide, wide))
    turn = cv2.getRotationMatrix2D((wide / 2 - 0.5, wide / 2 - 0.5), float(np.degrees(angle)), 1.0)
    turn[:, 2] -= (wide - side) / 2
    return cv2.warpAffine(upright, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), back


def _signed(picture_u8: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture_u8.transpose(2, 0, 1)).astype(np.float32) / 127.5 - 1


def face_crop(picture_u8: np.ndarray, keypoints: Keypoints, size: int = 256) -> np.ndarray:
    """The face of `picture_u8` (H, W, 3) as float32 (3, size, size) in [-1, 1]; zeros without a face."""
    box = face_box(keypoints, (picture_u8.shape[1], picture_u8.shape[0]))
    return np.zeros((3, size, size), np.float32) if box is None else _signed(cut_box(picture_u8, box, (size, size)))


def hand_crops(picture_u8: np.ndarray, keypoints: Keypoints, size: int = 128) -> np.ndarray:
    """The left and the right hand as float32 (2, 3, size, size) in [-1, 1]; zeros for a hand that is not seen."""
    boxes = hand_boxes(keypoints, (picture_u8.shape[1], picture_u8.shape[0]))
    none = np.zeros((3, size, size), np.float32)
    return np.stack([none if box is None else _signed(cut_box(picture_u8, box, (size, size))) for box in boxes])


def box_mask(box: Box | None, hw: tuple[int, int]) -> np.ndarray:
    """float32 (h, w): 1 in the cells whose centre lies in `box` (in cells), and in the one of the box's own centre."""
    mask = np.zeros(hw, np.float32)
    if box is not None:
        x0, y0, x1, y1 = box
        ys, xs = np.arange(hw[0]) + 0.5, np.arange(hw[1]) + 0.5
        mask[np.outer((ys >= y0) & (ys < y1), (xs >= x0) & (xs < x1))] = 1
        cx, cy = int(np.floor((x0 + x1) / 2)), int(np.floor((y0 + y1) / 2))
        if 0 <= cx < hw[1] and 0 <= cy < hw[0]:
            mask[cy, cx] = 1
    return mask


def region_masks(keypoints: Keypoints, latent_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What M_r (eq. 5) should be on a latent grid (h, w): the face's box and both hands' boxes.

    Two masks float32 (h, w) of 0 and 1.
    """
    size = (latent_hw[1], latent_hw[0])
    left, right = hand_boxes(keypoints, size)
    hands = np.maximum(box_mask(left, latent_hw), box_mask(right, latent_hw))
    return box_mask(face_box(keypoints, size), latent_hw), hands


def hand_heatmaps(
    keypoints: Keypoints, hw: tuple[int, int], sigma: float = 1.0, threshold: float = VISIBLE
) -> np.ndarray:
    """float32 (42, h, w): a Gaussian of `sigma` cells, peak 1, about each point of the left, then the right hand.

    Zeros for points that are not seen.
    """
    points = keypoints.hands.reshape(42, 2).astype(np.float32) * [hw[1], hw[0]]
    across = np.exp(-((np.arange(hw[1]) + 0.5 - points[:, :1]) ** 2) / (2 * sigma**2))
    down = np.exp(-((np.arange(hw[0]) + 0.5 - points[:, 1:]) ** 2) / (2 * sigma**2))
    seen = keypoints.hands_score.reshape(42, 1, 1) > threshold
    return (down[:, :, None] * across[:, None, :] * seen).astype(np.float32)

"""Boxes, crops, masks and heat maps of the face and the hands (paper, section 3.2).

The crops describe identity; the masks and heat maps supervise what Region Codebook Attention predicts.
"""

from __future__ import annotations

import cv2
import numpy as np

from cyberhost_model.perception.geometry import Box
from cyberhost_model.perception.keypoints import NECK, VISIBLE, Keypoints, bounding_box

FACE_CROP, HAND_CROP = 256, 128  # sides in pixels of the crops that describe identity (section 3.2)
# Sides of the square over the longer side of the minimal enclosing box. The 68 face points end at the brows: a face
# needs more than a hand.
FACE_ENLARGE = 1.5
HAND_ENLARGE = 1.3
UPPER_BODY, ARMS = 8, [3, 4, 6, 7]  # body points down to the wrists; elbows and wrists
ABOVE_HALF_BODY, BELOW_HALF_BODY = 0.1625, 0.0125  # margins, of the height from the face's top to the lowest of them
HEAD_FACES = 2.64  # side of a talking head's crop in face heights, brows to chin (A2V-H, section 4.2)


def _square(
    points: np.ndarray, score: np.ndarray, size: tuple[int, int], enlarge: float, threshold: float
) -> Box | None:
    box = bounding_box(points * np.asarray(size, np.float32), score, threshold)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    half = max(x1 - x0, y1 - y0, 1e-3) * enlarge / 2
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    return cx - half, cy - half, cx + half, cy + half


def face_box(
    keypoints: Keypoints, size: tuple[int, int], enlarge: float = FACE_ENLARGE, threshold: float = VISIBLE
) -> Box | None:
    """Compute the square (x0, y0, x1, y1) about the face points, in pixels of a picture of `size` (W, H).

    It may reach outside the picture; None without a face.
    """
    return _square(keypoints.face, keypoints.face_score, size, enlarge, threshold)


def hand_boxes(
    keypoints: Keypoints, size: tuple[int, int], enlarge: float = HAND_ENLARGE, threshold: float = VISIBLE
) -> list[Box | None]:
    """Compute the squares about the left and the right hand, as `face_box`."""
    pairs = zip(keypoints.hands, keypoints.hands_score, strict=True)
    return [_square(points, score, size, enlarge, threshold) for points, score in pairs]


def half_body_box(keypoints: Keypoints, size: tuple[int, int], threshold: float = VISIBLE) -> Box | None:
    """Compute the square in which EchoMimicV2 has a half body, in pixels of a picture of `size` (W, H).

    As its notebook aligns pictures with its poses: from above the face down to the lowest of shoulders, elbows and
    wrists, within the picture, and as wide about the neck, where it may reach outside. Its notebook looks at the right
    wrist alone, and counts points that are not seen; without elbows and wrists it ends here where the picture does.
    None without a face or a neck.
    """
    width, height = size
    seen, face = keypoints.body_score[:UPPER_BODY] > threshold, keypoints.face[keypoints.face_score > threshold, 1]
    if not len(face) or not seen[NECK]:
        return None
    top, bottom = float(face.min()), float(keypoints.body[:UPPER_BODY, 1][seen].max()) if seen[ARMS].any() else 1.0
    y0 = max(top - ABOVE_HALF_BODY * (bottom - top), 0.0) * height
    y1 = min(bottom + BELOW_HALF_BODY * (bottom - top), 1.0) * height
    middle, half = float(keypoints.body[NECK, 0]) * width, (y1 - y0) / 2
    return (middle - half, y0, middle + half, y1) if half > 0 else None


def cut_box(picture_u8: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Cut `box` (in pixels) out of a picture and scale it to `size` (W, H), with a low-pass filter when it shrinks.

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


def square_about(centre: np.ndarray, size: float) -> Box:
    """Compute the square of side `size` about `centre`."""
    x, y = float(centre[0]), float(centre[1])
    return x - size / 2, y - size / 2, x + size / 2, y + size / 2


def rotated_crop(
    picture_u8: np.ndarray, centre: np.ndarray, size: float, angle: float, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut the square of side `size` about `centre`, turned by `angle` (radians), as uint8 (side, side, 3).

    Returns it and the (2, 3) map from its 0..1 to the picture's pixels.
    """
    c, s = np.cos(angle) * size, np.sin(angle) * size
    back = np.array([[c, -s, centre[0] - (c - s) / 2], [s, c, centre[1] - (s + c) / 2]])
    if abs(angle) < 1e-3:
        return cut_box(picture_u8, square_about(centre, size), (side, side)), back
    # Cut the upright square that holds the turned one, at the wanted scale, then turn that: only small arrays are
    # touched.
    wide = int(np.ceil(side * 1.42))
    upright = cut_box(picture_u8, square_about(centre, size * wide / side), (wide, wide))
    turn = cv2.getRotationMatrix2D((wide / 2 - 0.5, wide / 2 - 0.5), float(np.degrees(angle)), 1.0)
    turn[:, 2] -= (wide - side) / 2
    return cv2.warpAffine(upright, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), back


def _to_signed(picture_u8: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture_u8.transpose(2, 0, 1)).astype(np.float32) / 127.5 - 1


def face_crop(picture_u8: np.ndarray, keypoints: Keypoints, size: int = FACE_CROP) -> np.ndarray:
    """Cut the face out of `picture_u8` (H, W, 3): float32 (3, size, size) in [-1, 1]; zeros without a face."""
    box = face_box(keypoints, (picture_u8.shape[1], picture_u8.shape[0]))
    return np.zeros((3, size, size), np.float32) if box is None else _to_signed(cut_box(picture_u8, box, (size, size)))


def hand_crops(picture_u8: np.ndarray, keypoints: Keypoints, size: int = HAND_CROP) -> np.ndarray:
    """Cut out the left and the right hand: float32 (2, 3, size, size) in [-1, 1].

    Zeros for a hand that is not visible.
    """
    boxes = hand_boxes(keypoints, (picture_u8.shape[1], picture_u8.shape[0]))
    none = np.zeros((3, size, size), np.float32)
    return np.stack([none if box is None else _to_signed(cut_box(picture_u8, box, (size, size))) for box in boxes])


def box_mask(box: Box | None, hw: tuple[int, int]) -> np.ndarray:
    """Draw `box` (in cells) as a mask float32 (h, w).

    It is 1 in the cells whose centre lies in the box, and in the cell of the box's own centre.
    """
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
    """Compute the targets of M_r (eq. 5) on a latent grid (h, w): the face's box and both hands' boxes.

    Two masks float32 (h, w) of 0 and 1.
    """
    size = (latent_hw[1], latent_hw[0])
    left, right = hand_boxes(keypoints, size)
    hands = np.maximum(box_mask(left, latent_hw), box_mask(right, latent_hw))
    return box_mask(face_box(keypoints, size), latent_hw), hands


def hand_heatmaps(
    keypoints: Keypoints, hw: tuple[int, int], sigma: float = 1.0, threshold: float = VISIBLE
) -> np.ndarray:
    """Draw a Gaussian of `sigma` cells, peak 1, about each point of the left, then the right hand: float32 (42, h, w).

    Zeros for points that are not visible.
    """
    points = keypoints.hands.reshape(42, 2).astype(np.float32) * [hw[1], hw[0]]
    across = np.exp(-((np.arange(hw[1]) + 0.5 - points[:, :1]) ** 2) / (2 * sigma**2))
    down = np.exp(-((np.arange(hw[0]) + 0.5 - points[:, 1:]) ** 2) / (2 * sigma**2))
    visible = keypoints.hands_score.reshape(42, 1, 1) > threshold
    return (down[:, :, None] * across[:, None, :] * visible).astype(np.float32)

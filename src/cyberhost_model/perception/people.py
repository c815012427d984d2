"""Who is in a frame: how many people, whether face and hands are visible, and a small descriptor of the face.

The descriptor is made of the low frequencies of the aligned, evenly lit face, without a recognition network. It tells
the faces of one recording apart; it is not invariant to age, light from one side, beards or glasses.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

# A second face counts as a person from this part of the first one's height on: smaller ones are pictures on the wall,
# or an audience.
SECOND = 0.4


def has_face(k: Keypoints) -> bool:
    """Check whether a face is visible."""
    return bool(k.face_score.max() > VISIBLE)


def visible_hands(k: Keypoints) -> tuple[bool, bool]:
    """Check whether the left and the right hand are visible."""
    left, right = (k.hands_score.max(1) > VISIBLE).tolist()
    return left, right


def has_hand(k: Keypoints) -> bool:
    """Check whether a hand is visible."""
    return any(visible_hands(k))


def count_people(found: Sequence[Keypoints]) -> int:
    """Count the people of a similar size; small ones in the background do not count."""
    if not found:
        return 0
    heights = [float(np.ptp(k.face[:, 1])) if has_face(k) else 0.0 for k in found]
    largest = max(heights)
    if largest == 0:
        return len(found)
    return sum(h >= SECOND * largest for h in heights)


_SIDE, _LOW = 64, 8  # pixels of the aligned face; frequencies a direction
SIZE = _LOW * _LOW - 1
# Where the eyes and the mouth come to lie, in sides.
_TEMPLATE = np.array([[0.32, 0.38], [0.68, 0.38], [0.5, 0.78]], np.float32) * _SIDE


def align_face(picture_u8: np.ndarray, k: Keypoints) -> np.ndarray | None:
    """Warp the face so that eyes and mouth come to lie in fixed places: uint8 (64, 64, 3); None without a face."""
    if not has_face(k):
        return None
    face = k.face * [picture_u8.shape[1], picture_u8.shape[0]]
    points = np.stack([face[36:42].mean(0), face[42:48].mean(0), face[48:68].mean(0)]).astype(np.float32)
    matrix, _ = cv2.estimateAffinePartial2D(points, _TEMPLATE)
    if matrix is None:
        return None
    return cv2.warpAffine(picture_u8, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def low_frequencies(channel: np.ndarray, least: float = 1e-3) -> np.ndarray:
    """Compute the lowest frequencies of a channel of `align_face`, float32 (63,), without its mean and contrast.

    `least`: added to the contrast, against noise where there is none.
    """
    small = cv2.resize(channel, (_SIDE // 2, _SIDE // 2), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = (small - small.mean()) / (small.std() + least)
    return cv2.dct(small)[:_LOW, :_LOW].ravel()[1:]


def face_descriptor(picture_u8: np.ndarray, k: Keypoints) -> np.ndarray | None:
    """Describe a face by the lowest frequencies of its aligned grey values: float32 (63,) of length 1.

    None without a face.
    """
    aligned = align_face(picture_u8, k)
    if aligned is None:
        return None
    low = low_frequencies(cv2.cvtColor(aligned, cv2.COLOR_RGB2LAB)[..., 0])
    return (low / (np.linalg.norm(low) + 1e-9)).astype(np.float32)


def mean_descriptor(descriptors: Sequence[np.ndarray]) -> list[float] | None:
    """Average the descriptors of a clip to one of length 1; None without any."""
    if not descriptors:
        return None
    mean = np.mean(descriptors, 0)
    return [float(v) for v in (mean / (np.linalg.norm(mean) + 1e-9)).astype(np.float32)]

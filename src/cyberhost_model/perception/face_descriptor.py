"""A small descriptor of a face, without a recognition network: the low frequencies of the aligned, evenly lit face.

It tells faces of one recording apart; it is not invariant to age, light from one side, beards or glasses, and nothing
is decided by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.perception.people import has_face

_SIDE, _LOW = 64, 8  # pixels of the aligned face; frequencies a direction
SIZE = _LOW * _LOW - 1
# Where the eyes and the mouth come to lie, in sides.
_PLACES = np.array([[0.32, 0.38], [0.68, 0.38], [0.5, 0.78]], np.float32) * _SIDE


def aligned_face(picture_u8: np.ndarray, k: Keypoints) -> np.ndarray | None:
    """uint8 (64, 64, 3): the face turned, scaled and shifted so that eyes and mouth come to lie in fixed places; None
    without a face.
    """
    if not has_face(k):
        return None
    face = k.face * [picture_u8.shape[1], picture_u8.shape[0]]
    points = np.stack([face[36:42].mean(0), face[42:48].mean(0), face[48:68].mean(0)]).astype(np.float32)
    matrix, _ = cv2.estimateAffinePartial2D(points, _PLACES)
    if matrix is None:
        return None
    return cv2.warpAffine(picture_u8, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def low_frequencies(channel: np.ndarray, least: float = 1e-3) -> np.ndarray:
    """float32 (63,) of a channel of `aligned_face`: the lowest frequencies without its mean and contrast, where that
    is well above `least`.
    """
    small = cv2.resize(channel, (_SIDE // 2, _SIDE // 2), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = (small - small.mean()) / (small.std() + least)
    return cv2.dct(small)[:_LOW, :_LOW].ravel()[1:]


def face_descriptor(picture_u8: np.ndarray, k: Keypoints) -> np.ndarray | None:
    """float32 (63,) of length 1: the lowest frequencies of the face's grey values, aligned by eyes and mouth, without
    its mean and contrast.

    None without a face.
    """
    aligned = aligned_face(picture_u8, k)
    if aligned is None:
        return None
    low = low_frequencies(cv2.cvtColor(aligned, cv2.COLOR_RGB2LAB)[..., 0])
    return (low / (np.linalg.norm(low) + 1e-9)).astype(np.float32)


def mean_descriptor(descriptors: Sequence[np.ndarray]) -> list[float] | None:
    """The mean of a clip's descriptors, of length 1; None without any."""
    if not descriptors:
        return None
    mean = np.mean(descriptors, 0)
    return [float(v) for v in (mean / (np.linalg.norm(mean) + 1e-9)).astype(np.float32)]

"""The hand clarity score: how sharp the hands of a frame are (paper, section 3.3)."""

from __future__ import annotations

import cv2
import numpy as np

from cyberhost_model.perception.crops import HAND_CROP, cut_box, hand_boxes
from cyberhost_model.perception.keypoints import Keypoints

# Measured on the hands of 46 half-body photographs: the deviation's 10th, 50th and 90th percentiles are 8.7, 11 and 17
# at 768 pixels, 3.8, 5.3 and 9.3 at 256; divided by SCALE the sharp ones come to about 1.
SCALE = 16.0


def laplacian_deviation(crop_u8: np.ndarray) -> float:
    """Compute the standard deviation of the Laplacian of an RGB crop's grey values (0..255)."""
    return float(cv2.Laplacian(cv2.cvtColor(crop_u8, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std())


def hand_clarity(frame_u8: np.ndarray, keypoints: Keypoints) -> float:
    """Compute the HandClarityScore of a frame uint8 (H, W, 3) from its 128 x 128 hand crops.

    It is the Laplacian's deviation over SCALE, averaged over the visible hands: about 0 (a smear; exactly 0 without a
    hand) .. 1 (the sharp hands of a good photograph).
    """
    boxes = hand_boxes(keypoints, (frame_u8.shape[1], frame_u8.shape[0]))
    scores = [laplacian_deviation(cut_box(frame_u8, box, (HAND_CROP, HAND_CROP))) for box in boxes if box is not None]
    return float(np.mean(scores)) / SCALE if scores else 0.0

"""PSNR of matching frames: per frame in float64, mean over frames (not of pooled errors), at most 100 dB."""

from __future__ import annotations

import math

import cv2
import numpy as np

from cyberhost_model.lab.evaluation.metric import Context
from cyberhost_model.lab.evaluation.metrics.compared_frames import ComparedFrames, FrameMean

CAP = 100.0  # dB; the value of identical frames


def psnr(a: np.ndarray, b: np.ndarray, data_range: float = 255.0) -> float:
    """Compute the PSNR of two pictures of one shape and any number type, in dB.

    uint8 and the same values in float give the same number.
    """
    if a.dtype == b.dtype == np.uint8:
        error = cv2.norm(a, b, cv2.NORM_L2SQR) / a.size  # exact: sums of whole numbers
    else:
        error = float(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))
    return min(CAP, 10 * math.log10(data_range**2 / error)) if error > 0 else CAP


def build(context: Context) -> FrameMean:
    """Build the metric: the mean over the frames that have a counterpart."""
    return FrameMean("PSNR", ComparedFrames("psnr", 1, psnr))

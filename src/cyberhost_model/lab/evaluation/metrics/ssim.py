"""SSIM, structural similarity (Wang et al. 2004), of matching frames.

Gaussian window of 11, sigma 1.5, population covariance: equal to scikit-image's `structural_similarity(
gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2, data_range=255)` to 1e-12, and faster.
Mean over RGB and the pixels whose window lies inside, then over frames, then over videos.
"""

from __future__ import annotations

import cv2
import numpy as np

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.metric import Context
from cyberhost_model.lab.evaluation.metrics.compared_frames import ComparedFrames, FrameMean

RADIUS, SIGMA = 5, 1.5
K1, K2 = 0.01, 0.03


def ssim(a: np.ndarray, b: np.ndarray, data_range: float = 255.0) -> float:
    """Compute the SSIM of two pictures (H, W) or (H, W, C) of any number type, in float64.

    Raises InputError for sides below 11.
    """
    if min(a.shape[:2]) < 2 * RADIUS + 1:
        raise InputError(
            f"SSIM needs pictures of at least {2 * RADIUS + 1} pixels a side, not {a.shape[1]}x{a.shape[0]}"
        )
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mx, my = _window_mean(x), _window_mean(y)
    square, product = mx * mx + my * my, mx * my
    # Only the sum of the variances is needed, so four windows do instead of five.
    variances = _window_mean(x * x + y * y) - square
    covariance = _window_mean(x * y) - product
    return float(np.mean(((2 * product + c1) * (2 * covariance + c2)) / ((square + c1) * (variances + c2))))


def _window_mean(picture: np.ndarray) -> np.ndarray:
    """Return the weighted mean in the window around every pixel whose window lies inside."""
    window = cv2.getGaussianKernel(2 * RADIUS + 1, SIGMA, cv2.CV_64F)
    return cv2.sepFilter2D(picture, cv2.CV_64F, window, window)[RADIUS:-RADIUS, RADIUS:-RADIUS]


def build(context: Context) -> FrameMean:
    """Build the metric: the mean over the frames that have a counterpart."""
    return FrameMean("SSIM", ComparedFrames("ssim", 1, ssim))

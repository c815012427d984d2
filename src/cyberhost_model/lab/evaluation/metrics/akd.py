"""AKD: how far the person's key points are from the ground truth's, in pixels of a frame 640 high.

Mean of |dx| and |dy| over all points that are visible in the ground truth (score above 0.3) and in the generated frame.
Points that only the ground truth shows are left out and counted ("missing_rate"). "l2" is the mean Euclidean distance
of the same points; "body", "hands" and "face" are AKD of these alone: 68 of the 128 points are the face's. The feet of
DWPose's 133 are left out: half-body videos do not show them. Coordinates are those of frames stretched to the ground
truth's size.
"""

from __future__ import annotations

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import PerFrame
from cyberhost_model.lab.evaluation.features.people import (
    KEYPOINTS,
    PARTS,
    PersonFeatures,
    in_pixels,
    keypoint_features,
)
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, VideoValue
from cyberhost_model.perception.keypoints import VISIBLE

_PAIRS_AT_ONCE = 2048


def point_distances(generated: np.ndarray, ground_truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the L1 (mean of |dx| and |dy|) and L2 distance of points (..., 2), both (...)."""
    step = generated - ground_truth
    return np.abs(step).mean(-1), np.linalg.norm(step, axis=-1)


def visible_points(true_scores: np.ndarray, generated_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which points both frames show, and which only the ground truth shows: bool, of the scores' shape."""
    in_truth, in_generated = true_scores > VISIBLE, generated_scores > VISIBLE
    return in_truth & in_generated, in_truth & ~in_generated


class Akd:
    """Measure AKD. A `VideoMetric`."""

    def __init__(self, people: PersonFeatures) -> None:
        self.protocol, self.weights, self.licence = people.protocol, people.weights, people.licence
        self.needs: dict[Role, PerFrame] = {"generated": people.extractor, "ground_truth": people.extractor}

    def measure_video(self, sample: Sample) -> dict[str, VideoValue]:
        """Measure a video over its matching frames."""
        generated, truth = sample.features["generated"], sample.features["ground_truth"]
        size = truth["size"]
        pairs = sample.frame_pairs if sample.frame_pairs is not None else np.zeros((0, 2), int)
        pairs = pairs[(pairs[:, 0] < len(generated["scores"])) & (pairs[:, 1] < len(truth["scores"]))]
        l1_sum, l2_sum, counts, missing = (np.zeros(KEYPOINTS) for _ in range(4))
        frames = np.full(len(pairs), np.nan)
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            i, j = pairs[start : start + _PAIRS_AT_ONCE].T
            l1, l2 = point_distances(in_pixels(generated["points"][i], size), in_pixels(truth["points"][j], size))
            both, only_truth = visible_points(truth["scores"][j], generated["scores"][i])
            l1_sum += np.where(both, l1, 0).sum(0)
            l2_sum += np.where(both, l2, 0).sum(0)
            counts, missing = counts + both.sum(0), missing + only_truth.sum(0)
            has = both.any(1)
            frames[start : start + len(i)][has] = np.where(both, l1, 0).sum(1)[has] / both.sum(1)[has]
        if not counts.sum():
            reason = "no key point is seen in both the video and its ground truth"
            return {"AKD": VideoValue(float("nan"), 0.0, reason=reason)}
        extras = {
            "l2": _ratio(l2_sum.sum(), counts.sum()),
            "missing_rate": _ratio(missing.sum(), (counts + missing).sum()),
        }
        extras |= {name: _ratio(l1_sum[part].sum(), counts[part].sum()) for name, part in PARTS.items()}
        coverage = min(1.0, float(np.isfinite(frames).sum()) / max(1, sample.frames))
        return {"AKD": VideoValue(_ratio(l1_sum.sum(), counts.sum()), coverage, extras, series={"frame": frames})}


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def build(context: Context) -> Akd:
    """Build the metric. Raises ModelError, NetworkError or ResourceError where the detector is not available."""
    return Akd(keypoint_features(context))

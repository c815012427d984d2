"""HKC and HKV: the detector's confidence in the hands, and how much they move.

Neither is defined by public code: this is version 1 of our definition.

HKC: the mean score of 2 x 21 hand points over all frames, as the detector gives it (not clipped; DWPose's is no
probability). A frame in which the detector gives no hand counts as 0. "person_rate": share of the frames in which a
person is found.

HKV: the standard deviation over time (ddof 0) of each hand point and axis, averaged over 42 x 2, in pixels of a frame
640 high, over the frames in which the point's score is above 0.3; "seen_share" is their share of all points and frames.
"ungated": over all frames where the detector gives a place. It is not the headline because a hand that is lost and
guessed elsewhere counts there as motion. Jitter raises both: read them with HKC.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import PerFrame, iterate_rows
from cyberhost_model.lab.evaluation.features.people import HANDS, PersonFeatures, in_pixels, keypoint_features
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, VideoValue
from cyberhost_model.perception.keypoints import VISIBLE


def temporal_deviation(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Compute the standard deviation (ddof 0) down the rows of pieces (n, ...), in float64.

    NaN entries are left out; fewer than two give NaN.
    """
    count: np.ndarray | float = 0.0
    mean: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0
    for part in parts:
        finite = np.isfinite(part)
        n = finite.sum(0)
        own = np.where(finite, part, 0).sum(0) / np.maximum(n, 1)
        # Chan's rule for the moments of two groups together.
        total = count + n
        step = own - mean
        squares = (
            squares + np.square(np.where(finite, part - own, 0)).sum(0) + step**2 * count * n / np.maximum(total, 1)
        )
        mean, count = mean + step * n / np.maximum(total, 1), total
    return np.sqrt(np.where(np.asarray(count) > 1, squares / np.maximum(count, 1), np.nan))


class Hands:
    """Measure HKC and HKV. A `VideoMetric`."""

    def __init__(self, people: PersonFeatures) -> None:
        self.protocol, self.weights, self.licence = people.protocol, people.weights, people.licence
        self.needs: dict[Role, PerFrame] = {"generated": people.extractor}

    def measure_video(self, sample: Sample) -> dict[str, VideoValue]:
        """Measure the hands of a video."""
        features = sample.features["generated"]
        size = features["size"]
        frame_score = [scores[:, HANDS].mean(1, dtype=np.float64) for (scores,) in iterate_rows(features, "scores")]
        if not frame_score:
            empty = VideoValue(float("nan"), 0.0, reason="it has no frame")
            return {"HKC": empty, "HKV": empty}
        by_frame = np.concatenate(frame_score)
        hkc = VideoValue(
            float(by_frame.mean()), 1.0, {"person_rate": float(features["found"].mean())}, series={"frame": by_frame}
        )
        visible = np.concatenate(
            [(scores[:, HANDS] > VISIBLE).sum(1) for (scores,) in iterate_rows(features, "scores")]
        )
        gated = temporal_deviation(
            np.where((scores[:, HANDS] > VISIBLE)[..., None], in_pixels(points, size)[:, HANDS], np.nan)
            for points, scores in iterate_rows(features, "points", "scores")
        )
        ungated = temporal_deviation(
            in_pixels(points, size)[:, HANDS] for (points,) in iterate_rows(features, "points")
        )
        extras = {"ungated": _finite_mean(ungated), "seen_share": float(visible.mean()) / 42}
        reason = "" if np.isfinite(gated).any() else "no hand is seen in two frames"
        return {"HKC": hkc, "HKV": VideoValue(_finite_mean(gated), float((visible > 0).mean()), extras, reason)}


def _finite_mean(values: np.ndarray) -> float:
    """Return the mean of the finite values; NaN without any."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def build(context: Context) -> Hands:
    """Build the metric. Raises ModelError, NetworkError or ResourceError where the detector is not available."""
    return Hands(keypoint_features(context))

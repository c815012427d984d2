"""HKC and HKV: how surely a detector finds the hands, and how much they move.

Neither is defined by public code: this is version 1 of ours.

HKC: the mean score of 2 x 21 hand points over all frames, as the detector gives it (not clipped; DWPose's is no
probability). A frame in which the detector gives no hand counts as 0. "person_rate": frames in which a person is found
at all.

HKV: the standard deviation over time (ddof 0) of each hand point and axis, their mean over 42 x 2, in pixels of a frame
640 high, over the frames in which the point's score is above 0.3; "seen_share" of all points and frames. "ungated":
over all frames where the detector gives a place. That one is not the headline because a hand that is lost and guessed
elsewhere counts there as motion. Jitter raises both: read them with HKC.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import PerFrame, pieces
from cyberhost_model.lab.evaluation.features.people import HANDS, Source, in_pixels, keypoint_source
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, VideoValue
from cyberhost_model.perception.keypoints import VISIBLE


def deviation(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Standard deviation (ddof 0) down the rows of pieces (n, ...), in float64; NaN entries are left out, fewer than
    two give NaN.
    """
    count: np.ndarray | float = 0.0
    mean: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0
    for part in parts:
        there = np.isfinite(part)
        n = there.sum(0)
        own = np.where(there, part, 0).sum(0) / np.maximum(n, 1)
        # Chan's rule for the moments of two groups together.
        total = count + n
        step = own - mean
        squares = (
            squares + np.square(np.where(there, part - own, 0)).sum(0) + step**2 * count * n / np.maximum(total, 1)
        )
        mean, count = mean + step * n / np.maximum(total, 1), total
    return np.sqrt(np.where(np.asarray(count) > 1, squares / np.maximum(count, 1), np.nan))


class Hands:
    """A `VideoMetric` of two measures."""

    def __init__(self, source: Source) -> None:
        self.protocol, self.weights, self.licence = source.protocol, source.weights, source.licence
        self.needs: dict[Role, PerFrame] = {"generated": source.features}

    def of_video(self, sample: Sample) -> dict[str, VideoValue]:
        features = sample.features["generated"]
        size = features["size"]
        frame_score = [scores[:, HANDS].mean(1, dtype=np.float64) for (scores,) in pieces(features, "scores")]
        if not frame_score:
            empty = VideoValue(float("nan"), 0.0, reason="it has no frame")
            return {"HKC": empty, "HKV": empty}
        by_frame = np.concatenate(frame_score)
        hkc = VideoValue(
            float(by_frame.mean()), 1.0, {"person_rate": float(features["found"].mean())}, series={"frame": by_frame}
        )
        seen = np.concatenate([(scores[:, HANDS] > VISIBLE).sum(1) for (scores,) in pieces(features, "scores")])
        gated = deviation(
            np.where((scores[:, HANDS] > VISIBLE)[..., None], in_pixels(points, size)[:, HANDS], np.nan)
            for points, scores in pieces(features, "points", "scores")
        )
        ungated = deviation(in_pixels(points, size)[:, HANDS] for (points,) in pieces(features, "points"))
        extras = {"ungated": _mean(ungated), "seen_share": float(seen.mean()) / 42}
        reason = "" if np.isfinite(gated).any() else "no hand is seen in two frames"
        return {"HKC": hkc, "HKV": VideoValue(_mean(gated), float((seen > 0).mean()), extras, reason)}


def _mean(values: np.ndarray) -> float:
    """The mean of what is finite; NaN where nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def build(context: Context) -> Hands:
    """Raises ModelError, NetworkError or ResourceError where the detector cannot be had."""
    return Hands(keypoint_source(context))

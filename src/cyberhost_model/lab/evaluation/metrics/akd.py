"""AKD: how far the person's key points are from the ground truth's, in pixels of a frame 640 high.

Mean of |dx| and |dy| over all points that the ground truth shows (score above 0.3) and the generated frame has too.
Points it lacks are left out and counted ("missing_rate"); "l2" is the mean Euclidean distance of the same points;
"body", "hands" and "face" are AKD of these alone: 68 of the 128 points are the face's. The feet of DWPose's 133 are
left out: half-body videos do not show them. Coordinates are those of frames stretched to the ground truth's size.
"""

from __future__ import annotations

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import PerFrame
from cyberhost_model.lab.evaluation.features.people import PARTS, Source, in_pixels, keypoint_source
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, VideoValue
from cyberhost_model.perception.keypoints import VISIBLE

_PIECE = 2048  # pairs of frames at a time


def differences(generated: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (..., 2) -> L1 (mean of |dx| and |dy|) and L2 distance, both (...)."""
    step = generated - reference
    return np.abs(step).mean(-1), np.linalg.norm(step, axis=-1)


def shown(reference_scores: np.ndarray, generated_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which points the ground truth shows and the generated frame has, and which it lacks: two bool arrays of the
    scores' shape.
    """
    there, has = reference_scores > VISIBLE, generated_scores > VISIBLE
    return there & has, there & ~has


class Akd:
    """A `VideoMetric`."""

    def __init__(self, source: Source) -> None:
        self.protocol, self.weights, self.licence = source.protocol, source.weights, source.licence
        self.needs: dict[Role, PerFrame] = {"generated": source.features, "reference": source.features}

    def of_video(self, sample: Sample) -> dict[str, VideoValue]:
        generated, reference = sample.features["generated"], sample.features["reference"]
        size = reference["size"]
        pairs = sample.aligned if sample.aligned is not None else np.zeros((0, 2), int)
        pairs = pairs[(pairs[:, 0] < len(generated["scores"])) & (pairs[:, 1] < len(reference["scores"]))]
        l1_sum, l2_sum, counts, missing = np.zeros(128), np.zeros(128), np.zeros(128), np.zeros(128)
        frames = np.full(len(pairs), np.nan)
        for start in range(0, len(pairs), _PIECE):
            i, j = pairs[start : start + _PIECE].T
            l1, l2 = differences(in_pixels(generated["points"][i], size), in_pixels(reference["points"][j], size))
            both, lacking = shown(reference["scores"][j], generated["scores"][i])
            l1_sum += np.where(both, l1, 0).sum(0)
            l2_sum += np.where(both, l2, 0).sum(0)
            counts, missing = counts + both.sum(0), missing + lacking.sum(0)
            has = both.any(1)
            frames[start : start + len(i)][has] = np.where(both, l1, 0).sum(1)[has] / both.sum(1)[has]
        if not counts.sum():
            return {
                "AKD": VideoValue(
                    float("nan"), 0.0, reason="no key point is seen in both the video and its ground truth"
                )
            }
        extras = {
            "l2": _share(l2_sum.sum(), counts.sum()),
            "missing_rate": _share(missing.sum(), (counts + missing).sum()),
        }
        extras |= {name: _share(l1_sum[part].sum(), counts[part].sum()) for name, part in PARTS.items()}
        coverage = min(1.0, float(np.isfinite(frames).sum()) / max(1, sample.frames))
        return {"AKD": VideoValue(_share(l1_sum.sum(), counts.sum()), coverage, extras, series={"frame": frames})}


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def build(context: Context) -> Akd:
    """Raises ModelError, NetworkError or ResourceError where the detector cannot be had."""
    return Akd(keypoint_source(context))

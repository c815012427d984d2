"""SyncC and SyncD: synchrony of lips and sound, by SyncNet v2 at 25 frames a second (Chung and Zisserman 2016)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from cyberhost_model.lab.evaluation.features.sync import (
    MAX_SHIFT,
    SYNCNET_FPS,
    SyncFeatures,
    SyncScores,
    confidence_curve,
    score_sync,
)
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, VideoValue
from cyberhost_model.lab.evaluation.networks.s3fd import FaceFinder
from cyberhost_model.lab.evaluation.networks.syncnet import FRAMES, load_syncnet
from cyberhost_model.lab.evaluation.protocol import PROTOCOL

WEIGHTS = ("syncnet_v2.model", "sfd_face.pth")
_ROWS_AT_ONCE = 4096


class SyncMetric:
    """Measure SyncC (higher is better) and SyncD (lower is better). A `VideoMetric`.

    Extras: the offset in frames, and both values without the zeros at the clip's ends ("inside").
    """

    protocol = PROTOCOL
    licence = ""

    def __init__(self, features: SyncFeatures, weights: Mapping[str, str]) -> None:
        self.weights = weights
        self.needs: dict[Role, SyncFeatures] = {"generated": features}

    def measure_video(self, sample: Sample) -> dict[str, VideoValue]:
        """Measure the synchrony of a video and its sound."""
        features = sample.features["generated"]
        distances = features["distances"]
        if not len(distances):
            empty = VideoValue(float("nan"), 0.0, reason=str(features["reason"]))
            return {"SyncC": empty, "SyncD": empty}
        sync = score_sync(_pieces(distances))
        frames = max(1, round(sample.frames * SYNCNET_FPS / sample.fps))
        coverage = min(1.0, (sync.windows + FRAMES) / frames)
        extras = {"offset": float(sync.offset), "windows": float(sync.windows), "face_pixels": float(features["side"])}
        series = {
            "shift": np.arange(-MAX_SHIFT, MAX_SHIFT + 1),
            "distance": sync.curve,
            "frame": _by_frame(distances, sync, int(features["first"]), frames),
        }
        return {
            "SyncC": VideoValue(sync.confidence, coverage, {**extras, "inside": sync.confidence_inside}, series=series),
            "SyncD": VideoValue(sync.distance, coverage, {"inside": sync.distance_inside}),
        }


def _pieces(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start : start + _ROWS_AT_ONCE]


def _by_frame(distances: np.ndarray, sync: SyncScores, first: int, frames: int) -> np.ndarray:
    """Return the confidence at each frame, 25 a second, NaN where nothing was measured.

    A window stands for its middle frame.
    """
    out = np.full(frames, np.nan)
    curve = confidence_curve(distances, sync)
    start = first + FRAMES // 2
    out[start : start + len(curve)] = curve[: max(0, frames - start)]
    return out


def build(context: Context) -> SyncMetric:
    """Build the metric. Raises ModelError or NetworkError where the weights are not available."""
    net, finder = (context.weights(name) for name in WEIGHTS)
    features = SyncFeatures(
        FaceFinder(finder.path, context.device),
        load_syncnet(net.path, context.device),
        f"{net.sha256} {finder.sha256}",
        context.device,
    )
    return SyncMetric(features, {WEIGHTS[0]: net.sha256, WEIGHTS[1]: finder.sha256})

"""Flicker and Dynamics: does a video tremble, and does it move at all? Read them beside the ground truth's own.

Flicker is the warping error of neighbouring frames in levels of 0..255 (`features.temporal`), over all pairs of a
video; "change" beside it is their plain mean difference, which VBench calls temporal flickering. Dynamics is the speed
of the fastest twentieth of the pixels, in pixels of a frame 640 high and a 25th of a second (VBench's dynamic degree
before its threshold, with DIS in the place of RAFT). A video that stands still has both at 0; one that shakes has more
of Dynamics, so neither is good by itself.
"""

from __future__ import annotations

import numpy as np

from cyberhost_model.lab.evaluation.features.people import PROTOCOL_HEIGHT
from cyberhost_model.lab.evaluation.features.temporal import FrameChanges
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, VideoValue
from cyberhost_model.lab.evaluation.protocol import PROTOCOL_TEMPORAL

RATE = 25.0
"""Frames a second to which speeds are scaled."""


class Temporal:
    """Measure Flicker and Dynamics. A `VideoMetric` without weights."""

    protocol = PROTOCOL_TEMPORAL
    weights: dict[str, str] = {}
    licence = ""

    def __init__(self) -> None:
        self.needs: dict[Role, FrameChanges] = {"generated": FrameChanges()}

    def measure_video(self, sample: Sample) -> dict[str, VideoValue]:
        """Measure a video."""
        features = sample.features["generated"]
        flicker, speed = np.asarray(features["flicker"]), np.asarray(features["speed"])
        if not len(speed):
            none = VideoValue(float("nan"), 0.0, reason="it has one frame")
            return {"Flicker": none, "Dynamics": none}
        speed = speed * PROTOCOL_HEIGHT / float(features["size"][1]) * sample.fps / RATE
        seen = np.isfinite(flicker)
        extras = {"change": float(np.mean(features["change"]))}
        mean = float(flicker[seen].mean()) if seen.any() else float("nan")
        reason = "" if seen.any() else "no two neighbouring frames show the same"
        return {
            "Flicker": VideoValue(mean, float(seen.mean()), extras, reason, {"frame": np.append(np.nan, flicker)}),
            "Dynamics": VideoValue(float(speed.mean()), 1.0, series={"frame": np.append(np.nan, speed)}),
        }


def build(context: Context) -> Temporal:
    """Build the metric."""
    return Temporal()

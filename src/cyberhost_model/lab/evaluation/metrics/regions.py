"""SSIM of face and hands alone: SSIM of a frame is mostly that of its background.

Windows, weights and means are those of `metrics.ssim`, on the pixels of the crops as they are.
"""

from __future__ import annotations

from cyberhost_model.lab.evaluation.features.people import person_finder
from cyberhost_model.lab.evaluation.features.regions import ComparedRegions
from cyberhost_model.lab.evaluation.metric import Context
from cyberhost_model.lab.evaluation.metrics.compared_frames import FrameMean
from cyberhost_model.lab.evaluation.metrics.ssim import ssim
from cyberhost_model.lab.evaluation.protocol import PROTOCOL_REGIONS, REGIONS


def build(context: Context) -> FrameMean:
    """Build the metric: the mean over the frames whose ground truth shows the region."""
    frames = ComparedRegions("ssim-regions", "1", ssim, person_finder(context))
    return FrameMean({f"SSIM-{name}": name for name in REGIONS}, frames, PROTOCOL_REGIONS)

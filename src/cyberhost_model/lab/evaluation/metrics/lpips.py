"""LPIPS (Zhang et al. 2018) of matching frames, and of their faces and hands: 0 for equal pictures, lower is better.

Version 0.1 on AlexNet. Whole frames are compared as they are, crops at 128 pixels a side: a feature of AlexNet sees 195
pixels, and small crops have none.
"""

from __future__ import annotations

import numpy as np
import torch

from cyberhost_model.lab.evaluation.features.extraction import resize_frame
from cyberhost_model.lab.evaluation.features.people import person_finder
from cyberhost_model.lab.evaluation.features.regions import WHOLE, ComparedRegions
from cyberhost_model.lab.evaluation.metric import Context
from cyberhost_model.lab.evaluation.metrics.compared_frames import FrameMean
from cyberhost_model.lab.evaluation.networks.frozen import inference_in_fp32
from cyberhost_model.lab.evaluation.networks.lpips import Lpips
from cyberhost_model.lab.evaluation.protocol import PROTOCOL_LPIPS, REGIONS

WEIGHTS = ("alexnet-owt-7be5be79.pth", "alex.pth")
SIDE = 128
"""Pixels a side of what is compared, at the least."""


class PictureDistance:
    """Compute LPIPS of two pictures uint8 (H, W, 3) of one size; sides below SIDE are brought to it."""

    def __init__(self, network: Lpips, device: str = "cpu") -> None:
        self._network, self._device = network.to(device), device

    @inference_in_fp32()
    def __call__(self, a: np.ndarray, b: np.ndarray) -> float:
        """Return the distance, not negative."""
        return float(self._network(self._input(a), self._input(b)))

    def _input(self, picture: np.ndarray) -> torch.Tensor:
        height, width = picture.shape[:2]
        picture = resize_frame(picture, (max(SIDE, width), max(SIDE, height)))
        x = torch.from_numpy(np.array(picture)).to(self._device).permute(2, 0, 1)[None]
        return x.float() / 127.5 - 1


def build(context: Context) -> FrameMean:
    """Build the metric. Raises ModelError or NetworkError where the weights are not available."""
    trunk, heads = (context.weights(name) for name in WEIGHTS)
    distance = PictureDistance(Lpips.from_files(trunk.path, heads.path), context.device)
    version = f"1 {trunk.sha256} {heads.sha256}"
    frames = ComparedRegions("lpips", version, distance, person_finder(context), whole=True)
    names = {"LPIPS": WHOLE} | {f"LPIPS-{name}": name for name in REGIONS}
    return FrameMean(names, frames, PROTOCOL_LPIPS, dict(zip(WEIGHTS, (trunk.sha256, heads.sha256), strict=True)))

"""FID (Heusel et al. 2017): the Frechet distance of Inception features, frames of all videos pooled, read from the
videos themselves.

Two ways to 299x299, which give other values. `clean` (the headline; Parmar et al. 2022): Pillow's bicubic on float,
which removes what would alias. `legacy`: bilinear without that, as most papers' code does it (pytorch-fid).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from cyberhost_model.lab.evaluation.features.extractor import Spool, VideoInfo
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, SetValue
from cyberhost_model.lab.evaluation.metrics.frechet import set_distance
from cyberhost_model.lab.evaluation.networks.frozen import inferring
from cyberhost_model.lab.evaluation.networks.inception import SIDE, WIDTH, Inception
from cyberhost_model.lab.evaluation.protocol import PROTOCOL

WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"
_VERSION = 1


def resize_clean(frame: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> float32 (3, 299, 299), 0..255: each channel as float, bicubic with Pillow's antialiasing."""
    channels = [
        Image.fromarray(frame[:, :, c].astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        for c in range(3)
    ]
    return np.stack([np.asarray(c) for c in channels]).clip(0, 255)


def clean_input(frames: np.ndarray) -> torch.Tensor:
    """uint8 (n, H, W, 3) -> the network's input (n, 3, 299, 299)."""
    return (torch.from_numpy(np.stack([resize_clean(f) for f in frames])) - 128) / 128


def legacy_input(frames: np.ndarray) -> torch.Tensor:
    """uint8 (n, H, W, 3) -> the network's input (n, 3, 299, 299), bilinear, 0..255 to -1..1."""
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    return 2 * F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False) - 1


INPUTS: dict[str, Callable[[np.ndarray], torch.Tensor]] = {"clean": clean_input, "legacy": legacy_input}


class InceptionFrames:
    """Frames -> "clean" and "legacy", float32 (n, 2048)."""

    name = "inception"
    fps = None
    uses_audio = False

    def __init__(self, network: Inception, sha256: str, device: str = "cpu") -> None:
        self.digest = f"inception/{_VERSION} {sha256}"
        self._network, self._device = network.to(device), device
        self._spools: dict[str, Spool] = {}

    def begin(self, info: VideoInfo) -> None:
        self._spools = {name: Spool(WIDTH) for name in INPUTS}

    @inferring()
    def push(self, frames: np.ndarray) -> None:
        for name, prepared in INPUTS.items():
            self._spools[name].add(self._network(prepared(frames).to(self._device)).cpu().numpy())

    def finish(self) -> dict[str, np.ndarray]:
        return {name: spool.array() for name, spool in self._spools.items()}


class Fid:
    """FID and FID-legacy of a set."""

    protocol = PROTOCOL
    licence = ""

    def __init__(self, frames: InceptionFrames, sha256: str) -> None:
        self.weights = {WEIGHTS: sha256}
        self.needs: dict[Role, InceptionFrames] = {"generated": frames, "reference": frames}

    def of_set(self, samples: Sequence[Sample], seed: int) -> dict[str, SetValue]:
        names = {"FID": "clean", "FID-legacy": "legacy"}
        return {
            m: set_distance(samples, lambda s, role, n=name: s.features[role][n], seed, "frames")  # type: ignore[misc]
            for m, name in names.items()
        }


def build(context: Context) -> Fid:
    """Raises ModelError or NetworkError where the weights cannot be had."""
    weights = context.weights(WEIGHTS)
    frames = InceptionFrames(Inception.from_file(weights.path), weights.sha256, context.device)
    return Fid(frames, weights.sha256)

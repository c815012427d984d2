"""FID (Heusel et al. 2017): the Frechet distance of Inception features, frames of all videos pooled.

Frames are resized to 299x299 in two ways, which give different values. `clean` (the headline; Parmar et al. 2022):
Pillow's antialiased bicubic on float. `legacy`: bilinear without antialiasing, as the code of most papers does it
(pytorch-fid).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from cyberhost_model.lab.evaluation.features.extractor import RowFile, VideoInfo
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, SetValue
from cyberhost_model.lab.evaluation.metrics.frechet import set_distance
from cyberhost_model.lab.evaluation.networks.frozen import inference_in_fp32
from cyberhost_model.lab.evaluation.networks.inception import SIDE, WIDTH, Inception
from cyberhost_model.lab.evaluation.protocol import PROTOCOL

WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"
_VERSION = 1


def resize_clean(frame: np.ndarray) -> np.ndarray:
    """Resize uint8 (H, W, 3) to float32 (3, 299, 299), 0..255: each channel as float, antialiased bicubic of Pillow."""
    channels = [
        Image.fromarray(frame[:, :, c].astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        for c in range(3)
    ]
    return np.stack([np.asarray(c) for c in channels]).clip(0, 255)


def clean_input(frames: np.ndarray) -> torch.Tensor:
    """Turn uint8 (n, H, W, 3) into the network's input (n, 3, 299, 299), resized by `resize_clean`."""
    return (torch.from_numpy(np.stack([resize_clean(f) for f in frames])) - 128) / 128


def legacy_input(frames: np.ndarray) -> torch.Tensor:
    """Turn uint8 (n, H, W, 3) into the network's input (n, 3, 299, 299): bilinear, 0..255 to -1..1."""
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    return 2 * F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False) - 1


INPUTS: dict[str, Callable[[np.ndarray], torch.Tensor]] = {"clean": clean_input, "legacy": legacy_input}


class InceptionFrames:
    """Extract Inception features: "clean" and "legacy", float32 (n, 2048). An `Extractor`."""

    name = "inception"
    fps = None
    uses_audio = False

    def __init__(self, network: Inception, sha256: str, device: str = "cpu") -> None:
        self.digest = f"inception/{_VERSION} {sha256}"
        self._network, self._device = network.to(device), device
        self._rows: dict[str, RowFile] = {}

    def begin(self, info: VideoInfo) -> None:
        """Start a video."""
        self._rows = {name: RowFile(WIDTH) for name in INPUTS}

    @inference_in_fp32()
    def push(self, frames: np.ndarray) -> None:
        """Read the next frames, uint8 (n, H, W, 3)."""
        for name, prepare in INPUTS.items():
            self._rows[name].add(self._network(prepare(frames).to(self._device)).cpu().numpy())

    def finish(self) -> dict[str, np.ndarray]:
        """Return the features of all frames."""
        return {name: rows.array() for name, rows in self._rows.items()}


class Fid:
    """Measure FID and FID-legacy. A `SetMetric`."""

    protocol = PROTOCOL
    licence = ""

    def __init__(self, frames: InceptionFrames, sha256: str) -> None:
        self.weights = {WEIGHTS: sha256}
        self.needs: dict[Role, InceptionFrames] = {"generated": frames, "ground_truth": frames}

    def measure_set(self, samples: Sequence[Sample], seed: int) -> dict[str, SetValue]:
        """Measure a set."""

        def distance(name: str) -> SetValue:
            return set_distance(samples, lambda sample, role: sample.features[role][name], seed, "frames")

        return {"FID": distance("clean"), "FID-legacy": distance("legacy")}


def build(context: Context) -> Fid:
    """Build the metric. Raises ModelError or NetworkError where the weights are not available."""
    weights = context.weights(WEIGHTS)
    frames = InceptionFrames(Inception.from_file(weights.path), weights.sha256, context.device)
    return Fid(frames, weights.sha256)

"""FVD (Unterthiner et al. 2018): the Frechet distance of I3D's 400 logits on clips of 16 consecutive frames.

k clips a video, evenly spaced. Frames are stretched to 224x224 (bilinear), values to [-1, 1]; covariances are divided
by N - 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from cyberhost_model.lab.evaluation.features.extractor import VideoInfo
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, SetValue
from cyberhost_model.lab.evaluation.metrics.frechet import set_distance
from cyberhost_model.lab.evaluation.networks.frozen import inference_in_fp32
from cyberhost_model.lab.evaluation.networks.i3d import CLASSES, FRAMES, I3D, SIDE
from cyberhost_model.lab.evaluation.protocol import PROTOCOL

WEIGHTS = "i3d_pretrained_400.pt"
_VERSION = 1


def clip_starts(frames: int, clips: int) -> list[int]:
    """Return the first frames of the clips: evenly spaced from the first possible one to the last, each once.

    There are none for fewer than 16 frames.
    """
    if frames < FRAMES:
        return []
    last = frames - FRAMES
    places = np.linspace(0, last, clips) if clips > 1 else np.array([last / 2])
    return sorted(set(np.floor(places + 0.5).astype(int).tolist()))


def clip_input(frames: np.ndarray) -> torch.Tensor:
    """Turn uint8 (n, H, W, 3) into the network's input, (n, 3, 224, 224) in -1..1."""
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    return F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False) / 127.5 - 1


class I3DClips:
    """Extract I3D's "logits" of clips, float32 (clips, 400). An `Extractor`.

    There are fewer clips where a damaged file has fewer frames than packets.
    """

    name = "i3d"
    fps = None
    uses_audio = False

    def __init__(self, network: I3D, sha256: str, clips: int, device: str = "cpu") -> None:
        self.digest = f"i3d/{_VERSION} {sha256} {clips}"
        self._network, self._clips, self._device = network.to(device), clips, device
        self._starts: list[int] = []
        self._open: dict[int, list[torch.Tensor]] = {}
        self._logits: list[np.ndarray] = []
        self._position = 0

    def begin(self, info: VideoInfo) -> None:
        """Start a video."""
        self._starts = clip_starts(info.frames, self._clips)
        self._open, self._logits, self._position = {}, [], 0

    @inference_in_fp32()
    def push(self, frames: np.ndarray) -> None:
        """Read the next frames, uint8 (n, H, W, 3)."""
        places = range(self._position, self._position + len(frames))
        self._position += len(frames)
        wanted = [i for i, p in enumerate(places) if any(s <= p < s + FRAMES for s in self._starts)]
        if not wanted:
            return
        for i, picture in zip(wanted, clip_input(frames[wanted]), strict=True):
            for start in self._starts:
                if start <= places[i] < start + FRAMES:
                    self._add(start, picture)

    def _add(self, start: int, picture: torch.Tensor) -> None:
        clip = self._open.setdefault(start, [])
        clip.append(picture)
        if len(clip) == FRAMES:
            x = torch.stack(self._open.pop(start), 1)[None].to(self._device)
            self._logits.append(self._network(x)[0].cpu().numpy())

    def finish(self) -> dict[str, np.ndarray]:
        """Return the features of all frames."""
        return {"logits": np.stack(self._logits) if self._logits else np.zeros((0, CLASSES), np.float32)}


class Fvd:
    """Measure FVD. A `SetMetric`."""

    protocol = PROTOCOL
    licence = ""

    def __init__(self, clips: I3DClips, sha256: str) -> None:
        self.weights = {WEIGHTS: sha256}
        self.needs: dict[Role, I3DClips] = {"generated": clips, "ground_truth": clips}

    def measure_set(self, samples: Sequence[Sample], seed: int) -> dict[str, SetValue]:
        """Measure a set."""
        return {"FVD": set_distance(samples, lambda sample, role: sample.features[role]["logits"], seed, "clips")}


def build(context: Context) -> Fvd:
    """Build the metric. Raises ModelError or NetworkError where the weights are not available."""
    weights = context.weights(WEIGHTS)
    return Fvd(I3DClips(I3D.from_file(weights.path), weights.sha256, context.clips, context.device), weights.sha256)

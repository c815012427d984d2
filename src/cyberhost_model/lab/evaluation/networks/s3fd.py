"""S3FD, the face detector of SyncNet's pipeline (Zhang et al. 2017, "S3FD: Single Shot Scale-invariant Face Detector").

The layers carry the names of the public file `sfd_face.pth`. A VGG16 with six levels, one anchor a cell at each.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cyberhost_model.lab.evaluation.networks.frozen import load_weights
from cyberhost_model.perception.geometry import suppress_overlaps

STEPS = (4, 8, 16, 32, 64, 128)  # pixels a cell
ANCHORS = (16, 32, 64, 128, 256, 512)  # sides, pixels
_VGG = (64, 64, "M", 128, 128, "M", 256, 256, 256, "C", 512, 512, 512, "M", 512, 512, 512, "M")
_SOURCES = (16, 23, 30)  # ends, among the VGG's layers, of conv3_3, conv4_3 and conv5_3
_MEAN = (123.0, 117.0, 104.0)  # RGB
_CENTRE, _SIZE = 0.1, 0.2  # variances of the regressed offsets
_MAX_CANDIDATES, _MAX_FACES = 5000, 750


class L2Norm(nn.Module):
    """Scale each cell's features to a learnt length."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, h, w) to the same shape."""
        return self.weight[:, None, None] * x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _vgg() -> nn.ModuleList:
    layers: list[nn.Module] = []
    width = 3
    for entry in _VGG:
        if isinstance(entry, str):
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=entry == "C"))
        else:
            layers += [nn.Conv2d(width, entry, 3, padding=1), nn.ReLU(inplace=True)]
            width = entry
    layers += [
        nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
        nn.ReLU(inplace=True),
        nn.Conv2d(1024, 1024, 1),
        nn.ReLU(inplace=True),
    ]
    return nn.ModuleList(layers)


class S3FD(nn.Module):
    """Predict for each anchor of each level a box offset and the scores of background and face."""

    def __init__(self) -> None:
        super().__init__()
        self.vgg = _vgg()
        self.L2Norm3_3, self.L2Norm4_3, self.L2Norm5_3 = L2Norm(256, 10.0), L2Norm(512, 8.0), L2Norm(512, 5.0)
        self.extras = nn.ModuleList(
            [
                nn.Conv2d(1024, 256, 1),
                nn.Conv2d(256, 512, 3, 2, padding=1),
                nn.Conv2d(512, 128, 1),
                nn.Conv2d(128, 256, 3, 2, padding=1),
            ]
        )
        widths = (256, 512, 512, 1024, 512, 256)
        self.loc = nn.ModuleList(nn.Conv2d(width, 4, 3, padding=1) for width in widths)
        # The finest level has three classes of background, because small anchors cover so much of it.
        self.conf = nn.ModuleList(nn.Conv2d(width, 4 if i == 0 else 2, 3, padding=1) for i, width in enumerate(widths))

    def forward(self, pictures: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Map pictures (B, 3, H, W), RGB 0..255 less the mean, to offsets (B, 4, h, w) and logits (B, 2, h, w) a level.

        The logits are those of background and face.
        """
        levels, x, start = [], pictures, 0
        for stop, norm in zip(
            (*_SOURCES, len(self.vgg)), (self.L2Norm3_3, self.L2Norm4_3, self.L2Norm5_3, None), strict=True
        ):
            for layer in self.vgg[start:stop]:
                x = layer(x)
            # The next ReLU works in place; the norms return new tensors, so their levels stay as they are.
            levels.append(x if norm is None else norm(x))
            start = stop
        for i, layer in enumerate(self.extras):
            x = F.relu(layer(x))
            if i % 2:
                levels.append(x)
        out = []
        for i, (level, loc, conf) in enumerate(zip(levels, self.loc, self.conf, strict=True)):
            logits = conf(level)
            if i == 0:
                logits = torch.cat([logits[:, :3].amax(1, keepdim=True), logits[:, 3:]], 1)
            out.append((loc(level), logits))
        return out


def decode_boxes(levels: list[tuple[Tensor, Tensor]], least: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Decode the network's output to (boxes (n, 4) in pixels of its input, scores (n,)) for each picture.

    Faces with a score above `least`, after non-maximum suppression.
    """
    boxes, scores = [], []
    for (offsets, logits), step, anchor in zip(levels, STEPS, ANCHORS, strict=True):
        height, width = offsets.shape[-2:]
        x = (torch.arange(width, device=offsets.device) + 0.5) * step
        y = (torch.arange(height, device=offsets.device) + 0.5) * step
        centre = (
            torch.stack([x.expand(height, width), y[:, None].expand(height, width)]) + offsets[:, :2] * _CENTRE * anchor
        )
        half = anchor * torch.exp(offsets[:, 2:] * _SIZE) / 2
        boxes.append(torch.cat([centre - half, centre + half], 1).flatten(2))
        scores.append(logits.softmax(1)[:, 1].flatten(1))
    found = []
    for box, score in zip(torch.cat(boxes, 2).mT.cpu().numpy(), torch.cat(scores, 1).cpu().numpy(), strict=True):
        above = np.flatnonzero(score > least)
        above = above[np.argsort(-score[above], kind="stable")][:_MAX_CANDIDATES]
        kept = above[suppress_overlaps(box[above], score[above], 0.3)][:_MAX_FACES]
        kept = kept[suppress_overlaps(box[kept], score[kept], 0.1)]
        found.append((box[kept], score[kept]))
    return found


class FaceFinder:
    """Find the faces of a batch of frames, on frames reduced to `scale` as SyncNet's pipeline does.

    least: confidence from which a face counts.
    """

    def __init__(self, path: Path, device: str = "cpu", scale: float = 0.25, least: float = 0.9) -> None:
        self.net = load_weights(S3FD(), path).to(device)
        self.device, self.scale, self.least = device, scale, least

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Find faces in frames uint8 (n, H, W, 3) RGB: for each (boxes float32 (k, 4) in its pixels, scores (k,)).

        The most confident face comes first.
        """
        small = np.stack(
            [cv2.resize(f, (0, 0), fx=self.scale, fy=self.scale, interpolation=cv2.INTER_LINEAR) for f in frames]
        )
        x = (
            torch.from_numpy(small).to(self.device).permute(0, 3, 1, 2).float()
            - torch.tensor(_MEAN, device=self.device)[:, None, None]
        )
        ratio = np.tile([frames.shape[2] / small.shape[2], frames.shape[1] / small.shape[1]], 2).astype(np.float32)
        return [(boxes * ratio, scores) for boxes, scores in decode_boxes(self.net(x), self.least)]

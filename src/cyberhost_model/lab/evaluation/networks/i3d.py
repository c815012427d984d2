"""I3D of Kinetics-400 (Carreira & Zisserman 2017, "Quo Vadis, Action Recognition?"), an inflated Inception-v1.

Its 400 logits of a clip are the features of FVD. State dict: the layout of `i3d_pretrained_400.pt`, which is that of
the published PyTorch port. Padding is TensorFlow's "same": the odd zero goes at the end. Normalisation adds 1e-3 to the
variance, as the original does.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cyberhost_model.lab.evaluation.networks.frozen import fuse_batchnorm, load_weights

SIDE, FRAMES, CLASSES = 224, 16, 400
Triple = tuple[int, int, int]


class Unit3D(nn.Module):
    """Convolve with "same" padding, normalise, apply ReLU. `plain`: a bias instead of the last two (the logits)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, plain: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=plain)
        self.bn: nn.Module | None = None if plain else nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, t, h, w) to (n, outputs, t / stride, h / stride, w / stride)."""
        x = self.conv3d(_same(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x), inplace=True)


def _same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Pad (n, c, t, h, w) with zeros, so that the output has ceil(size / stride) positions."""
    pad: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        missing = max(k - (s if size % s == 0 else size % s), 0)
        pad += [missing // 2, missing - missing // 2]
    return F.pad(x, pad) if any(pad) else x


def _pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    # Zeros as padding are no maximum behind a ReLU unless all are zero.
    return F.max_pool3d(_same(x, kernel, stride), kernel, stride)


class Mixed(nn.Module):
    """Concatenate a 1x1x1, two 3x3x3 and a pooled branch; `widths` of the six convolutions in the paper's order."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = widths
        self.b0 = Unit3D(inputs, b0)
        self.b1a, self.b1b = Unit3D(inputs, b1a), Unit3D(b1a, b1b, 3)
        self.b2a, self.b2b = Unit3D(inputs, b2a), Unit3D(b2a, b2b, 3)
        self.b3b = Unit3D(inputs, b3b)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, t, h, w) to (n, outputs, t, h, w)."""
        pooled = self.b3b(_pool(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), pooled], 1)


class I3D(nn.Module):
    """Map clips (n, 3, t, 224, 224) in [-1, 1], t >= 9, to logits (n, 400), their mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3D(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit3D(64, 64)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, 3)
        self.Mixed_3b = Mixed(192, (64, 96, 128, 16, 32, 32))
        self.Mixed_3c = Mixed(256, (128, 128, 192, 32, 96, 64))
        self.Mixed_4b = Mixed(480, (192, 96, 208, 16, 48, 64))
        self.Mixed_4c = Mixed(512, (160, 112, 224, 24, 64, 64))
        self.Mixed_4d = Mixed(512, (128, 128, 256, 24, 64, 64))
        self.Mixed_4e = Mixed(512, (112, 144, 288, 32, 64, 64))
        self.Mixed_4f = Mixed(528, (256, 160, 320, 32, 128, 128))
        self.Mixed_5b = Mixed(832, (256, 160, 320, 32, 128, 128))
        self.Mixed_5c = Mixed(832, (384, 192, 384, 48, 128, 128))
        self.logits = Unit3D(1024, CLASSES, plain=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map clips (n, 3, t, 224, 224) to logits (n, 400)."""
        x = _pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Mixed_3c(self.Mixed_3b(x)), (3, 3, 3), (2, 2, 2))
        for block in (self.Mixed_4b, self.Mixed_4c, self.Mixed_4d, self.Mixed_4e, self.Mixed_4f):
            x = block(x)
        x = self.Mixed_5c(self.Mixed_5b(_pool(x, (2, 2, 2), (2, 2, 2))))
        return self.logits(F.avg_pool3d(x, (2, 7, 7), 1)).mean((2, 3, 4))

    @classmethod
    def from_file(cls, path: Path) -> I3D:
        """Load the published weights, for inference. Raises ModelError."""
        return fuse_batchnorm(load_weights(cls(), path))

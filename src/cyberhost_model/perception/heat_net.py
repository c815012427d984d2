"""HeatNet: the small convolutional network of which the key point detector has four (face finder, face, body, hand)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def normalise_crops(crops_u8: torch.Tensor) -> torch.Tensor:
    """Normalise uint8 (N, H, W, 3) to float32 (N, 3, H, W) with mean 0 and deviation about 1 a picture.

    Exposure and contrast drop out.
    """
    x = crops_u8.permute(0, 3, 1, 2).float() / 255
    mean, std = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
    return ((x - mean) / (std + 0.05)).contiguous(memory_format=torch.channels_last)


def fuse_batchnorm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convert the weights of a network with batch norms to those of one without.

    Each norm goes into the convolution before it.
    """
    out = dict(state)
    for key in state:
        if not key.endswith(".running_var"):
            continue
        norm = key.removesuffix(".running_var")
        # A norm is "first_norm" beside "first", or number 1 of a sequence whose number 0 is the convolution.
        convolution = norm.removesuffix("_norm") if norm.endswith("_norm") else norm.removesuffix("1") + "0"
        scale = state[norm + ".weight"] * (state[key] + 1e-5).rsqrt()
        out[convolution + ".weight"] = state[convolution + ".weight"] * scale[:, None, None, None]
        out[convolution + ".bias"] = state[norm + ".bias"] - state[norm + ".running_mean"] * scale
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            del out[f"{norm}.{name}"]
    return out


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, width: int, norm: bool):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=not norm)
        self.first_norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=not norm)
        self.second_norm = nn.BatchNorm2d(width) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute (N, C, H, W) -> (N, C, H, W)."""
        y = F.relu(self.first_norm(self.first(x)), inplace=True)
        return F.relu(x + self.second_norm(self.second(y)))


def _convolution(inputs: int, outputs: int, norm: bool, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=not norm)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs) if norm else nn.Identity(), nn.ReLU(inplace=True))


class HeatNet(nn.Module):
    """Crop -> `maps` raw maps at 1/`stride` of its size, and one presence logit.

    An encoder down to 1/32, a decoder with lateral 1x1 convolutions up to 1/`stride` (4 or 8). `norm` False is the
    layout without batch norms that `fuse_batchnorm` gives: faster, for use only.
    """

    def __init__(self, maps: int, stride: int, widths: tuple[int, ...] = (16, 24, 48, 80, 112), norm: bool = True):
        super().__init__()
        self.stem = _convolution(3, widths[0], norm, 2)
        depths = (1, 2, 2, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(_convolution(a, b, norm, 2), *(ResidualBlock(b, norm) for _ in range(n)))
            for a, b, n in zip(widths, widths[1:], depths, strict=False)
        )
        self.levels = 3 if stride == 4 else 2
        up = widths[::-1][: self.levels + 1]
        self.lateral = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(up, up[1:], strict=False))
        self.merge = nn.ModuleList(_convolution(b, b, norm) for b in up[1:])
        self.head = nn.Sequential(_convolution(up[-1], 2 * up[-1], norm), nn.Conv2d(2 * up[-1], maps, 1))
        self.presence = nn.Linear(widths[-1], 1)

    def forward(self, crops_u8: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute maps (N, K, H / stride, W / stride) and presence logits (N,) of uint8 (N, H, W, 3).

        H and W are multiples of 32.
        """
        return self.after_stem(self.stem(normalise_crops(crops_u8)))

    def after_stem(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what `forward` does from the stem's output (N, widths[0], H / 2, W / 2)."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        presence = self.presence(x.mean((2, 3)))[:, 0]
        for lateral, merge, skip in zip(self.lateral, self.merge, features[-2::-1], strict=False):
            x = merge(F.interpolate(lateral(x), scale_factor=2.0, mode="nearest") + skip)
        return self.head(x), presence


def find_peaks(logits: torch.Tensor, window: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the highest cell of each map: its place (N, K, 2) in 0..1 and its value (N, K).

    The place is refined by its neighbours' softmax weights.
    """
    n, k, h, w = logits.shape
    value, index = logits.flatten(2).max(2)
    size = 2 * window + 1
    padded = F.pad(logits, (window,) * 4, value=-1e4)
    row, column = index // w, index % w
    offsets = torch.arange(size, device=logits.device)
    cells = (row[..., None, None] + offsets[:, None]) * (w + 2 * window) + column[..., None, None] + offsets
    near = padded.flatten(2).gather(2, cells.flatten(2)).softmax(2).view(n, k, size, size)
    shift = (offsets - window).to(logits.dtype)
    x = column + 0.5 + (near.sum(2) * shift).sum(2)
    y = row + 0.5 + (near.sum(3) * shift).sum(2)
    return torch.stack([x / w, y / h], -1), value


def concentration(logits: torch.Tensor) -> torch.Tensor:
    """Compute the mean over the maps (N, K, H, W) of the softmax weight in the best 5 x 5 cells: (N,).

    It is near 1 when every point has one place. It is low for a crop that shows something else.
    """
    weights = logits.flatten(2).softmax(2).view_as(logits)
    return (F.avg_pool2d(weights, 5, 1, 2) * 25).flatten(2).amax(2).mean(1)

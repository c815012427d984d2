"""LPIPS v0.1 on AlexNet (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric").

State dicts: the convolutions of torchvision's `alexnet-owt-7be5be79.pth`, and the five heads of PerceptualSimilarity's
`alex.pth`. The package lpips needs torchvision; its arithmetic is few lines, and these give its values.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import read_tensors

TAPS = (1, 4, 7, 9, 11)
"""Layers of AlexNet after whose ReLU features are compared."""
WIDTHS = (64, 192, 384, 256, 256)
SMALLEST = 32
"""Pixels of a side below which the last features have no place left."""


class Lpips(nn.Module):
    """Compare pictures by the features of AlexNet, weighted by channel."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d, e = WIDTHS
        self.features = nn.Sequential(
            *(nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(b, c, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(c, d, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(d, e, 3, padding=1), nn.ReLU()),
        )
        self.heads = nn.ParameterList([nn.Parameter(torch.zeros(1, width, 1, 1)) for width in WIDTHS])
        # From -1..1 to the means and deviations of ImageNet.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)

    @staticmethod
    def from_files(alexnet: Path, heads: Path) -> Lpips:
        """Load both files. Raises ModelError for other tensors."""
        network = Lpips()
        tensors = {k: v for k, v in read_tensors(alexnet).items() if k.startswith("features.")}
        own = read_tensors(heads)
        tensors |= {f"heads.{i}": own[name] for i in range(len(WIDTHS)) if (name := f"lin{i}.model.1.weight") in own}
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:  # torch's list of names and shapes
            first = " ".join(str(error).split())[:160]
            raise ModelError(f"{alexnet}, {heads}: not the weights of LPIPS ({first}); fetch them again") from None
        return network.eval().requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute the distance of pictures (n, 3, H, W) in -1..1: (n,), 0 for equal ones."""
        x, total = (torch.cat([a, b]) - self.shift) / self.scale, torch.zeros(len(a), device=a.device)
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in TAPS:
                one, other = (x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)).chunk(2)
                head = self.heads[TAPS.index(i)]
                total = total + ((one - other).square() * head).sum(1).mean((1, 2))
        return total

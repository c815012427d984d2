"""LipHead: features of the speech encoder -> the shape of the lips, and the phoneme that is spoken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LIPS = ("gap", "width", "closure", "protrusion", "tuck")
"""Outputs of the head before the logits of the phonemes; closure and tuck are logits."""


@dataclass(frozen=True)
class PredictedLips:
    """Lips of T video frames, float32 (T,); lengths are relative to one filmed speaker (`lab.synthetic.lip_shapes`)."""

    gap: np.ndarray
    """0 (closed or at rest) .. 1 (as far apart as in the widest speech), 1.5 at most.

    0 where a closure is more likely than not.
    """
    width: np.ndarray
    """-1.5 (rounded) .. 0 (at rest) .. 1.5 (spread)."""
    closure: np.ndarray
    """Probability that the lips touch while somebody speaks: m, b, p."""
    protrusion: np.ndarray
    """-1.5 (drawn back) .. 0 (at rest) .. 1.5 (pushed forward)."""
    tuck: np.ndarray
    """Probability that the lower lip lies at the upper teeth: f, v."""
    phonemes: np.ndarray
    """(T, classes) probabilities, in the order of the encoder's `config.phonemes`; the first class is silence."""

    @staticmethod
    def from_head(curves: np.ndarray) -> PredictedLips:
        """Convert outputs of the head (T, 5 + classes)."""
        gap, width, closure, protrusion, tuck = curves[:, : len(LIPS)].T
        logits = curves[:, len(LIPS) :] - curves[:, len(LIPS) :].max(1, keepdims=True)
        likely, touching = np.exp(logits), _sigmoid(closure)
        # The gap alone is a mean over what might be said, and never quite closed.
        gap = gap.clip(0, 1.5) * (1 - 2 * touching).clip(0, 1)
        width, protrusion = width.clip(-1.5, 1.5), protrusion.clip(-1.5, 1.5)
        return PredictedLips(gap, width, touching, protrusion, _sigmoid(tuck), likely / likely.sum(1, keepdims=True))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-x.clip(-30, 30)))).astype(np.float32)


class LipHead(nn.Module):
    """A weighted mean of the layers, a hidden layer, then two linear maps: shape and phonemes."""

    def __init__(self, layers: int, dim: int, phonemes: int) -> None:
        super().__init__()
        self.layer_weight = nn.Parameter(torch.zeros(layers))
        self.norm = nn.LayerNorm(dim)
        self.hidden = nn.Linear(dim, dim)
        self.shape = nn.Linear(dim, len(LIPS))
        self.phonemes = nn.Linear(dim, phonemes)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (..., layers, dim) to (..., 5 + phonemes): in the order of LIPS, then logits of the phonemes."""
        x = self.norm((features * self.layer_weight.softmax(0)[:, None]).sum(-2))
        x = F.gelu(self.hidden(x))
        return torch.cat([self.shape(x), self.phonemes(x)], -1)

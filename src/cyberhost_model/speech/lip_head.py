"""LipHead: features of the speech encoder -> the shape of the lips, and the phoneme that is spoken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cyberhost_model.speech.phonemes import CLASSES, CLOSED, SILENCE

LIPS = ("gap", "width", "closure", "protrusion", "tuck")
"""Outputs of the head before the logits of the phonemes; closure and tuck are logits."""
GAP, WIDTH, CLOSURE, PROTRUSION, TUCK = range(len(LIPS))
_TOUCHING = [i for i, name in enumerate(CLASSES) if name in CLOSED]
_CLOSES = (0.15, 0.4)  # probability of touching lips at which they begin to close, and at which they are closed
_RESTS = (0.7, 0.95)  # the same of silence and lips at rest
_PAUSE = 7  # frames to either side in which nobody speaks where lips rest: they do not between two words


@dataclass(frozen=True)
class PredictedLips:
    """Lips of T video frames, float32 (T,); lengths are relative to one filmed speaker (`lab.synthetic.lip_shapes`)."""

    gap: np.ndarray
    """0 (closed or at rest) .. 1 (as far apart as in the widest speech), 1.5 at most.
    """
    width: np.ndarray
    """-1.5 (rounded) .. 0 (at rest) .. 1.5 (spread)."""
    closure: np.ndarray
    """0 .. 1: lips touch while somebody speaks, as at m, b and p."""
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
        likely = np.exp(curves[:, len(LIPS) :] - curves[:, len(LIPS) :].max(1, keepdims=True))
        likely /= likely.sum(1, keepdims=True)
        touching = (_sigmoid(closure) + likely[:, _TOUCHING].sum(1)) / 2
        # The gap alone is a mean over what might be said, and never quite closed.
        closing, moving = _rise(touching, _CLOSES), 1 - _rise(_least_nearby(likely[:, SILENCE], _PAUSE), _RESTS)
        gap = gap.clip(0, 1.5) * (1 - closing) * moving
        width, protrusion = width.clip(-1.5, 1.5) * moving, protrusion.clip(-1.5, 1.5) * moving
        return PredictedLips(gap, width, closing, protrusion, _sigmoid(tuck), likely)


def keep_closures(steps: np.ndarray) -> np.ndarray:
    """Widen closures in outputs of the head (T, 5 + classes) to three steps, lest they fall between two frames."""
    steps = steps.copy()
    for column in (CLOSURE, *(len(LIPS) + i for i in _TOUCHING)):
        steps[:, column] = -_least_nearby(-steps[:, column], 1)
    return steps


def _least_nearby(x: np.ndarray, reach: int) -> np.ndarray:
    """Find the least of each element and `reach` elements to either side of x (n,)."""
    padded = np.pad(x, reach, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(1)


def _rise(x: np.ndarray, between: tuple[float, float]) -> np.ndarray:
    """Rise smoothly from 0 to 1 between two values of x."""
    share = ((x - between[0]) / (between[1] - between[0])).clip(0, 1)
    return share * share * (3 - 2 * share)


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

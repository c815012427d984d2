"""HandClarityEmbedding: the Hand Clarity Score as a residual on the time embedding (section 3.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class HandClarityEmbedding(nn.Module):
    """Score -> Fourier features -> residual, zero at the start. A score that is not above 0 (no hand to judge) adds nothing."""

    def __init__(self, time_embed_dim: int, bands: int = 8) -> None:
        super().__init__()
        # half a period to many periods over the usual range 0..1
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.linspace(-1, 3, bands, device="cpu"), persistent=False)
        self.hidden = nn.Linear(2 * bands, time_embed_dim // 4)
        self.out = nn.Linear(time_embed_dim // 4, time_embed_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, score: Tensor) -> Tensor:
        """score (B, F) -> (B, F, time_embed_dim)."""
        phase = score[..., None] * self.frequencies
        features = torch.cat([phase.sin(), phase.cos()], dim=-1)
        residual = self.out(nn.functional.silu(self.hidden(features)))
        return torch.where(score[..., None] > 0, residual, 0.0)

"""AudioProjection: multi-stage speech features -> the tokens a frame's cross attention reads (section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cyberhost_model.presets import AudioConfig


class AudioTokens(nn.Module):
    """No projection: every layer of every step is a token (`AudioConfig.project`)."""

    def forward(self, audio: Tensor) -> Tensor:
        """audio (B, F, L, layers, D) -> (B, F, L * layers, D)."""
        return audio.flatten(2, 3)


class AudioProjection(nn.Module):
    """Mixes all layers of the speech encoder at each step of a frame's window. The last layer is zero at the start: no audio."""

    def __init__(self, config: AudioConfig, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)  # the layers' scales differ widely
        self.layer_weight = nn.Parameter(torch.ones(config.layers, 1))
        self.mix = nn.Linear(config.layers * config.dim, dim)
        self.position = nn.Parameter(torch.randn(config.tokens, dim) * 0.02)
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        nn.init.zeros_(self.out[-1].weight)
        nn.init.zeros_(self.out[-1].bias)

    def forward(self, audio: Tensor) -> Tensor:
        """audio (B, F, L, layers, D_audio), each frame's window of L encoder steps -> (B, F, L, D)."""
        audio = self.norm(audio) * self.layer_weight
        return self.out(self.mix(audio.flatten(-2)) + self.position)

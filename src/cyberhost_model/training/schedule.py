"""The learning rate of a step."""

from __future__ import annotations

import math

from .settings import LoopConfig


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up, flat, cosine decay at the end."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    left = config.steps - step
    if config.decay and left < config.decay:
        return config.lr * (0.05 + 0.95 * 0.5 * (1 - math.cos(math.pi * left / config.decay)))
    return config.lr

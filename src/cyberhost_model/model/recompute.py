"""Gradient checkpointing in one line, so that a forward can place it itself (diffusers' own skips the motion modules)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def recompute(enabled: bool, function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`; when enabled and gradients are on, its activations are computed again in the backward pass instead of kept."""
    if enabled and torch.is_grad_enabled():
        return checkpoint(function, *args, use_reentrant=False)
    return function(*args)

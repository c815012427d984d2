"""Where an operation runs that not every device has."""

from __future__ import annotations

import torch


def able(device: torch.device) -> torch.device:
    """`device`, or the CPU for an Apple GPU: most versions of torch have neither QR nor bicubic or border sampling there."""
    return torch.device("cpu") if device.type == "mps" else device

"""How a network lies in memory where it computes."""

from __future__ import annotations

import torch
from torch import nn

from cyberhost_model.model.channels_norm import ChannelsNorm


def lay_out(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a network, channels last where its attentions and half precision's convolutions are quicker so: on CUDA, and in half precision on a CPU, with
    group norms that are made for it (`ChannelsNorm`)."""
    last = device.type == "cuda" or (device.type == "cpu" and dtype != torch.float32)
    network.to(device, dtype, memory_format=torch.channels_last if last else torch.preserve_format)
    for parent in list(network.modules()):
        for name, part in parent.named_children():
            if type(part) is nn.GroupNorm and part.affine:
                setattr(parent, name, ChannelsNorm.of(part))

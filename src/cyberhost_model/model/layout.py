"""How a network lies in memory where it computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lay_out(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a network, channels last where its attentions and half precision's convolutions are quicker so: on CUDA, and in half precision on a CPU. There
    its group norms work on copies, for torch's are up to ten times as slow on channels that lie last (docs/speed.md)."""
    half_on_cpu = device.type == "cpu" and dtype != torch.float32
    last = device.type == "cuda" or half_on_cpu
    network.to(device, dtype, memory_format=torch.channels_last if last else torch.preserve_format)
    if half_on_cpu:
        for part in network.modules():
            if isinstance(part, nn.GroupNorm) and _channels_first not in part._forward_pre_hooks.values():  # a host moves its model for every video
                part.register_forward_pre_hook(_channels_first)
                part.register_forward_hook(_channels_last)


def _channels_first(norm: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return given[0].contiguous(), *given[1:]


def _channels_last(norm: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
    return out.contiguous(memory_format=torch.channels_last) if out.ndim == 4 else out

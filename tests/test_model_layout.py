"""Channels last in half precision on a CPU, with norms that work on copies."""

from __future__ import annotations

import torch
from torch import nn

from cyberhost_model.model.layout import lay_out


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 16, 3), nn.GroupNorm(4, 16), nn.Conv2d(16, 8, 3))


def test_half_precision_lies_channels_last_and_its_norms_read_channels_first(monkeypatch):
    network, seen = small(), []
    plain = small().to(torch.bfloat16)
    for _ in range(2):
        lay_out(network, torch.device("cpu"), torch.bfloat16)
    monkeypatch.setattr(network[1], "forward", lambda x, norm=network[1]: (seen.append(x), nn.GroupNorm.forward(norm, x))[1])
    x = torch.randn(2, 8, 9, 9, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    out = network(x)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last) and not network[0].weight.is_contiguous()
    assert seen[0].is_contiguous() and out.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(out, plain(x), atol=2e-2)
    assert len(network[1]._forward_pre_hooks) == len(network[1]._forward_hooks) == 1, "moving it again adds nothing"


def test_full_precision_stays_as_it_is():
    network = small()
    lay_out(network, torch.device("cpu"), torch.float32)
    assert network[0].weight.is_contiguous() and not network[1]._forward_pre_hooks

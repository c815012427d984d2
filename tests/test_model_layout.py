"""Channels last on CUDA and in half precision on a CPU, with norms that keep them so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cyberhost_model.model.norms import ChannelsLastGroupNorm, group_norm_last, use_channels_last


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 16, 3), nn.GroupNorm(4, 16), nn.Conv2d(16, 8, 3))


def norm() -> nn.GroupNorm:
    torch.manual_seed(0)
    made = nn.GroupNorm(4, 16, eps=1e-3)
    nn.init.normal_(made.weight)
    nn.init.normal_(made.bias)
    return made.requires_grad_(False)


def test_half_precision_lies_channels_last_and_its_norms_read_channels_first(monkeypatch):
    network, seen = small(), []
    plain, original = small().to(torch.bfloat16), nn.GroupNorm.forward
    for _ in range(2):  # a host moves its model for every video
        use_channels_last(network, torch.device("cpu"), torch.bfloat16)
    x = torch.randn(2, 8, 9, 9, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    expected = plain(x)
    monkeypatch.setattr(nn.GroupNorm, "forward", lambda norm, x: (seen.append(x), original(norm, x))[1])
    with torch.no_grad():
        between, out = network[:2](x), network(x)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last) and not network[0].weight.is_contiguous()
    assert (
        seen[0].is_contiguous()
        and between.is_contiguous(memory_format=torch.channels_last)
        and out.is_contiguous(memory_format=torch.channels_last)
    )
    assert torch.allclose(out, expected, atol=2e-2)


def test_full_precision_stays_as_it_is():
    network, x = small(), torch.randn(2, 8, 9, 9)
    expected = network(x)
    use_channels_last(network, torch.device("cpu"), torch.float32)
    assert network[0].weight.is_contiguous() and torch.equal(network(x), expected)


def test_a_norm_keeps_its_parameters_and_what_is_no_plain_norm_stays():
    class Other(nn.GroupNorm):
        pass

    network = nn.ModuleList([norm(), Other(4, 16)]).eval()
    names, plain = list(network.state_dict()), network[0]
    use_channels_last(network, torch.device("cpu"), torch.float32)
    assert (
        type(network[0]) is ChannelsLastGroupNorm and type(network[1]) is Other and list(network.state_dict()) == names
    )
    assert network[0].weight is plain.weight and network[0].eps == plain.eps and not network[0].training


@pytest.mark.parametrize("dtype, error", [(torch.float16, 4e-4), (torch.bfloat16, 3e-3)])
@pytest.mark.parametrize("offset", [0.5, 30.0])
@pytest.mark.parametrize("shape", [(3, 9, 7, 16), (2, 5, 6, 4, 16)])  # pictures, and the frames of a clip as one
def test_group_norm_last_equals_torchs_in_full_precision(shape, offset, dtype, error):
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) + offset).to(dtype)
    expected = norm()(x.movedim(-1, 1).float()).movedim(1, -1)
    made = group_norm_last(x, norm().to(dtype))
    assert made.dtype == dtype and made.is_contiguous()
    assert (made.float() - expected).norm() / expected.norm() < error


def test_a_still_group_is_its_bias():
    assert torch.allclose(
        group_norm_last(torch.full((1, 4, 4, 16), 7.3), norm()), norm().bias.expand(1, 4, 4, 16), atol=1e-2
    )

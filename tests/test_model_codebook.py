"""The motion codebook and the region codebook attention around it (section 3.2, eq. 2-5)."""

from __future__ import annotations

import torch

from cyberhost_model.device import supported_device
from cyberhost_model.model.region_attention import MotionCodebook, RegionCodebookAttention, gram_schmidt
from model_helpers import MINI


def make(motion=True, identity=True, keypoints=0):
    torch.manual_seed(0)
    module = RegionCodebookAttention(24, MINI.region, keypoints, 32, motion, identity)
    for name in ("motion_out", "identity_out"):
        if hasattr(module, name):
            torch.nn.init.normal_(getattr(module, name).weight, std=0.2)
    return module


def test_gram_schmidt_is_the_classical_process():
    vectors = torch.randn(2, 5, 9, dtype=torch.float64)
    expected = []
    for k in range(5):
        v = vectors[:, k]
        for e in expected:
            v = v - (v * e).sum(-1, keepdim=True) * e
        expected.append(v / v.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(gram_schmidt(vectors), torch.stack(expected, 1), rtol=1e-4, atol=1e-5)


def test_codebooks_stay_orthogonal_in_training():
    torch.manual_seed(0)
    book = MotionCodebook(6, 4, 16)
    optimizer = torch.optim.SGD(book.parameters(), lr=0.5)
    target = torch.randn(1, 6, 16)
    losses = []
    for _ in range(5):
        spatial, temporal = book()
        for vectors, n in ((spatial, 6), (temporal, 4)):
            assert vectors.shape == (1, n, 16)
            torch.testing.assert_close(vectors[0] @ vectors[0].T, 16 * torch.eye(n), rtol=0, atol=1e-4)
        loss = (spatial - target).square().mean() + temporal[..., 0].square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert book.spatial.grad.any() and book.temporal.grad.any()
        optimizer.step()
    assert losses[-1] < losses[0]


def test_codebook_in_half_precision_is_orthogonal():
    book = MotionCodebook(6, 4, 16).half()
    spatial, _ = book()
    assert spatial.dtype == torch.float16
    torch.testing.assert_close((spatial[0].float() @ spatial[0].float().T), 16 * torch.eye(6), rtol=0, atol=0.05)


@torch.no_grad()
def test_an_apple_gpu_leaves_to_the_cpu_what_it_lacks():
    assert supported_device(torch.device("mps")) == torch.device("cpu") and supported_device(
        torch.device("cuda", 1)
    ) == torch.device("cuda", 1)


def test_equation_5():
    """F_out = (F_motion + F_id) * M_r + F_in, with F_motion and F_id of eq. 2-4 written out."""
    module = make()
    x, identity = torch.randn(3, 24, 4, 6), torch.randn(1, 5, 8)
    out, logits, heatmaps = module(x, 3, identity, heatmaps=True)
    assert logits.shape == (3, 1, 4, 6) and heatmaps is None

    def attention(query, key, value):
        split = [t.unflatten(-1, (2, -1)).transpose(-3, -2) for t in (query, key, value)]
        weights = (split[0] @ split[1].mT / 8**0.5).softmax(-1)  # 2 heads of 8
        return (weights @ split[2]).transpose(-3, -2).flatten(-2)

    q = module.to_q(module.norm(x.flatten(2).mT))
    spatial, temporal = module.codebook()
    q_temporal = q + module.frame_position.pe[0, :3, None]
    motion = attention(q, *module.spatial_kv(spatial).expand(3, -1, -1).chunk(2, -1))
    motion = motion + attention(q_temporal, *module.temporal_kv(temporal).expand(3, -1, -1).chunk(2, -1))
    described = attention(q, *module.descriptor(identity).expand(3, -1, -1).chunk(2, -1))
    added = (module.motion_out(motion) + module.identity_out(described)).mT.unflatten(2, (4, 6))
    torch.testing.assert_close(out, added * logits.sigmoid() + x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, module.mask(x))


@torch.no_grad()
def test_temporal_codebook_knows_the_frame():
    """Equal frames in, unequal frames out: what makes C_temp temporal."""
    module = make(identity=False)
    x = torch.randn(1, 24, 4, 4).expand(3, -1, -1, -1)
    out, _, _ = module(x, 3, None, heatmaps=False)
    assert (out[0] - out[2]).abs().max() > 1e-4
    # and the order of the clips of a batch does not matter
    both, _, _ = module(torch.cat([x, 2 * x]), 3, None, heatmaps=False)
    torch.testing.assert_close(both[:3], out, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_mask_keeps_the_rest_of_the_picture():
    module = make()
    torch.nn.init.zeros_(module.mask[-1].weight)
    torch.nn.init.constant_(module.mask[-1].bias, -50.0)
    x = torch.randn(3, 24, 4, 4)
    out, _, _ = module(x, 3, torch.randn(1, 5, 8), heatmaps=False)
    torch.testing.assert_close(out, x)


@torch.no_grad()
def test_no_descriptor_is_a_descriptor_of_zeros():
    module = make()
    x = torch.randn(3, 24, 4, 4)
    absent, _, _ = module(x, 3, None, heatmaps=False)
    zeros, _, _ = module(x, 3, torch.zeros(1, 5, 8), heatmaps=False)
    torch.testing.assert_close(absent, zeros)

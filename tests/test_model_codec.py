"""ReferenceCodec: linear on the way in, exact at rest, sharp because it may look at the reference."""

import numpy as np
import pytest
import torch

from cyberhost_model.data.drawn import drawn_still
from cyberhost_model.data.poses import random_pose
from cyberhost_model.data.puppet import Puppet
from cyberhost_model.errors import ModelError
from cyberhost_model.model.codec import (
    ReferenceCodec,
    ReferenceCodecConfig,
    components,
    fit_components,
    hold_still,
    load_codec,
    save_codec,
    warp,
)
from cyberhost_model.training.latents import half_size, to_signed


@pytest.fixture(scope="module")
def frames() -> list[dict[str, torch.Tensor]]:
    """A puppet's frames with flow and what is seen, in two batches."""
    rng, puppet = np.random.default_rng(0), Puppet(drawn_still(11, (128, 128)))
    batches = []
    for _ in range(2):
        rendered = [puppet.render(random_pose(rng, puppet)) for _ in range(4)]
        batches.append(
            {
                "frames": to_signed(np.stack([r.picture_u8 for r in rendered])),
                "flow": torch.from_numpy(np.stack([half_size(r.flow) for r in rendered])).movedim(-1, 1),
                "seen": torch.from_numpy(np.stack([half_size(r.seen) for r in rendered]))[:, None],
                "weight": torch.ones(4, 1, 64, 64),
                "reference": to_signed(puppet.still.picture_u8)[None],
            }
        )
    return batches


@pytest.fixture(scope="module")
def codec(frames) -> ReferenceCodec:
    torch.manual_seed(0)
    codec = ReferenceCodec(ReferenceCodecConfig(widths=(8, 16, 16)))
    fit_components(codec, frames)
    return codec.eval()


def test_components_are_orthonormal(codec):
    for name in ("flow", "novelty", "colour"):
        basis = getattr(codec, f"basis_{name}").flatten(1)
        assert torch.allclose(basis @ basis.T, torch.eye(len(basis)), atol=1e-4)


def test_encode_then_expand_keeps_most_of_the_motion(codec, frames):
    batch = frames[1]
    z = codec.encode(batch["frames"], batch["flow"], batch["seen"])
    assert z.shape == (4, 24, 8, 8)
    out = codec.expand(z)
    true = components(batch["frames"], batch["flow"], batch["seen"])
    left = (out["flow"] - true["flow"]).pow(2).sum() / true["flow"].pow(2).sum()
    assert left < 0.05


def test_a_frame_equal_to_the_reference_codes_as_zero_and_decodes_to_itself(codec, frames):
    reference = frames[0]["reference"]
    z = codec.encode(reference[:, None], torch.zeros(1, 1, 2, 64, 64), torch.ones(1, 1, 1, 64, 64))
    assert z.shape == (1, 1, 24, 8, 8) and z.abs().max() == 0
    with torch.no_grad():
        decoded = codec.decode(z, reference)
    assert (decoded[0, 0] - reference[0]).abs().max() < 0.06  # the mask never quite closes


def test_decode_at_another_size_uses_the_larger_picture(codec, frames):
    reference = frames[0]["reference"]
    large = torch.nn.functional.interpolate(reference, scale_factor=2.0, mode="bilinear")
    with torch.no_grad():
        out = codec.decode(torch.zeros(1, 3, 24, 8, 8), reference, large)
    assert out.shape == (1, 3, 3, 256, 256)
    assert (out[0, 1] - large[0]).abs().max() < 0.06


def test_flow_says_where_a_pixel_comes_from():
    picture = torch.rand(1, 3, 16, 16)
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0], flow[:, 1] = 2, -1
    moved = warp(picture, flow)
    assert torch.allclose(moved[0, :, 5, 5], picture[0, :, 4, 7], atol=1e-5)


def test_tiny_flows_are_held_still():
    flow = torch.tensor([0.05, 0.5]).view(1, 1, 1, 2).expand(1, 2, 1, 2)
    held = hold_still(flow)
    assert held[..., 0].abs().max() == 0 and held[..., 1].min() > 0.35


def test_save_and_load(codec, tmp_path):
    save_codec(codec, tmp_path, torch.float32)
    again = load_codec(tmp_path)
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(codec.encode_reference(picture), again.encode_reference(picture))
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="damaged"):
        load_codec(tmp_path)

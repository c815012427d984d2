"""Stable Diffusion's VAE behind the interface of a codec, at tiny random size."""

import pytest
import torch
from diffusers import AutoencoderKL

from cyberhost_model.codecs.base import for_reference_net
from cyberhost_model.codecs.sd_vae import SdVaeCodec
from cyberhost_model.errors import ModelError


@pytest.fixture(scope="module")
def codec() -> SdVaeCodec:
    torch.manual_seed(0)
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    vae = AutoencoderKL(
        down_block_types=down, up_block_types=up, block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1
    )
    return SdVaeCodec(vae).eval()


@torch.no_grad()
def test_frames_code_like_references_and_decode_to_their_size(codec):
    frames = torch.rand(2, 3, 3, 64, 32) * 2 - 1
    z = codec.encode(frames)
    assert z.shape == (2, 3, 4, 8, 4)
    assert torch.allclose(z[1, 2], codec.encode_reference(frames[1, 2:3])[0], atol=1e-5)
    out = codec.decode(z, frames[:, 0])
    assert out.shape == frames.shape and out.abs().max() <= 1
    assert codec.decode(z, frames[:, 0], torch.zeros(2, 3, 128, 64)).shape == (2, 3, 3, 128, 64)


@torch.no_grad()
def test_a_long_clip_is_decoded_a_few_frames_at_a_time(codec, monkeypatch):
    z, counts, decode = torch.rand(1, 10, 4, 8, 4), [], codec.vae.decode
    monkeypatch.setattr(codec.vae, "decode", lambda some: (counts.append(len(some)), decode(some))[1])
    out = codec.decode(z, torch.zeros(1, 3, 64, 32))
    assert out.shape == (1, 10, 3, 64, 32) and counts == [4, 4, 2]
    assert torch.allclose(out[:, 7:8], codec.decode(z[:, 7:8], torch.zeros(1, 3, 64, 32)), atol=1e-5)


def test_motion_frames_are_latents_as_they_are(codec):
    z, r = torch.rand(1, 4, 4, 8, 8), torch.rand(1, 4, 8, 8)
    assert for_reference_net(codec.kind, z, r) is z


def test_a_folder_without_a_vae_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no usable VAE"):
        SdVaeCodec.load(tmp_path)

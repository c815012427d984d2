"""What the peers' models need beyond the paper's: each against the library that defines it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from cyberhost_model.config import AudioConfig, DiffusionConfig, SamplingConfig
from cyberhost_model.errors import ModelError
from cyberhost_model.model.condition_encoders import ImageToken
from cyberhost_model.model.conditions import ClipInputs, Conditions, ReferenceInputs
from cyberhost_model.model.norms import FrameNorm
from cyberhost_model.porting.parts import save_speech
from cyberhost_model.runtime.loading import load_speech
from cyberhost_model.sampler.schedule import Schedule, alphas_cumprod
from cyberhost_model.speech.level import speech_level
from cyberhost_model.speech.whisper import WhisperEncoder
from model_helpers import FULL, make_network, noisy_clip, raw_conditions

SECONDS_30 = 480_000


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """(transformers' model, ours through its folder)."""
    torch.manual_seed(0)
    size = {
        "d_model": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_layers": 1,
    }
    model = WhisperModel(WhisperConfig(**size, decoder_attention_heads=2, decoder_ffn_dim=16)).eval()
    ours = WhisperEncoder({**size, "num_mel_bins": 80})
    state = {
        f"model.{k.removeprefix('encoder.')}": v
        for k, v in model.state_dict().items()
        if k.startswith("encoder.") and "encoder.layer_norm" not in k
    }
    ours.load_state_dict(state)
    folder = tmp_path_factory.mktemp("whisper")
    ours.save_pretrained(folder, torch.float32)
    return model, load_speech(folder)


def speech(samples: int) -> np.ndarray:
    time = np.arange(samples) / 16000
    return (0.3 * np.sin(2 * np.pi * 180 * time) * np.sin(2.5 * time) ** 2).astype(np.float32)


@torch.no_grad()
def test_whisper_hears_what_transformers_hears(whisper):
    model, ours = whisper
    assert isinstance(ours, WhisperEncoder) and (ours.layers, ours.dim) == (3, 16)
    sound = speech(SECONDS_30)
    mel = WhisperFeatureExtractor()(sound, sampling_rate=16000, return_tensors="pt").input_features
    states = model.encoder(mel, output_hidden_states=True).hidden_states
    last = []
    model.encoder.layers[-1].register_forward_hook(
        lambda _, __, out: last.append(out[0] if isinstance(out, tuple) else out)
    )
    model.encoder(mel)
    expected = torch.stack([*states[:-1], last[0]], 2)[0]  # transformers norms the last one
    found = ours.features(sound)
    assert found.shape == (1500, 3, 16)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_whisper_in_blocks_and_beyond_one_segment(whisper):
    """However the sound comes in; 50 steps a second; a second segment begins after 30 s."""
    ours, sound = whisper[1], speech(SECONDS_30 + 24_500)
    level = speech_level([sound])
    whole = torch.cat(list(ours.stream([sound], level)))
    assert len(whole) == 1500 + 24_500 // 320
    for size in (7_001, 100_000):
        parts = torch.cat(list(ours.stream([sound[i : i + size] for i in range(0, len(sound), size)], level)))
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    windows = torch.stack(list(ours.stream_windows([sound], level, 788, 25.0, 10)))
    assert windows.shape == (788, 10, 3, 16) and torch.equal(windows[40], whole[76:86])
    for samples in (1, 150, 201, 333):  # shorter than the spectrum's window
        short = list(ours.stream([speech(samples) + 0.01], level))
        assert [piece.shape for piece in short] == [(1, 3, 16)] and short[0].isfinite().all()
    assert not list(ours.stream([], level))


def test_a_whisper_folder_that_does_not_fit(whisper, tmp_path):
    whisper[1].save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="no usable speech encoder"):
        load_speech(tmp_path)
    with pytest.raises(ModelError, match="config.json cannot be read"):
        save_speech(tmp_path / "none", tmp_path / "out", torch.float32)


@torch.no_grad()
def test_the_image_token_is_clips(tmp_path):
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 24,
    }
    clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, image_size=224, patch_size=56)).eval()
    clip.save_pretrained(tmp_path)
    y, x = np.mgrid[0:300, 0:200]
    picture = np.stack([x, y * 0.8, (x + y) / 2], -1).astype(np.uint8)
    pixels = (
        CLIPImageProcessor().preprocess(Image.fromarray(picture).resize((224, 224)), return_tensors="pt").pixel_values
    )  # as AnimateAnyone does
    ours = ImageToken.load(tmp_path)(torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1)
    torch.testing.assert_close(ours, clip(pixels).image_embeds, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="no usable image encoder"):
        ImageToken.load(tmp_path / "none")


@torch.no_grad()
def test_a_frames_motion_norm_does_not_see_the_others():
    norm, x = FrameNorm(4, 8), torch.randn(2, 8, 3, 4, 4)
    torch.nn.init.normal_(norm.weight)
    alone = [norm(x[:, :, i : i + 1]) for i in range(3)]
    torch.testing.assert_close(norm(x), torch.cat(alone, 2))
    assert (torch.nn.functional.group_norm(x, 4, norm.weight, norm.bias) - norm(x)).abs().max() > 1e-2
    framewise = make_network(dataclasses.replace(FULL, unet=dataclasses.replace(FULL.unet, motion_norm_per_frame=True)))
    plain = make_network(FULL)
    assert framewise.state_dict().keys() == plain.state_dict().keys()
    modules = [m for m in framewise.modules() if isinstance(m, AnimateDiffTransformer3D)]
    assert modules and all(isinstance(m.norm, FrameNorm) for m in modules)


@torch.no_grad()
def test_the_image_token_takes_the_place_of_speech():
    network = make_network(dataclasses.replace(FULL, image_token=True))
    assert not list(network.audio_projection.parameters())
    raw = raw_conditions(FULL)
    token, (noisy, timestep) = torch.randn(2, 16), noisy_clip(FULL)
    video = network.reference_conditions(ReferenceInputs(raw["reference_latent"], image=token))
    clip = network.clip_conditions(video, ClipInputs(raw["audio"]))  # the speech is not heard
    every = dataclasses.replace(clip, audio=token[:, None, None].expand(-1, 3, -1, -1))
    ours = network(noisy, timestep, clip).prediction
    torch.testing.assert_close(ours, network(noisy, timestep, every).prediction)
    other = network.clip_conditions(
        network.reference_conditions(ReferenceInputs(raw["reference_latent"], image=token + 1)), ClipInputs()
    )
    assert (ours - network(noisy, timestep, other).prediction).abs().max() > 1e-3
    none = network(noisy, timestep, clip.without_audio().without_reference()).prediction
    torch.testing.assert_close(none, network(noisy, timestep, Conditions()).prediction)


@torch.no_grad()
def test_speech_without_a_projection():
    audio = AudioConfig(dim=16, layers=2, tokens=3, project=False)
    network = make_network(dataclasses.replace(FULL, audio=audio))
    features = torch.randn(2, 3, 3, 2, 16)
    clip = network.clip_conditions(Conditions(reference_present=(False, False)), ClipInputs(features))
    assert torch.equal(clip.audio, features.flatten(2, 3))
    with pytest.raises(ValueError, match="audio.dim must equal unet.cross_attention_dim"):
        dataclasses.replace(FULL, audio=dataclasses.replace(audio, dim=12))


def test_linear_betas_are_ddims():
    """The peers' scheduler: linear betas rescaled to zero signal, trailing steps, v."""
    config = DiffusionConfig(prediction="v", beta_schedule="linear", zero_terminal_snr=True)
    peers = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    peers.set_timesteps(5)
    ours = Schedule(config, SamplingConfig(sampler="ddim", steps=5))
    assert ours.timesteps.tolist() == peers.timesteps.tolist() == [999, 799, 599, 399, 199]
    inner = slice(0, 999)  # diffusers' multistep solver keeps the last signal a little above zero, where DDIM has zero
    torch.testing.assert_close(alphas_cumprod(config)[inner], peers.alphas_cumprod[inner], rtol=1e-4, atol=1e-6)
    z_ours = z_peers = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in peers.timesteps:
        guess = torch.sin(z_peers * 3 + t / 500)
        z_ours = ours.step(torch.sin(z_ours * 3 + t / 500), t, z_ours)
        z_peers = peers.step(guess, t, z_peers).prev_sample
    torch.testing.assert_close(z_ours, z_peers, rtol=2e-3, atol=2e-3)
    with pytest.raises(ValueError, match="beta_schedule must be"):
        dataclasses.replace(config, beta_schedule="cosine")

"""Tiny checkpoints of others in the formats they are published in."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from peer_layouts import family
from portrait_models import write_portraits
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from cyberhost_model.config import Preset
from cyberhost_model.hub.registry import load_adapter
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.porting import animate_anyone, echomimic_v2
from model_helpers import FULL

MODULES = {"animate-anyone": animate_anyone, "echomimic-v2": echomimic_v2}


def small(name: str) -> Preset:
    """The adapter's preset at the size of the tests' networks."""
    full = load_adapter(name).full_size()
    unet = dataclasses.replace(FULL.unet, motion_norm_per_frame=full.unet.motion_norm_per_frame)
    audio = dataclasses.replace(full.audio, dim=16, layers=2 if name.startswith("echomimic-v2") else 3, tokens=2)
    sizes = {
        "size": (128, 128),
        "frames": 3,
        "motion_frames": full.motion_frames,
        "pose_channels": (4, 8, 8, 8),
    }
    sampling = dataclasses.replace(full.sampling, overlap=min(full.sampling.overlap, 1))
    return dataclasses.replace(full, unet=unet, audio=audio, region=FULL.region, sampling=sampling, **sizes)


def files_of(
    name: str, state: dict[str, torch.Tensor], widths: tuple[int, ...], context: int
) -> dict[str, dict[str, torch.Tensor]]:
    """Weights of ours as the files that are published, by name."""
    if name == "animate-anyone":
        return family(state, "pose_guider.pth")
    return family(state, "pose_encoder.pth", cross_attention=False)


def trained(name: str) -> dict[str, torch.Tensor]:
    """Weights none of which are zero, so that every layer acts."""
    state = CyberHostNetwork(small(name)).state_dict()
    return {
        key: value if value.any() or not value.is_floating_point() else torch.randn_like(value) * 0.05
        for key, value in state.items()
    }


def write_published(root: Path) -> None:
    """Parts of all, tiny, in the formats they are published in: pickles, and transformers' folders."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    AutoencoderKL(**blocks, block_out_channels=(8,) * 4, norm_num_groups=4, layers_per_block=1).save_pretrained(
        root / "vae"
    )
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 16,
    }
    clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, image_size=224, patch_size=112))
    clip.config.save_pretrained(root / "image")
    torch.save(
        {**clip.state_dict(), "vision_model.embeddings.position_ids": torch.arange(5)[None]},
        root / "image/pytorch_model.bin",
    )
    attention = {
        "d_model": 16,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_layers": 1,
    }
    WhisperForConditionalGeneration(
        WhisperConfig(**attention, decoder_attention_heads=2, decoder_ffn_dim=16)
    ).save_pretrained(root / "whisper")
    Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            conv_dim=[8] * 7,
            num_conv_pos_embedding_groups=2,
        )
    ).save_pretrained(root / "wav2vec2")
    write_portraits(root)
    for name in MODULES:
        (root / name).mkdir()
        for file, weights in files_of(name, trained(name), (32, 64), 16).items():
            torch.save(weights, root / name / file)
    fast = root / "echomimic-v2-fast"
    fast.mkdir()
    for file in echomimic_v2.FILES:
        shutil.copy(root / "echomimic-v2" / file, fast / echomimic_v2.FAST_FILES.get(file, file))


def parts(root: Path, name: str) -> dict[str, str]:
    """What `convert` takes in place of the registry's names; the detector is the embedded one."""
    names = {
        "network": name,
        "vae": "vae",
        "image": "image",
        "speech": "whisper" if name.startswith("echomimic-v2") else "wav2vec2",
    }
    return {
        **{part: str(root / names[part]) for part in load_adapter(name).parts if part in names},
        "detector": "embedded",
    }

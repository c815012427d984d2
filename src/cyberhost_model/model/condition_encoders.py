"""Encoders of the conditions: speech, pose maps, hand clarity, crops of face and hands, and CLIP's image token.

Each makes what the U-Nets read (`model.conditions.Conditions`) of raw inputs (`ReferenceInputs`, `ClipInputs`). Last
layers are zero at the start where the condition is added to pretrained features.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from cyberhost_model.config import AudioConfig, PortraitConfig, RegionConfig
from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import LARGEST_CONFIG, check_entries, read_shapes
from cyberhost_model.perception.crops import FACE_CROP, HAND_CROP
from cyberhost_model.reading import one_line, read_object

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

ARCFACE_DIM = 512
ARCFACE_TOKENS = 4
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class AudioTokens(nn.Module):
    """Speech features as tokens without a projection: one for each layer of each step (`AudioConfig.project`)."""

    def forward(self, audio: Tensor) -> Tensor:
        """Flatten audio (B, F, L, layers, D) -> (B, F, L * layers, D)."""
        return audio.flatten(2, 3)


class AudioProjection(nn.Module):
    """Multi-stage speech features -> the tokens that a frame's cross attention reads (section 3.1).

    It mixes all layers of the speech encoder at each step of a frame's window. The last layer is zero at the start.
    """

    def __init__(self, config: AudioConfig, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)  # the layers' scales differ widely
        self.layer_weight = nn.Parameter(torch.ones(config.layers, 1))
        self.mix = nn.Linear(config.layers * config.dim, dim)
        self.position = nn.Parameter(torch.randn(config.tokens, dim) * 0.02)
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        nn.init.zeros_(self.out[-1].weight)
        nn.init.zeros_(self.out[-1].bias)

    def forward(self, audio: Tensor) -> Tensor:
        """Project audio (B, F, L, layers, D_audio), each frame's window of L encoder steps -> (B, F, L, D)."""
        audio = self.norm(audio) * self.layer_weight
        return self.out(self.mix(audio.flatten(-2)) + self.position)


class WindowProjection(nn.Module):
    """A frame's whole window of speech features at once -> the tokens of Hallo's audio attentions (`portrait`)."""

    def __init__(self, config: AudioConfig, portrait: PortraitConfig, dim: int) -> None:
        super().__init__()
        self.proj1 = nn.Linear(config.tokens * config.layers * config.dim, portrait.audio_hidden)
        self.proj2 = nn.Linear(portrait.audio_hidden, portrait.audio_hidden)
        self.proj3 = nn.Linear(portrait.audio_hidden, portrait.audio_tokens * dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, audio: Tensor) -> Tensor:
        """Project audio (B, F, L, layers, D_audio) -> (B, F, tokens, D)."""
        hidden = self.proj2(self.proj1(audio.flatten(2)).relu()).relu()
        return self.norm(self.proj3(hidden).unflatten(-1, (-1, self.norm.normalized_shape[0])))


class FaceTokens(nn.Module):
    """ArcFace's descriptor of the face, not normalised -> tokens of spatial cross attention (`portrait`)."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(ARCFACE_DIM, tokens * dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, face: Tensor) -> Tensor:
        """Project a descriptor (B, 512) -> (B, tokens, D); zeros, for no face, have tokens of their own."""
        return self.norm(self.proj(face).unflatten(-1, (-1, self.norm.normalized_shape[0])))


class PoseEncoder(nn.Module):
    """Pose maps of the picture's size -> a residual on the U-Net's first features (section 3.3).

    Strided convolutions, the last one zero at the start: diffusers' ControlNet embedding, as in the AnimateAnyone
    family.
    """

    def __init__(self, channels: tuple[int, ...], out_channels: int, pool: int) -> None:
        super().__init__()
        self.pool = pool
        self.layers = ControlNetConditioningEmbedding(out_channels, 3, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Encode a skeleton or body movement map: maps (B, 3, H, W) in 0..1 -> (B, C0, h, w)."""
        if self.pool > 1:
            maps = functional.avg_pool2d(maps, self.pool)
        return self.layers(maps)


class HandClarityEmbedding(nn.Module):
    """Hand clarity score -> Fourier features -> a residual on the time embedding, zero at the start (section 3.3).

    A score of 0 or below (no hand is visible) adds nothing.
    """

    def __init__(self, time_embed_dim: int, bands: int = 8) -> None:
        super().__init__()
        # half a period to many periods over the usual range 0..1
        self.register_buffer(
            "frequencies", math.pi * 2.0 ** torch.linspace(-1, 3, bands, device="cpu"), persistent=False
        )
        self.hidden = nn.Linear(2 * bands, time_embed_dim // 4)
        self.out = nn.Linear(time_embed_dim // 4, time_embed_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, score: Tensor) -> Tensor:
        """Embed a score (B, F) -> (B, F, time_embed_dim)."""
        phase = score[..., None] * self.frequencies
        features = torch.cat([phase.sin(), phase.cos()], dim=-1)
        residual = self.out(nn.functional.silu(self.hidden(features)))
        return torch.where(score[..., None] > 0, residual, 0.0)


class CropEncoder(nn.Module):
    """Convolutions of the Regional Image Encoder R (section 3.2): a crop -> a token for each pixel of the last layer.

    Every entry of `channels` halves the crop; all but the first have a residual block.
    """

    def __init__(self, crop: int, channels: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels[0], 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            DownEncoderBlock2D(a, b, num_layers=1, resnet_groups=8)
            for a, b in zip(channels[:-1], channels[1:], strict=True)
        )
        side = crop // 2 ** len(channels)
        self.position = nn.Parameter(torch.randn(1, side * side, channels[-1]) * 0.02)
        self.norm = nn.LayerNorm(channels[-1])
        self.out = nn.Linear(channels[-1], dim)

    def forward(self, crops: Tensor) -> Tensor:
        """Encode crops (B, 3, crop, crop) in -1..1 -> (B, tokens, dim)."""
        x = self.conv_in(crops)
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x.flatten(2).mT + self.position))


class HandEncoder(nn.Module):
    """Both hands' crops -> one identity descriptor: the tokens of the left hand, then those of the right."""

    def __init__(self, config: RegionConfig) -> None:
        super().__init__()
        self.encoder = CropEncoder(HAND_CROP, config.hand_channels, config.identity_dim)
        self.side = nn.Parameter(torch.randn(2, 1, config.identity_dim) * 0.02)

    def forward(self, hands: Tensor) -> Tensor:
        """Encode hands (B, 2, 3, 128, 128) in -1..1, left and right, zeros for an absent one -> (B, 2 * tokens, D)."""
        tokens = self.encoder(hands.flatten(0, 1)).unflatten(0, (-1, 2)) + self.side
        visible = hands.flatten(2).any(dim=-1)[..., None, None]  # the descriptor of an absent hand is zero
        return (tokens * visible).flatten(1, 2)


class FaceEncoder(nn.Module):
    """Face -> its identity descriptor, from a crop by `CropEncoder` or from an ArcFace feature of the caller.

    ArcFace (the paper's choice) is a pretrained network under a non-commercial licence; only its 512 numbers enter.
    """

    def __init__(self, config: RegionConfig) -> None:
        super().__init__()
        self.takes_arcface = not config.face_channels
        if self.takes_arcface:
            self.project = nn.Linear(ARCFACE_DIM, ARCFACE_TOKENS * config.identity_dim)
            self.norm = nn.LayerNorm(config.identity_dim)
        else:
            self.encoder = CropEncoder(FACE_CROP, config.face_channels, config.identity_dim)

    def forward(self, face: Tensor) -> Tensor:
        """Encode a face -> (B, tokens, D).

        face (B, 3, 256, 256) in -1..1, or (B, 512) for an ArcFace preset; zeros for an absent one.
        """
        if self.takes_arcface:
            tokens = self.norm(self.project(face).unflatten(-1, (ARCFACE_TOKENS, -1)))
        else:
            tokens = self.encoder(face)
        return tokens * face.flatten(1).any(dim=-1)[:, None, None]


class ImageToken(nn.Module):
    """CLIP's embedding of the reference picture, which presets with `image_token` attend to (AnimateAnyone)."""

    def __init__(self, clip: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.tensor(_CLIP_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_CLIP_STD).view(1, 3, 1, 1), persistent=False)

    @staticmethod
    def load(folder: str | Path) -> ImageToken:
        """Load a transformers `CLIPVisionModelWithProjection` folder. Raises ModelError when it does not fit."""
        from transformers import CLIPVisionModelWithProjection  # late: few presets have this part

        folder = Path(folder)
        try:
            weights = read_shapes(folder / "model.safetensors")
            check_entries(read_object(folder / "config.json", LARGEST_CONFIG), len(weights))
            clip, info = CLIPVisionModelWithProjection.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # transformers raises anything for a configuration that makes no sense
            raise ModelError(f"{folder}: no usable image encoder ({one_line(error)}); get the model again") from error
        if wrong := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
            raise ModelError(
                f"{folder}: {len(wrong)} weights of the image encoder are missing or unknown, such as {wrong[0]}; get "
                "the model again"
            )
        return ImageToken(clip.float()).eval()

    def forward(self, picture: Tensor) -> Tensor:
        """Embed a picture (B, 3, H, W) in -1..1 -> (B, D); it is stretched to a square, as AnimateAnyone does."""
        side, device = self.clip.config.image_size, self.mean.device
        pixels = ((picture.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        # Pillow, as AnimateAnyone does: it rounds to bytes, which no other resampling does in the same way.
        small = [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in pixels]
        unit = torch.from_numpy(np.stack(small)).to(device).permute(0, 3, 1, 2) / 255
        return self.clip(((unit - self.mean) / self.std).to(next(self.clip.parameters()).dtype)).image_embeds

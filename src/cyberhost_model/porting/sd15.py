"""Stable Diffusion 1.5's U-Net twice and AnimateDiff's motion modules: the paper's initialisation (section 4.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyberhost_model.config import AudioConfig, Preset, UNetConfig, preset
from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import read_config, read_tensors
from cyberhost_model.porting.convert import Adapter
from cyberhost_model.porting.keymap import Converted, KeyMap, Rule

UNET = (Rule(r"(.+)", (r"reference_net.unet.\1", r"denoising_unet.unet.\1")),)
MOTION = (Rule(r"((?:down_blocks\.\d+|up_blocks\.\d+|mid_block)\.motion_modules\..+)", (r"denoising_unet.unet.\1",)),)
OURS = (
    r"denoising_unet\.(?!unet\.).+",
    r"(audio_projection|reference_pose_encoder|pose_encoder|face_encoder|hand_encoder)\..+",
)
"""What the paper adds; it begins as zero in effect."""
MIDDLE = r"denoising_unet\.unet\.mid_block\.motion_modules\..+"
"""Motion module of the middle block, which AnimateDiff v3 lacks: it then begins as the identity."""


def collect(unet: dict[str, Tensor], motion: dict[str, Tensor]) -> KeyMap:
    """Map the weights of a `UNet2DConditionModel` and a `MotionAdapter`.

    Raises ModelError naming what cannot be mapped.
    """
    has_middle = any(name.startswith("mid_block.") for name in motion)
    keys = KeyMap(OURS if has_middle else (*OURS, MIDDLE))
    keys.take("unet", unet, UNET)
    keys.take("motion", motion, MOTION)
    return keys


def preset_like(
    unet: dict[str, Any], motion: dict[str, Any], speech: AudioConfig, template: Preset | None = None
) -> Preset:
    """Build the preset `sd15` (or `template`) at the sizes in diffusers' configurations of U-Net and motion adapter."""
    template = template or preset("sd15")
    levels = len(unet["block_out_channels"])
    if deeper := [
        stage for stage in template.region.stages if stage[-1].isdigit() and int(stage.rpartition(".")[2]) >= levels
    ]:
        raise ModelError(
            f"the U-Net has {levels} levels, and preset {template.name} needs its {deeper[0]}; take a deeper one"
        )
    return dataclasses.replace(template, unet=unet_config(unet, motion, template.unet), audio=speech)


def unet_config(unet: dict[str, Any], motion: dict[str, Any] | None, template: UNetConfig) -> UNetConfig:
    """Convert diffusers' configurations to a `UNetConfig`.

    Raises ModelError for a U-Net of another kind than Stable Diffusion 1.x.
    """
    widths = tuple(unet["block_out_channels"])
    plain = {
        "in_channels": 4,
        "out_channels": 4,
        "act_fn": "silu",
        "class_embed_type": None,
        "addition_embed_type": None,
        "dual_cross_attention": False,
    }
    plain |= {
        "resnet_time_scale_shift": "default",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "center_input_sample": False,
    }
    other = [name for name, value in plain.items() if unet.get(name, value) != value]
    if other or not isinstance(unet["cross_attention_dim"], int):
        raise ModelError(
            f"the U-Net is not of Stable Diffusion 1's kind ({', '.join(other) or 'cross_attention_dim'}); take one "
            "that is"
        )

    def levels(value: int | list[int]) -> tuple[int, ...]:
        return (value,) * len(widths) if isinstance(value, int) else tuple(value)

    motion = motion or {}
    return dataclasses.replace(
        template,
        block_out_channels=widths,
        attention_levels=tuple(kind.startswith("CrossAttn") for kind in unet["down_block_types"]),
        layers_per_block=unet["layers_per_block"],
        heads=levels(unet["attention_head_dim"]),  # diffusers' name for the number of heads of a 2D U-Net
        motion_heads=levels(motion.get("motion_num_attention_heads", 8)),
        cross_attention_dim=unet["cross_attention_dim"],
        norm_num_groups=unet["norm_num_groups"],
        use_linear_projection=unet.get("use_linear_projection", False),
        motion_max_frames=motion.get("motion_max_seq_length", 32),
    )


def network(paths: Mapping[str, Path], template: Preset | None) -> Converted:
    """Load the network from diffusers' folders of U-Net and motion adapter, at their sizes. Raises ModelError."""
    unet, motion, speech = (read_config(paths[part] / "config.json") for part in ("unet", "motion", "speech"))
    heard = AudioConfig(dim=speech["hidden_size"], layers=speech["num_hidden_layers"] + 1, tokens=10)
    tensors = (read_tensors(paths[part] / "diffusion_pytorch_model.safetensors") for part in ("unet", "motion"))
    return collect(*tensors).into(preset_like(unet, motion, heard, template))


ADAPTER = Adapter(
    "sd15",
    "the paper's network as its training begins",
    {
        "unet": "sd15-unet",
        "motion": "animatediff-v2",
        "vae": "sd15-vae",
        "speech": "wav2vec2",
        "detector": "dwpose",
        "face": "arcface",
    },
    network,
    partial(preset, "sd15"),
    room=9_800_000_000,
    dtype=torch.float32,  # to be trained
)

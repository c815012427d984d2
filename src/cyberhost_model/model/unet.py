"""Construction of diffusers' U-Nets from a `UNetConfig`."""

from __future__ import annotations

from typing import Any

from diffusers import UNet2DConditionModel, UNetMotionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import nn

from cyberhost_model.config import UNetConfig
from cyberhost_model.model.norms import FrameNorm


def build_unet2d(config: UNetConfig, channels: int) -> UNet2DConditionModel:
    """Build Stable Diffusion's 2D U-Net of this size, randomly initialised."""
    down = tuple("CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in config.attention_levels)
    up = tuple("CrossAttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(config.attention_levels))
    # diffusers' 2D U-Net calls the number of heads attention_head_dim
    return UNet2DConditionModel(
        down_block_types=down, up_block_types=up, attention_head_dim=config.heads, **_common(config, channels)
    )


def build_motion_unet(config: UNetConfig, channels: int) -> UNetMotionModel:
    """Build the same U-Net with AnimateDiff's motion modules at every layer, which add nothing at the start."""
    down = tuple(
        "CrossAttnDownBlockMotion" if attention else "DownBlockMotion" for attention in config.attention_levels
    )
    up = tuple(
        "CrossAttnUpBlockMotion" if attention else "UpBlockMotion" for attention in reversed(config.attention_levels)
    )
    unet = UNetMotionModel(
        down_block_types=down,
        up_block_types=up,
        num_attention_heads=config.heads,
        motion_num_attention_heads=config.motion_heads,
        motion_max_seq_length=config.motion_max_frames,
        **_common(config, channels),
    )
    for module in (module for module in unet.modules() if isinstance(module, AnimateDiffTransformer3D)):
        # as AnimateDiff begins: the temporal part adds nothing until it has learned to
        nn.init.zeros_(module.proj_out.weight)
        nn.init.zeros_(module.proj_out.bias)
        if config.motion_norm_per_frame:
            module.norm = FrameNorm(module.norm.num_groups, module.norm.num_channels, module.norm.eps)
        if config.trim_motion:
            for block in module.transformer_blocks:
                block.norm2 = block.attn2 = block.norm3 = block.ff = None
    return unet


def _common(config: UNetConfig, channels: int) -> dict[str, Any]:
    """Arguments that both classes of diffusers take."""
    return {
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": config.block_out_channels,
        "layers_per_block": config.layers_per_block,
        "cross_attention_dim": config.cross_attention_dim,
        "norm_num_groups": config.norm_num_groups,
        "use_linear_projection": config.use_linear_projection,
    }

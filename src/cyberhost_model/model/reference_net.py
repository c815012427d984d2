"""ReferenceNet: a copy of the 2D U-Net that encodes a picture once, at every attention site (section 3.1)."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from cyberhost_model.config import UNetConfig
from cyberhost_model.model.attention import attend, feed_forward, from_tokens, recompute, to_tokens
from cyberhost_model.model.conditions import Features
from cyberhost_model.model.unet import build_unet2d


class ReferenceNet(nn.Module):
    """Features of the reference picture and of motion frames, by site.

    A site is the name of a spatial transformer, such as "up_blocks.1.attentions.0"; the Denoising U-Net has the same
    ones. Its feature is what enters that transformer's self-attention. No noise and no time step: the pass is made once
    a clip, never once a step.
    """

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        self.unet = build_unet2d(config, channels)
        self.sites = attention_sites(self.unet)
        self.trimmed = config.trim_reference
        self.gradient_checkpointing = False
        _remove_unused(self.unet, self.sites[-1]) if self.trimmed else _freeze_unused(self.unet, self.sites[-1])

    def forward(self, latents: Tensor, pose: Tensor | None = None, image: Tensor | None = None) -> Features:
        """Encode latents (B, C, h, w) -> site -> features (B, N, D).

        pose (B, C0, h, w): the encoded skeleton map, added to the latent's first features (the pose-aligned reference
        feature of section 3.3). image (B, n, D): tokens of presets with `image_token` or `portrait`.
        """
        unet = self.unet
        features: Features = {}
        time = context = None
        if not self.trimmed:
            time = unet.time_embedding(unet.time_proj(latents.new_zeros(len(latents))).to(latents.dtype))
            context = latents.new_zeros(len(latents), 1, unet.config.cross_attention_dim) if image is None else image

        def layer(
            x: Tensor, resnet: nn.Module | None, transformer: Transformer2DModel | None
        ) -> tuple[Tensor, Tensor | None]:
            x = x if resnet is None else resnet(x, time)
            return (x, None) if transformer is None else _transformer(transformer, x, context)

        def walk(x: Tensor, resnet: nn.Module | None, block: nn.Module, stage: str, j: int) -> Tensor:
            transformer = block.attentions[j] if hasattr(block, "attentions") else None
            x, feature = recompute(self.gradient_checkpointing, layer, x, resnet, transformer)
            if feature is not None:
                features[f"{stage}.attentions.{j}"] = feature
            return x

        x = unet.conv_in(latents)
        if pose is not None:
            x = x + pose
        skips = [x]
        for i, block in enumerate(unet.down_blocks):
            for j, resnet in enumerate(block.resnets):
                x = walk(x, resnet, block, f"down_blocks.{i}", j)
                skips.append(x)
            for downsampler in block.downsamplers or ():
                x = downsampler(x)
                skips.append(x)

        x = unet.mid_block.resnets[0](x, time)
        for j, resnet in enumerate(unet.mid_block.resnets[1:]):
            x = walk(x, None, unet.mid_block, "mid_block", j)
            x = resnet(x, time)

        for i, block in enumerate(unet.up_blocks):
            for j, resnet in enumerate(block.resnets):
                x = walk(torch.cat([x, skips.pop()], dim=1), resnet, block, f"up_blocks.{i}", j)
                if f"up_blocks.{i}.attentions.{j}" == self.sites[-1]:
                    return features
            for upsampler in block.upsamplers or ():
                x = upsampler(x, skips[-1].shape[-2:])
        return features


def attention_sites(unet: nn.Module) -> list[str]:
    """List the names of all spatial transformers of a diffusers U-Net, in the order of the forward pass."""
    stages = {f"down_blocks.{i}": block for i, block in enumerate(unet.down_blocks)}
    stages |= {"mid_block": unet.mid_block}
    stages |= {f"up_blocks.{i}": block for i, block in enumerate(unet.up_blocks)}
    return [
        f"{name}.attentions.{j}" for name, block in stages.items() for j in range(len(getattr(block, "attentions", ())))
    ]


def _transformer(transformer: Transformer2DModel, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run one spatial transformer -> (x after it, the input of its self-attention).

    A removed cross attention is skipped; at the last site x is returned as it is, because nothing reads it.
    """
    tokens = to_tokens(transformer, x)
    block = transformer.transformer_blocks[0]
    normed = block.norm1(tokens)
    if block.attn1 is None:
        return x, normed
    tokens = tokens + attend(block.attn1, normed, normed)
    if block.attn2 is not None:
        tokens = tokens + attend(block.attn2, block.norm2(tokens), context)
    tokens = tokens + feed_forward(block.ff, block.norm3(tokens))
    return from_tokens(transformer, tokens, x), normed


def _remove_unused(unet: UNet2DConditionModel, last_site: str) -> None:
    """Remove the layers no feature depends on: time, cross attention, and all after the last site's input."""
    for name, module in unet.named_modules():
        if name.endswith("transformer_blocks.0"):
            module.attn2 = module.norm2 = None
        if hasattr(module, "time_emb_proj"):
            module.time_emb_proj = None
    unet.time_embedding = unet.conv_norm_out = unet.conv_out = None
    last = unet.get_submodule(last_site)
    last.proj_out = None
    block = last.transformer_blocks[0]
    block.attn1 = block.norm3 = block.ff = None
    if last_site.startswith("up_blocks"):
        count = int(last_site.split(".")[1]) + 1
        unet.up_blocks = nn.ModuleList(list(unet.up_blocks)[:count])
        unet.up_blocks[-1].upsamplers = None


def _freeze_unused(unet: UNet2DConditionModel, last_site: str) -> None:
    """Freeze the layers no feature depends on, so that diffusers' keys stay and training leaves them out."""
    last = unet.get_submodule(last_site)
    block = last.transformer_blocks[0]
    unused = [
        unet.conv_norm_out,
        unet.conv_out,
        last.proj_out,
        block.attn1,
        block.attn2,
        block.norm2,
        block.norm3,
        block.ff,
    ]
    for name, module in unet.named_modules():
        if name.endswith("attn2"):  # its context is zero: only the bias of to_out counts
            unused += [module.to_q, module.to_k, module.to_v]
            module.to_out[0].weight.requires_grad_(False)
        if name.endswith("norm2") and "transformer_blocks" in name:
            unused.append(module)
    for module in unused:
        module.requires_grad_(False)

"""Masked audio attentions: Hallo's transformer for speech behind every spatial one. Not in the paper.

Three attentions read the same audio tokens: one for what is around the face, one for the face, one for the lips. Each
counts where its mask says so, and passes a 1x1 convolution, zero at the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional

from cyberhost_model.config import UNetConfig
from cyberhost_model.model.attention import attend, feed_forward, from_tokens, to_tokens
from cyberhost_model.model.conditions import AUDIO_REGIONS


class MaskedAudioTransformer(nn.Module):
    """One of these transformers; its weights have Hallo's names.

    The width inside may differ from the channels: Hallo takes that of what enters the U-Net's block.
    """

    use_linear_projection = False

    def __init__(self, channels: int, width: int, heads: int, context: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, width, 1)
        self.transformer_blocks = nn.ModuleList([_Block(width, heads, context)])
        self.proj_out = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor, audio: Tensor, masks: Tensor) -> Tensor:
        """Let x (B*F, C, h, w) attend to itself and to audio (B*F, L, D); masks (B*F, 3, h * w) in 0..1."""
        tokens = to_tokens(self, x)
        block = self.transformer_blocks[0]
        normed = block.norm1(tokens)
        tokens = tokens + attend(block.attn1, normed, normed)
        normed = block.norm2(tokens)
        for region, mask in zip(AUDIO_REGIONS, masks.unbind(1), strict=True):
            heard = attend(block.attention_of(region), normed, audio) * mask[..., None]
            conv = block.convolution_of(region)
            tokens = tokens + functional.linear(heard, conv.weight[:, :, 0, 0], conv.bias)
        tokens = tokens + feed_forward(block.ff, block.norm3(tokens))
        return from_tokens(self, tokens, x)


class _Block(nn.Module):
    """Self-attention, the three audio attentions with their convolutions, and the feed-forward."""

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        size = {"query_dim": width, "heads": heads, "dim_head": width // heads}
        self.attn1, self.norm1 = Attention(**size), nn.LayerNorm(width)
        for i, region in enumerate(AUDIO_REGIONS):
            self.add_module(f"attn2_{i}", Attention(**size, cross_attention_dim=context))
            self.add_module(f"zero_conv_{region}", _zero(nn.Conv2d(width, width, 1)))
        self.norm2 = nn.LayerNorm(width)
        self.ff, self.norm3 = FeedForward(width, activation_fn="geglu"), nn.LayerNorm(width)

    def attention_of(self, region: str) -> Attention:
        """Return the audio attention of one of AUDIO_REGIONS."""
        return cast(Attention, self.get_submodule(f"attn2_{AUDIO_REGIONS.index(region)}"))

    def convolution_of(self, region: str) -> nn.Conv2d:
        """Return the convolution behind that attention."""
        return cast(nn.Conv2d, self.get_submodule(f"zero_conv_{region}"))


def build_masked_audio(config: UNetConfig, sites: Sequence[str]) -> nn.ModuleDict:
    """Build a transformer for every attention site (`attention_sites`); the keys are the sites with "_" for "."."""
    return nn.ModuleDict({site_key(site): _at_site(config, site) for site in sites})


def site_key(site: str) -> str:
    """Return the key of an attention site, such as "down_blocks_0_attentions_1"."""
    return site.replace(".", "_")


def _at_site(config: UNetConfig, site: str) -> MaskedAudioTransformer:
    widths, heads = config.block_out_channels, config.heads
    level, entering = len(widths) - 1, len(widths) - 1  # the middle block
    stage, *at = site.split(".")
    if stage == "down_blocks":
        level = int(at[0])
        entering = max(level - 1, 0) if at[-1] == "0" else level
    elif stage == "up_blocks":
        level = len(widths) - 1 - int(at[0])
        entering = max(level - 1, 0)
    return MaskedAudioTransformer(
        widths[level], widths[entering], heads[level], config.cross_attention_dim, config.norm_num_groups
    )


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer

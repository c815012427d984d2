"""The three attentions of the Denoising U-Net, over diffusers' own layers.

Each function runs the sublayers of one diffusers `Transformer2DModel` or `AnimateDiffTransformer3D` in the open, so
that what the paper adds to keys and values can be seen. They hold no weights. With nothing added they compute exactly
what diffusers' own forward computes.

Suffixes: B batch, F frames, M motion frames, N tokens of a frame (h * w), D channels, L audio tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

# Gradient checkpointing in one line, so that a forward can place it itself (diffusers' own skips the motion modules).


def recompute(enabled: bool, function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`; when enabled and gradients are on, its activations are computed again in the backward pass
    instead of kept.
    """
    if enabled and torch.is_grad_enabled():
        return checkpoint(function, *args, use_reentrant=False)
    return function(*args)


def attend(attn: Attention, query: Tensor, context: Tensor, shared: Tensor | None = None) -> Tensor:
    """Attention of diffusers' `Attention` weights by SDPA.

    query (B, Q, D), context (B, K, D'). `shared` (S, K', D') is further context; each of its rows serves B / S
    consecutive rows of the batch (the frames of a clip): it is projected once and broadcast. Returns (B, Q, D).
    """
    q, k, v = _heads(attn, attn.to_q(query)), _heads(attn, attn.to_k(context)), _heads(attn, attn.to_v(context))
    if shared is not None:
        k = torch.cat([k, _rows(_heads(attn, attn.to_k(shared)), len(k))], dim=2)
        v = torch.cat([v, _rows(_heads(attn, attn.to_v(shared)), len(v))], dim=2)
    out = functional.scaled_dot_product_attention(q, k, v)
    return attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))


def _heads(attn: Attention, x: Tensor) -> Tensor:
    return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def _rows(x: Tensor, batch: int) -> Tensor:
    """(S, ...) -> (batch, ...), each row for batch / S consecutive ones."""
    return x[:, None].expand(-1, batch // len(x), *[-1] * (x.ndim - 1)).flatten(0, 1)


def feed_forward(ff: FeedForward, x: Tensor) -> Tensor:
    """diffusers' GEGLU feed-forward, each half of its first layer by itself: halves of one tensor lie apart, and a GPU
    takes twice as long over them.
    """
    proj = ff.net[0].proj
    value, gate = (
        functional.linear(x, weight, bias)
        for weight, bias in zip(proj.weight.chunk(2), proj.bias.chunk(2), strict=True)
    )
    x = value * functional.gelu(gate)
    for layer in ff.net[1:]:
        x = layer(x)
    return x


def split_by_presence(present: Sequence[bool], x: Tensor, run: Callable[[Tensor, bool], Tensor]) -> Tensor:
    """Runs the items of x (B, ...)

    that have a feature and those that lack it apart, `run(items, has_feature)`, and puts them back in order.
    """
    if not any(present):
        return run(x, False)
    if all(present):
        return run(x, True)
    have = [i for i, here in enumerate(present) if here]
    lack = [i for i, here in enumerate(present) if not here]
    if have[-1] < lack[0]:  # the order of guidance: no gather needed
        return torch.cat([run(x[: len(have)], True), run(x[len(have) :], False)])
    both = torch.cat([run(x[have], True), run(x[lack], False)])
    order = have + lack
    return both[[order.index(i) for i in range(len(order))]]


def to_tokens(transformer: Transformer2DModel, x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, N, D): the transformer's norm and `proj_in`."""
    x = transformer.norm(x)
    if transformer.use_linear_projection:
        return transformer.proj_in(x.permute(0, 2, 3, 1).flatten(1, 2))
    return transformer.proj_in(x).permute(0, 2, 3, 1).flatten(1, 2)


def from_tokens(transformer: Transformer2DModel, tokens: Tensor, residual: Tensor) -> Tensor:
    """(B, N, D) -> (B, C, h, w): `proj_out` and the residual around the transformer."""
    size = residual.shape[-2:]
    if transformer.use_linear_projection:
        return transformer.proj_out(tokens).unflatten(1, size).permute(0, 3, 1, 2) + residual
    return transformer.proj_out(tokens.unflatten(1, size).permute(0, 3, 1, 2)) + residual


def spatial_transformer(
    transformer: Transformer2DModel,
    x: Tensor,
    frames: int,
    audio: Tensor,
    reference: Tensor | None,
    reference_present: Sequence[bool],
) -> Tensor:
    """Spatial self-attention with reference features, cross attention to audio, feed-forward.

    x (B*F, C, h, w); audio (B*F, L, D_audio); reference (R, N, D) goes to keys and values. Returns the shape of x.
    """
    tokens = to_tokens(transformer, x)
    block: BasicTransformerBlock = transformer.transformer_blocks[0]

    def self_attention(items: Tensor, has_reference: bool) -> Tensor:
        flat = items.flatten(0, 1)
        out = attend(block.attn1, flat, flat, reference if has_reference else None)
        return out.unflatten(0, (-1, frames))

    normed = block.norm1(tokens).unflatten(0, (-1, frames))
    tokens = tokens + split_by_presence(reference_present, normed, self_attention).flatten(0, 1)
    tokens = tokens + attend(block.attn2, block.norm2(tokens), audio)
    tokens = tokens + feed_forward(block.ff, block.norm3(tokens))
    return from_tokens(transformer, tokens, x)


def temporal_transformer(
    transformer: AnimateDiffTransformer3D,
    x: Tensor,
    frames: int,
    motion: Tensor | None,
    motion_present: Sequence[bool],
) -> Tensor:
    """Attention along the frames; motion frames go in front on the frame axis as keys and values only, so nothing is
    left to slice off.

    x (B*F, C, h, w); motion (R, M, N, D) or None. Returns the shape of x. Trimmed modules lack the second attention and
    the feed-forward.
    """
    size = x.shape[-2:]
    clip = x.unflatten(0, (-1, frames))
    normed = transformer.norm(clip.transpose(1, 2))  # GroupNorm over all frames of the clip, as AnimateDiff has it
    # Copied here, because a product with rows that lie apart is one small product for each of them.
    tokens = transformer.proj_in(normed.permute(0, 3, 4, 2, 1).flatten(1, 2).contiguous())  # (B, N, F, D)
    front = None if motion is None else motion.transpose(1, 2).flatten(0, 1)  # (R*N, M, D)
    present = () if motion is None else motion_present

    for block in transformer.transformer_blocks:
        for norm, attn in ((block.norm1, block.attn1), (block.norm2, block.attn2)):
            if attn is None:
                continue

            def along_frames(
                items: Tensor, has_motion: bool, attn: Attention = attn, position: nn.Module = block.pos_embed
            ) -> Tensor:
                ahead = 0 if front is None or not has_motion else front.shape[1]
                places = position.pe[:, : ahead + frames].to(items.dtype)
                query = items.flatten(0, 1) + places[:, ahead:]  # (B*N, F, D)
                context = query if front is None or not ahead else torch.cat([front + places[:, :ahead], query], dim=1)
                return attend(attn, query, context).unflatten(0, items.shape[:2])

            tokens = tokens + split_by_presence(present, norm(tokens), along_frames)
        if block.ff is not None:
            tokens = tokens + feed_forward(block.ff, block.norm3(tokens))

    out = transformer.proj_out(tokens).unflatten(1, size)  # (B, h, w, F, C)
    return (clip + out.permute(0, 3, 4, 1, 2)).flatten(0, 1)  # the clip first: the sum lies in memory as it does

"""The three attentions of the Denoising U-Net (spatial, audio, temporal) as functions on diffusers' own layers.

Each function calls the sublayers of one diffusers `Transformer2DModel` or `AnimateDiffTransformer3D` one by one, so
that the paper's additions to keys and values can be read here (Figure 2, section 3.1). The functions hold no weights.
Without additions the result equals that of diffusers' own forward.

Shapes: B batch, F frames, M motion frames, N tokens of a frame (h * w), D channels, L audio tokens of a frame, R items
of the batch that have a feature (`Conditions.reference_present`, `motion_present`).
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


def recompute(enabled: bool, function: Callable[..., Any], *args: Any) -> Any:
    """Call `function(*args)`, with gradient checkpointing when enabled and gradients are on.

    Activations are then computed again in the backward pass instead of kept. A forward places it by itself, because
    diffusers' own checkpointing skips the motion modules.
    """
    if enabled and torch.is_grad_enabled():
        return checkpoint(function, *args, use_reentrant=False)
    return function(*args)


def attend(
    attn: Attention, query: Tensor, context: Tensor, shared: Tensor | None = None, rows: Tensor | None = None
) -> Tensor:
    """Compute multi-head attention with the weights of a diffusers `Attention`.

    query (B, Q, D), context (B, K, D'). `shared` (S, K', D') is further context: each of its rows is projected once and
    broadcast to B / S consecutive rows of the batch, the frames of a clip; rows (B,): the row of `shared` that each row
    of the batch reads instead. Returns (B, Q, D).
    """
    q, k, v = _heads(attn, attn.to_q(query)), _heads(attn, attn.to_k(context)), _heads(attn, attn.to_v(context))
    if shared is not None:
        more = [_heads(attn, attn.to_k(shared)), _heads(attn, attn.to_v(shared))]
        more = [_repeat_rows(x, len(k)) if rows is None else x[rows] for x in more]
        k, v = torch.cat([k, more[0]], dim=2), torch.cat([v, more[1]], dim=2)
    out = functional.scaled_dot_product_attention(q, k, v)
    return attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))


def _heads(attn: Attention, x: Tensor) -> Tensor:
    """Split channels into heads: (B, L, D) -> (B, heads, L, D / heads)."""
    return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def _repeat_rows(x: Tensor, batch: int) -> Tensor:
    """Repeat each row of x (S, ...) for batch / S consecutive rows -> (batch, ...)."""
    return x[:, None].expand(-1, batch // len(x), *[-1] * (x.ndim - 1)).flatten(0, 1)


def feed_forward(ff: FeedForward, x: Tensor) -> Tensor:
    """Compute diffusers' GEGLU feed-forward with the two halves of its first layer as two products.

    Halves of one product are strided in memory, which takes a GPU twice as long.
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
    """Run the items of x (B, ...) that have a feature apart from those that lack it, and restore their order.

    present: B flags, or none for a batch in which no item has it. run(items, has_feature) returns the items' results.
    """
    if not any(present):
        return run(x, False)
    if all(present):
        return run(x, True)
    having = [i for i, flag in enumerate(present) if flag]
    lacking = [i for i, flag in enumerate(present) if not flag]
    if having[-1] < lacking[0]:  # the order of guidance: no gather needed
        return torch.cat([run(x[: len(having)], True), run(x[len(having) :], False)])
    results = torch.cat([run(x[having], True), run(x[lacking], False)])
    order = having + lacking
    return results[[order.index(i) for i in range(len(order))]]


def to_tokens(transformer: Transformer2DModel, x: Tensor) -> Tensor:
    """Apply the transformer's norm and `proj_in`: (B, C, h, w) -> (B, N, D)."""
    x = transformer.norm(x)
    if transformer.use_linear_projection:
        return transformer.proj_in(x.permute(0, 2, 3, 1).flatten(1, 2))
    return transformer.proj_in(x).permute(0, 2, 3, 1).flatten(1, 2)


def from_tokens(transformer: Transformer2DModel, tokens: Tensor, residual: Tensor) -> Tensor:
    """Apply `proj_out` and add the residual around the transformer: (B, N, D) -> (B, C, h, w)."""
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
    """Run spatial self-attention with reference features, cross attention to audio, and the feed-forward.

    x (B*F, C, h, w); audio (B*F, L, D_audio); reference (R, N, D) joins keys and values; of (R, V, N, D) frame t reads
    variant (F + t) % V (`portrait`). Returns the shape of x.
    """
    tokens = to_tokens(transformer, x)
    block: BasicTransformerBlock = transformer.transformer_blocks[0]

    def self_attention(items: Tensor, has_reference: bool) -> Tensor:
        flat = items.flatten(0, 1)
        if reference is None or not has_reference or reference.ndim == 3:
            out = attend(block.attn1, flat, flat, reference if has_reference else None)
        else:
            count, variants = reference.shape[:2]
            frame = torch.arange(frames, 2 * frames, device=x.device) % variants
            rows = torch.arange(count, device=x.device)[:, None] * variants + frame
            out = attend(block.attn1, flat, flat, reference.flatten(0, 1), rows.flatten())
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
    """Run attention along the frames of a clip, with motion frames in front of them on the frame axis.

    x (B*F, C, h, w); motion (R, M, N, D) or None. Motion frames are keys and values only, so the result has the shape
    of x and nothing to slice off. Trimmed modules lack the second attention and the feed-forward
    (`UNetConfig.trim_motion`).
    """
    size = x.shape[-2:]
    clip = x.unflatten(0, (-1, frames))
    normed = transformer.norm(clip.transpose(1, 2))  # GroupNorm over all frames of the clip, as AnimateDiff has it
    # Contiguous, because a product of strided rows runs as one small product for each of them.
    tokens = transformer.proj_in(normed.permute(0, 3, 4, 2, 1).flatten(1, 2).contiguous())  # (B, N, F, D)
    motion_tokens = None if motion is None else motion.transpose(1, 2).flatten(0, 1)  # (R*N, M, D)
    present = () if motion is None else motion_present

    for block in transformer.transformer_blocks:
        for norm, attn in ((block.norm1, block.attn1), (block.norm2, block.attn2)):
            if attn is None:
                continue

            def along_frames(
                items: Tensor, has_motion: bool, attn: Attention = attn, position: nn.Module = block.pos_embed
            ) -> Tensor:
                ahead = 0 if motion_tokens is None or not has_motion else motion_tokens.shape[1]
                encoding = position.pe[:, : ahead + frames].to(items.dtype)
                query = context = items.flatten(0, 1) + encoding[:, ahead:]  # (B*N, F, D)
                if motion_tokens is not None and ahead:
                    context = torch.cat([motion_tokens + encoding[:, :ahead], query], dim=1)
                return attend(attn, query, context).unflatten(0, items.shape[:2])

            tokens = tokens + split_by_presence(present, norm(tokens), along_frames)
        if block.ff is not None:
            tokens = tokens + feed_forward(block.ff, block.norm3(tokens))

    out = transformer.proj_out(tokens).unflatten(1, size)  # (B, h, w, F, C)
    # The sum takes the memory layout of its first term, the clip's.
    return (clip + out.permute(0, 3, 4, 1, 2)).flatten(0, 1)

"""How a network lies in memory where it computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# FrameNorm: the motion modules' GroupNorm with the statistics of one frame.


class FrameNorm(nn.GroupNorm):
    """AnimateDiff's own code, and all that descends from it, normalises every frame of a clip by itself; diffusers
    normalises the clip as one.

    The weights have the same names.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, h, w), of the same shape out."""
        frames = x.transpose(1, 2)
        return super().forward(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)


# ChannelsLastGroupNorm: a GroupNorm for channels that lie last in memory.


_LITTLE = 1 << 22  # numbers; with fewer, starting the operations takes longer than the copies that they spare


class ChannelsLastGroupNorm(nn.GroupNorm):
    """What torch's GroupNorm says, of the same weights. torch's own reads channels first: on CUDA it copies what lies
    channels last, and convolutions copy its output back, a tenth of a step and a third of Stable Diffusion's decoding
    at 640x384; in half precision on a CPU it is up to ten times as slow on channels that lie last
    (docs/reference/performance.md). So in half precision, where no gradient is asked for, large tensors on CUDA have
    their sums taken here, in fp32, and on a CPU torch's gets a copy, and a picture leaves channels last.
    """

    @classmethod
    def of(cls, norm: nn.GroupNorm) -> ChannelsLastGroupNorm:
        """The same norm with the same parameters, which it must have."""
        made = cls(norm.num_groups, norm.num_channels, norm.eps, device="meta")
        made.weight, made.bias = norm.weight, norm.bias
        return made.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...), of the same shape out."""
        if x.ndim < 4 or x.dtype == torch.float32 or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(x)
        if x.device.type == "cpu":
            out = super().forward(x.contiguous())
            return (
                out.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else out
            )  # a clip's frames are copied anyway, to lie pixel by pixel
        last = x.movedim(1, -1)
        if not x.is_cuda or x.numel() < _LITTLE or not last.is_contiguous():
            return super().forward(x)
        return group_norm_last(last, self).movedim(-1, 1)


def group_norm_last(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """`norm` of x (N, ..., C), contiguous, any precision: two passes for the sums in fp32 and one to apply them,
    without a copy of x in fp32.
    """
    flat = x.flatten(1, -2)
    by_group = (len(x), norm.num_groups, -1)
    mean = flat.mean(1, dtype=torch.float32).view(by_group).mean(-1, keepdim=True)
    length = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float32).view(by_group).norm(dim=-1, keepdim=True)
    variance = torch.addcmul(length.square() / (flat[0].numel() / norm.num_groups), mean, mean, value=-1)
    scale = (variance.clamp_min(0) + norm.eps).rsqrt() * norm.weight.view(1, norm.num_groups, -1)
    shift = torch.addcmul(norm.bias.view(1, norm.num_groups, -1), mean, scale, value=-1)
    out = torch.empty_like(flat)
    torch.addcmul(
        shift.view(len(x), 1, -1), flat, scale.view(len(x), 1, -1), out=out
    )  # in fp32, whose result alone is rounded
    return out.view(x.shape)


def use_channels_last(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a network, channels last where its attentions and half precision's convolutions are quicker so: on CUDA,
    and in half precision on a CPU, with group norms that are made for it (`ChannelsLastGroupNorm`).
    """
    last = device.type == "cuda" or (device.type == "cpu" and dtype != torch.float32)
    network.to(device, dtype, memory_format=torch.channels_last if last else torch.preserve_format)
    for parent in list(network.modules()):
        for name, part in parent.named_children():
            if type(part) is nn.GroupNorm and part.affine:
                setattr(parent, name, ChannelsLastGroupNorm.of(part))

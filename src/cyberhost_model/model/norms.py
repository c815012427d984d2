"""Group norms for channels that lie last in memory, and for single frames of a clip.

`use_channels_last` moves a network to a device in the memory format that is fastest there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SMALL = 1 << 22
"""Numbers in a tensor; below, starting the operations of `group_norm_last` costs more than the copies it saves."""


class FrameNorm(nn.GroupNorm):
    """The motion modules' GroupNorm with the statistics of each frame by itself.

    So AnimateDiff's own code and its descendants normalise; diffusers normalises the whole clip. The weights have the
    same names.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, F, h, w) -> the same shape."""
        frames = x.transpose(1, 2)
        return super().forward(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)


class ChannelsLastGroupNorm(nn.GroupNorm):
    """GroupNorm that computes as torch's, of the same weights, and is fast for channels that lie last in memory.

    torch's kernel reads channels first. On CUDA it copies a channels-last input, and the next convolution copies the
    output back: a tenth of a denoising step and a third of Stable Diffusion's decoding at 640x384. In half precision on
    a CPU it is up to ten times as slow on channels last (docs/reference/performance.md). So, in half precision without
    gradients, large tensors on CUDA go to `group_norm_last`, and on a CPU torch's kernel gets a copy.
    """

    @classmethod
    def of(cls, norm: nn.GroupNorm) -> ChannelsLastGroupNorm:
        """Convert a GroupNorm with weight and bias, which both then share."""
        converted = cls(norm.num_groups, norm.num_channels, norm.eps, device="meta")
        converted.weight, converted.bias = norm.weight, norm.bias
        return converted.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (N, C, ...) -> the same shape."""
        if x.ndim < 4 or x.dtype == torch.float32 or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(x)
        if x.device.type == "cpu":
            out = super().forward(x.contiguous())
            # Pictures only: the temporal attention copies a clip (5 axes) in any case.
            return out.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else out
        last = x.movedim(1, -1)
        if not x.is_cuda or x.numel() < _SMALL or not last.is_contiguous():
            return super().forward(x)
        return group_norm_last(last, self).movedim(-1, 1)


def group_norm_last(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Normalise x (N, ..., C), contiguous, in any precision, with the statistics in fp32.

    Two passes for the sums and one to apply them, without a copy of x in fp32.
    """
    flat = x.flatten(1, -2)
    by_group = (len(x), norm.num_groups, -1)
    mean = flat.mean(1, dtype=torch.float32).view(by_group).mean(-1, keepdim=True)
    length = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float32).view(by_group).norm(dim=-1, keepdim=True)
    variance = torch.addcmul(length.square() / (flat[0].numel() / norm.num_groups), mean, mean, value=-1)
    scale = (variance.clamp_min(0) + norm.eps).rsqrt() * norm.weight.view(1, norm.num_groups, -1)
    shift = torch.addcmul(norm.bias.view(1, norm.num_groups, -1), mean, scale, value=-1)
    out = torch.empty_like(flat)
    # In fp32: only the result is rounded.
    torch.addcmul(shift.view(len(x), 1, -1), flat, scale.view(len(x), 1, -1), out=out)
    return out.view(x.shape)


def use_channels_last(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a network to a device and precision, channels last in memory on CUDA and in half precision on a CPU.

    Attention and half precision's convolutions are faster so. Group norms become `ChannelsLastGroupNorm`.
    """
    last = device.type == "cuda" or (device.type == "cpu" and dtype != torch.float32)
    network.to(device, dtype, memory_format=torch.channels_last if last else torch.preserve_format)
    for parent in list(network.modules()):
        for name, part in parent.named_children():
            if type(part) is nn.GroupNorm and part.affine:
                setattr(parent, name, ChannelsLastGroupNorm.of(part))

"""The interface of codecs, which encode frames to latents and decode them, and the loading of one by its kind.

A new codec is a file with a subclass of `Codec` and an entry of `config.CODECS` (or a call of `config.register_codec`).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cyberhost_model.codecs.arm_layers import ArmLayers
from cyberhost_model.codecs.close_up import CloseUp
from cyberhost_model.config import codec_traits


class FrameDecoder(Protocol):
    """Decodes z (1, F, C, h, w) -> frames (1, F, 3, H', W').

    arms (F, 2, 23, 3): where the arms are (`codecs.arm_layers.arm_points`), of videos whose arms are layers.
    """

    def __call__(self, z: Tensor, arms: np.ndarray | None = None) -> Tensor:  # noqa: D102
        ...


class Codec(nn.Module):
    """Interface of a codec: frames to latents and back.

    Pictures are (..., 3, H, W) in -1..1, latents z (B, F, C, h, w) with h, w = H, W / the preset's `latent_factor`.
    """

    kind: str
    """Its name in `config.CODECS`."""
    frames_at_once: int = 1 << 10
    """Most frames decoded together; memory does not grow with the clip beyond that."""
    same_close_ups: bool = False
    """Whether `decode` must get the close-ups that `encode` got, because latents depend on them."""
    latent_channels: int | None = None
    """Channels of its latents, where it says so; compared with the network's when a model is loaded."""
    channels_last: bool = False
    """Whether it is faster on a CPU with its weights channels last in memory, in every precision."""
    can_tile: bool = False
    """Whether a frame can be decoded in pieces (`tile`), for devices with little memory."""

    def encode_reference(self, reference: Tensor, control_maps: Tensor | None = None) -> Tensor:
        """Encode the reference picture (B, 3, H, W) -> (B, C, h, w).

        control_maps (B, controls, h, w): positions of its mouth and eyes, for codecs with control channels.
        """
        raise NotImplementedError

    def encode(
        self,
        frames: Tensor,
        flow: Tensor,
        visible: Tensor,
        controls: Tensor,
        reference: Tensor,
        close_ups: Sequence[CloseUp] = (),
    ) -> Tensor:
        """Encode frames (B, F, 3, H, W) against their reference (B, 3, H, W) -> z (B, F, C, h, w).

        For relative latents: flow (B, F, 2, H/2, W/2), position of each pixel in the reference minus its own, in
        full-size pixels; visible (B, F, 1, H/2, W/2) in 0..1, whether the reference shows it; controls (B, F,
        controls, h, w), face controls; close_ups: those of `decode`. Other codecs ignore all but the frames.
        """
        raise NotImplementedError

    def decode(
        self, z: Tensor, reference: Tensor, picture: Tensor | None = None, close_ups: Sequence[CloseUp] = ()
    ) -> Tensor:
        """Decode z (B, F, C, h, w) with the reference (B, 3, H, W) -> frames (B, F, 3, H', W').

        picture (B, 3, H', W'): the reference at the video's size, which is the frames' size. close_ups:
        mouth and eyes of it, enlarged, for codecs with control channels.
        """
        raise NotImplementedError

    def decoder(
        self,
        reference: Tensor,
        picture: Tensor | None = None,
        close_ups: Sequence[CloseUp] = (),
        layers: ArmLayers | None = None,
        ahead: bool = False,
    ) -> FrameDecoder:
        """Return `decode` for one video: what depends on the picture may be kept from call to call.

        Arguments as in `decode`; layers: arms of the picture that key points lay, for codecs that move it; ahead: what
        most videos need of that is computed now. The weights must not change while it is used.
        """
        return lambda z, arms=None: self.decode(z, reference, picture, close_ups)

    def decode_coded(self, z: Tensor, reference: Tensor, close_ups: Sequence[CloseUp] = ()) -> Tensor:
        """Decode what `encode` made, at the reference's size; as `decode`, but no denoiser's errors are made up for."""
        return self.decode(z, reference, close_ups=close_ups)

    def tile(self, enabled: bool) -> None:
        """Switch decoding in tiles on or off; only where `can_tile`."""
        raise NotImplementedError

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the codec into `folder`, as safetensors and a config.json."""
        raise NotImplementedError

    @staticmethod
    def load(folder: str | Path) -> Codec:
        """Load a folder that `save` wrote, float32. Raises ModelError."""
        raise NotImplementedError


def load_codec(kind: str, folder: str | Path) -> Codec:
    """Load the codec of a model folder, float32, in evaluation mode.

    kind: a name of `config.CODECS`, as `Preset.codec` holds it. Raises ModelError for an unknown kind and for a missing
    or damaged folder.
    """
    module, _, name = codec_traits(kind).where.partition(":")
    kind_class: type[Codec] = getattr(importlib.import_module(module), name)
    return kind_class.load(folder).eval()


def for_reference_net(kind: str, z: Tensor, r: Tensor) -> Tensor:
    """Convert motion frames z (B, M, C, h, w) into latents that the Reference Net reads.

    Relative latents are added to the reference's own latent r (B, C, h, w); others are latents of pictures already.
    """
    return r[:, None] + z if codec_traits(kind).relative else z

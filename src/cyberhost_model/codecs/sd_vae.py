"""SdVaeCodec: Stable Diffusion's VAE as a codec (section 3.1); it ignores the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from cyberhost_model.codecs.base import Codec
from cyberhost_model.codecs.close_up import CloseUp
from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import LARGEST_CONFIG, check_entries, check_fits, read_shapes
from cyberhost_model.reading import one_line, read_object

_WEIGHTS = "diffusion_pytorch_model.safetensors"
AT_ONCE = 4
"""Frames encoded or decoded together."""


def _current_name(name: str) -> str:
    """Translate the name of an attention weight in files that diffusers wrote before 0.15, which it still loads."""
    for old, new in ((".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")):
        name = name.replace(old, new)
    return name


class SdVaeCodec(Codec):
    """Codec whose latents are those of Stable Diffusion: 4 channels at 1/8 size, of about unit deviation."""

    kind = "sd-vae"
    frames_at_once = AT_ONCE
    can_tile = True

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae

    @property
    def latent_channels(self) -> int:  # type: ignore[override]
        """Channels of a latent."""
        return self.vae.config.latent_channels

    @staticmethod
    def load(folder: str | Path) -> SdVaeCodec:
        """Load a diffusers `AutoencoderKL` folder. Raises ModelError when it does not fit."""
        try:
            weights = len(read_shapes(Path(folder) / _WEIGHTS))
            config = check_entries(read_object(Path(folder) / "config.json", LARGEST_CONFIG), weights)
            check_fits(Path(folder) / _WEIGHTS, lambda: AutoencoderKL.from_config(config), _current_name)
            return SdVaeCodec(AutoencoderKL.from_pretrained(folder, use_safetensors=True)).eval()
        except (OSError, ValueError, ModelError) as error:
            raise ModelError(f"{folder}: no usable VAE ({one_line(error)}); get the model again") from error

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write a diffusers `AutoencoderKL` folder."""
        self.vae.to(dtype).save_pretrained(folder)

    def tile(self, enabled: bool) -> None:
        """Decode frames in tiles, whose seams may be visible, or whole."""
        if enabled:
            self.vae.enable_tiling()
        else:
            self.vae.disable_tiling()

    def encode_reference(self, reference: Tensor, control_maps: Tensor | None = None) -> Tensor:
        """Encode pictures (B, 3, H, W) -> (B, 4, H/8, W/8); `control_maps` is ignored."""
        return self.vae.encode(reference).latent_dist.mode() * self.vae.config.scaling_factor

    def encode(
        self,
        frames: Tensor,
        flow: Tensor | None = None,
        visible: Tensor | None = None,
        controls: Tensor | None = None,
        reference: Tensor | None = None,
        close_ups: Sequence[CloseUp] = (),
    ) -> Tensor:
        """Encode frames (B, F, 3, H, W) in -1..1 -> z (B, F, 4, H/8, W/8), a few at a time; the rest is ignored."""
        latents = [self.encode_reference(some) for some in frames.flatten(0, 1).split(AT_ONCE)]
        return torch.cat(latents).unflatten(0, frames.shape[:2])

    def decode(
        self, z: Tensor, reference: Tensor, picture: Tensor | None = None, close_ups: Sequence[CloseUp] = ()
    ) -> Tensor:
        """Decode z (B, F, C, h, w) -> frames (B, F, 3, H, W), scaled to `picture`'s size; the rest is ignored.

        A few frames at a time: a clip of 24 at 768x512 would make tensors of 5 GB in half precision.
        """
        scale = self.vae.config.scaling_factor
        frames = torch.cat([self.vae.decode(some / scale).sample for some in z.flatten(0, 1).split(AT_ONCE)])
        if picture is not None and picture.shape[-2:] != frames.shape[-2:]:
            frames = F.interpolate(frames, size=picture.shape[-2:], mode="bicubic", align_corners=False)
        return frames.clamp(-1, 1).unflatten(0, z.shape[:2])

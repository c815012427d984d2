"""ImageToken: CLIP's embedding of the reference picture, which presets with `image_token` attend to (AnimateAnyone)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionModelWithProjection

from ..errors import ModelError

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ImageToken(nn.Module):
    """One vector of a picture."""

    def __init__(self, clip: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    @staticmethod
    def load(folder: str | Path) -> ImageToken:
        """From a transformers `CLIPVisionModelWithProjection` folder. Raises ModelError when it does not fit."""
        try:
            clip, info = CLIPVisionModelWithProjection.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder}: no usable image encoder ({str(error).splitlines()[0]}); get the model again") from error
        if wrong := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
            raise ModelError(f"{folder}: {len(wrong)} weights of the image encoder are missing or unknown, such as {wrong[0]}; get the model again")
        return ImageToken(clip.float()).eval()

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) in -1..1 -> (B, D); the picture is stretched to a square, as the peers do."""
        side = self.clip.config.image_size
        small = functional.interpolate(picture.float(), (side, side), mode="bicubic", antialias=True, align_corners=False)
        unit = (small.clamp(-1, 1) + 1) / 2
        return self.clip(((unit - self.mean) / self.std).to(next(self.clip.parameters()).dtype)).image_embeds

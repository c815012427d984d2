"""Colours of pictures: embedded profiles to sRGB, and pictures that have no colour."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey picture (BT.601, as Pillow)."""
_GREY_RANGE = 10  # levels between a pixel's channels that JPEG and profiles may leave in a grey picture
_GREY_SHARE = 0.998  # of the pixels
_SPACES = {"RGB": "RGB", "RGBA": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}  # mode -> colour space of a profile


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an 8-bit picture to sRGB: mode RGB, or RGBA where it has transparency.

    profile: the ICC profile that the file holds. One that is damaged, or made for another kind of picture, is left out,
    as viewers do.
    """
    if not profile:
        return plain_rgb(image)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space == "RGB" and image.mode not in ("RGB", "RGBA", "CMYK"):
            image = plain_rgb(image)
        if _SPACES.get(image.mode) != space:
            return plain_rgb(image)
        target = ImageCms.createProfile("sRGB")
        out = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(
            image,
            source,
            target,
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            out,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return plain_rgb(image)
    if converted is None:
        return plain_rgb(image)
    if out == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def plain_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB, or RGBA where there is transparency, without a profile."""
    transparent = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if transparent else "RGB")


def is_grey(picture_u8: np.ndarray) -> bool:
    """Whether a picture, uint8 (H, W, 3), has no colour."""
    rows = max(1, picture_u8.shape[0] // 1024)  # of a large picture every n-th row tells enough
    sample = picture_u8[::rows].astype(np.int16)
    spread = sample.max(-1) - sample.min(-1)
    return bool((spread <= _GREY_RANGE).mean() >= _GREY_SHARE)

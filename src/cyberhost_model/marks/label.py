"""The visible label: words in the upper right corner of every frame."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = "AI generated"


def labelled(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Write the label on frames while they go by."""
    return map(draw_label, frames)


def draw_label(frame: np.ndarray) -> np.ndarray:
    """Write the label on a frame, uint8 (H, W, 3) RGB -> a new one: white words on a dark field that shows through.

    Letters are a 22nd of the frame's side high (the square root of its area), and no lower than 12 pixels.
    """
    height, width = frame.shape[:2]
    field, ink = _stamp(width, height)
    h, w = min(field.shape[0], height), min(field.shape[1], width)
    labelled = frame.copy()
    corner = labelled[:h, width - w :].astype(np.float32)
    dark = corner * (1 - 0.6 * field[:h, :w, None])
    labelled[:h, width - w :] = np.rint(dark + (255 - dark) * ink[:h, :w, None]).astype(np.uint8)
    return labelled


def show_label(alpha: np.ndarray) -> np.ndarray:
    """Make the field of the label opaque in an alpha channel, uint8 (H, W, 1). Returns a copy."""
    height, width = alpha.shape[:2]
    field = _stamp(width, height)[0][:height, -width:]
    shown = alpha.copy()
    corner = shown[: field.shape[0], width - field.shape[1] :, 0]
    np.maximum(corner, np.rint(field * 255).astype(np.uint8), out=corner)
    return shown


@functools.lru_cache(maxsize=2)
def _stamp(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the label for frames of a size -> coverage of its field and of its words, float32 (h, w) in 0..1."""
    size = max(12, round((width * height) ** 0.5 / 22))
    while True:
        font = ImageFont.load_default(size)  # the font that Pillow brings
        left, top, right, bottom = font.getbbox(WORDS)
        margin, pad = size // 2, size // 3
        w, h = round(right - left) + 2 * pad + margin, round(bottom - top) + 2 * pad + margin
        if w <= width or size <= 6:
            break
        size -= 1
    field, ink = Image.new("L", (w, h)), Image.new("L", (w, h))
    ImageDraw.Draw(field).rounded_rectangle((0, margin, w - margin - 1, h - 1), radius=pad, fill=255)
    ImageDraw.Draw(ink).text((pad - left, margin + pad - top), WORDS, fill=255, font=font)
    return np.asarray(field, np.float32) / 255, np.asarray(ink, np.float32) / 255

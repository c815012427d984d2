"""Picture files -> arrays, and the canvas a picture is fitted into. No picture is ever stretched."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cyberhost_model.errors import InputError

MIN_SIDE = 64  # pixels; below it a face has no mouth
MAX_SIDE = 4096  # pixels of the array handed on; larger files are reduced while they are read
MAX_PIXELS = 128_000_000  # 128 megapixels: 12000x9000 passes, and 4 bytes a pixel stay near half a GB
MAX_ASPECT = 4.0  # longer side : shorter side
FORMATS = ("PNG", "JPEG", "WEBP")  # JPEG includes the multi-picture files (MPO) some phones write


def load_picture(path: str | os.PathLike[str], max_side: int = MAX_SIDE) -> np.ndarray:
    """Read a PNG, JPEG or WebP file.

    EXIF rotation is applied, transparency is laid on white, 16-bit and grey pictures become 8-bit RGB.
    A picture with a side above `max_side` is reduced, its aspect kept, so memory stays bounded.

    Returns uint8 (H, W, 3), RGB. Raises InputError for a file that is missing, unreadable, too small or too large.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such picture; check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give one picture file (PNG, JPEG or WebP)")
    try:
        with warnings.catch_warnings():
            # The size is checked below, so Pillow's own warning about large pictures would only repeat it.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                _check_size(path, image.size)
                rgb = _decode(image, max_side)
    except UnidentifiedImageError:
        raise InputError(f"{path}: not a picture that can be read; give a PNG, JPEG or WebP file") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: has too many pixels; give a picture of at most {_megapixels(MAX_PIXELS)}") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read; check the file's permissions") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises for broken files
        reason = str(error).split("\n")[0]
        raise InputError(f"{path}: the picture is damaged ({reason}); save it again as PNG or JPEG") from None
    return np.ascontiguousarray(np.asarray(rgb))


def check_picture(picture: np.ndarray) -> np.ndarray:
    """Check an array that a caller made: uint8 (H, W, 3), RGB, the sizes `load_picture` accepts. Raises InputError."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise InputError(f"a picture must be uint8 (H, W, 3) RGB, not {picture.dtype} {tuple(picture.shape)}")
    _check_size(None, (picture.shape[1], picture.shape[0]))
    return picture


def _check_size(path: Path | None, size: tuple[int, int]) -> None:
    name = "the picture" if path is None else str(path)
    width, height = size
    if min(size) < MIN_SIDE:
        raise InputError(
            f"{name}: is {width}x{height} pixels; give one of at least {MIN_SIDE} pixels on its short side"
        )
    if width * height > MAX_PIXELS:
        raise InputError(f"{name}: is {width}x{height} pixels; give one of at most {_megapixels(MAX_PIXELS)}")
    if max(size) > MAX_ASPECT * min(size):
        raise InputError(
            f"{name}: is {width}x{height} pixels; crop it to at most {MAX_ASPECT:.0f} times as long as wide"
        )


def _megapixels(pixels: int) -> str:
    return f"{pixels // 1_000_000} megapixels"


def _decode(image: Image.Image, max_side: int) -> Image.Image:
    image.draft("RGB", (max_side, max_side))  # JPEG alone: decodes at 1/2, 1/4 or 1/8 and never holds the full size
    factor = max(image.size) // max_side  # whole numbers are averaged cheaply, the rest below
    palette = image.mode in ("P", "PA", "1")
    reduced: Image.Image = image
    if factor > 1 and not palette:  # a palette index cannot be averaged
        reduced = image.reduce(factor)
    rgba = _to_rgba(reduced, image)
    if max(rgba.size) > max_side:
        rgba.thumbnail((max_side, max_side), Image.Resampling.BOX)
    if rgba.mode == "RGBA":
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        rgba = Image.alpha_composite(white, rgba)
    exif = image.getexif()
    rgb = rgba.convert("RGB")
    rgb.getexif()[0x0112] = exif.get(0x0112, 1)  # the rotation belongs to the file, not to the reduced copy
    return ImageOps.exif_transpose(rgb) or rgb


def _to_rgba(image: Image.Image, source: Image.Image) -> Image.Image:
    """8-bit RGB, or RGBA where the file has transparency."""
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey: Pillow's own conversion would clip it to white
        grey = np.asarray(image, dtype=np.float32)
        return Image.fromarray(np.clip(grey / 257.0 + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
    if "A" in image.mode or "a" in image.mode or "transparency" in source.info:
        return image.convert("RGBA")
    return image.convert("RGB")


@dataclass(frozen=True)
class Canvas:
    """Where a fitted picture lies in the rectangle the network works on. All values are pixels.

    `width`, `height`: the canvas, multiples of the `multiple` asked for.
    `left`, `top`: the picture's corner in it. `picture_width`, `picture_height`: the fitted picture; even numbers.
    `scale`: canvas pixels for one pixel of the source picture.
    """

    width: int
    height: int
    left: int
    top: int
    picture_width: int
    picture_height: int
    scale: float

    @property
    def size(self) -> tuple[int, int]:
        """(W, H) of the canvas."""
        return self.width, self.height

    @property
    def picture_size(self) -> tuple[int, int]:
        """(W, H) of the fitted picture, which is the size of the video."""
        return self.picture_width, self.picture_height

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the picture in the canvas: the crop that removes the padding."""
        return self.left, self.top, self.left + self.picture_width, self.top + self.picture_height


def fit_canvas(size_wh: tuple[int, int], area: int = 256 * 256, multiple: int = 64) -> Canvas:
    """Choose the canvas for a picture of `size_wh` (W, H): sides in multiples of `multiple`, at most 1.25 * `area`.

    Of all such canvases the one that shows the picture largest is taken, the smaller canvas among equals. The fitted
    picture has even sides and the source's aspect within one pixel, and is centred.
    """
    width, height = size_wh
    if min(width, height) < 1:
        raise InputError(f"a picture cannot be {width}x{height} pixels")
    if area < multiple * multiple:
        raise ValueError(f"area {area} holds no canvas with sides in multiples of {multiple}")
    cells = int(area * 1.25) // (multiple * multiple)
    best: Canvas | None = None
    best_key = (-1, 0)
    for columns in range(1, cells + 1):
        for rows in range(1, cells // columns + 1):
            canvas = _fit(size_wh, columns * multiple, rows * multiple)
            if canvas is None:
                continue
            key = (canvas.picture_width * canvas.picture_height, -columns * rows)
            if key > best_key:
                best, best_key = canvas, key
    if best is None:
        raise InputError(f"a picture of {width}x{height} pixels is too elongated; crop it")
    return best


def _fit(size_wh: tuple[int, int], width: int, height: int) -> Canvas | None:
    """The largest even-sided copy of the picture in (width, height).

    The short side is chosen first, because the long side's rounding (at most 1 pixel) is then at most 1 pixel of the
    short side's too.
    """
    source = np.array(size_wh, dtype=np.float64)
    scale = float((np.array([width, height]) / source).min())
    short = int(source.argmin())
    long = 1 - short
    limits = (width, height)
    side_short = min(int(scale * source[short] + 1e-6), limits[short]) // 2 * 2
    while side_short >= 2:
        side_long = 2 * round(side_short * source[long] / source[short] / 2)
        if side_long <= limits[long]:
            sides = {short: side_short, long: side_long}
            fitted_w, fitted_h = sides[0], sides[1]
            left, top = (width - fitted_w) // 2, (height - fitted_h) // 2
            return Canvas(width, height, left, top, fitted_w, fitted_h, side_short / float(source[short]))
        side_short -= 2
    return None


def place(picture_u8: np.ndarray, canvas: Canvas, padding: Literal["edge", "reflect"] = "edge") -> np.ndarray:
    """Put a picture, uint8 (H, W, 3), into its canvas: uint8 (canvas.height, canvas.width, 3).

    The rim is filled with the picture's edge pixels or its reflection, so that no hard border is seen by the network.
    """
    resized = picture_u8
    if (picture_u8.shape[1], picture_u8.shape[0]) != canvas.picture_size:
        resized = np.asarray(Image.fromarray(picture_u8).resize(canvas.picture_size, Image.Resampling.LANCZOS))
    rows = (canvas.top, canvas.height - canvas.top - canvas.picture_height)
    columns = (canvas.left, canvas.width - canvas.left - canvas.picture_width)
    return np.pad(resized, (rows, columns, (0, 0)), mode=padding)


def crop_back(frames: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Remove the padding: (..., canvas.height, canvas.width, 3) -> (..., picture_height, picture_width, 3)."""
    left, top, right, bottom = canvas.box
    return frames[..., top:bottom, left:right, :]

"""Picture files -> arrays, and the canvas a picture is fitted into. No picture is ever stretched."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cyberhost_model.errors import InputError
from cyberhost_model.media.colour import to_srgb
from cyberhost_model.media.files import check_regular
from cyberhost_model.media.picture_formats import is_raw, readable_formats, why_not_readable
from cyberhost_model.media.standard_input import as_file

MIN_SIDE = 64  # pixels; below it a face has no mouth
MAX_SIDE = 4096  # pixels of the array handed on; larger files are reduced while they are read
MAX_PIXELS = 128_000_000  # 128 megapixels: 12000x9000 passes, and 4 bytes a pixel stay near half a GB
MAX_ASPECT = 4.0  # longer side : shorter side
_STRIP = 1 << 22  # pixels that are converted at once, where a mode cannot be reduced as it is


def load_picture(path: str | os.PathLike[str], max_side: int = MAX_SIDE) -> np.ndarray:
    """Read a PNG, JPEG, WebP, TIFF, BMP, GIF (first picture), AVIF or, with pillow-heif, HEIC file.

    "-" is standard input. EXIF rotation is applied, an embedded colour profile is converted to sRGB, transparency is
    laid on white, 16-bit and grey pictures become 8-bit RGB. A picture with a side above `max_side` is reduced, its
    aspect kept, so memory stays bounded.

    Returns uint8 (H, W, 3), RGB. Raises InputError for a file that is missing, unreadable, too small or too large.
    """
    with as_file(Path(path)) as file:
        check_regular(file, "picture", "one picture file (PNG, JPEG or WebP)")
        return _load(file, max_side)


def _load(path: Path, max_side: int) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            # The size is checked below, so Pillow's own warning about large pictures would only repeat it.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=readable_formats()) as image:
                if is_raw(image):
                    raise InputError(f"{path}: is a camera's raw file; develop it and save it as JPEG or TIFF")
                _check_size(path, image.size)
                with _quiet_libtiff(image):
                    rgb = _decode(image, max_side)
    except UnidentifiedImageError:
        raise InputError(f"{path}: {why_not_readable(path)}") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: has too many pixels; give a picture of at most {_megapixels(MAX_PIXELS)}") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read; check the file's permissions") from None
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError, TypeError, LookupError, struct.error) as error:
        # What Pillow and its plugins raise for broken files.
        reason = str(error).split("\n")[0] or type(error).__name__
        raise InputError(f"{path}: the picture is damaged ({reason}); save it again as PNG or JPEG") from None
    return np.ascontiguousarray(np.asarray(rgb))


@contextlib.contextmanager
def _quiet_libtiff(image: Image.Image) -> Iterator[None]:
    """Keep what libtiff writes about a damaged file off standard error: it writes to the descriptor itself."""
    kept = None
    if image.format == "TIFF":
        with contextlib.suppress(OSError):  # a closed standard error cannot be written to anyway
            kept = os.dup(2)
    if kept is None:
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


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
    factor = max(1, max(image.size) // max_side)  # whole numbers are averaged cheaply, the rest below
    profile = image.info.get("icc_profile")
    transparent = "transparency" in image.info
    if image.mode in ("P", "PA", "1", "LA", "RGBA") or image.mode.startswith("I;16") or transparent:
        small = _convert_in_strips(image, factor, transparent)
    else:
        small = image.reduce(factor) if factor > 1 else image
    if max(small.size) > max_side:
        small = small.resize(_within(small.size, max_side), Image.Resampling.BOX)
    if small.mode in ("I", "F"):
        small = Image.fromarray(_to_8_bit(np.array(small, dtype=np.float32), small.mode))
    rgb = to_srgb(small, profile)
    if rgb.mode == "RGBA":
        white = Image.new("RGBA", rgb.size, (255, 255, 255, 255))
        rgb = Image.alpha_composite(white, rgb)
    exif = image.getexif()
    rgb = rgb.convert("RGB")
    rgb.getexif()[0x0112] = exif.get(0x0112, 1)  # the rotation belongs to the file, not to the reduced copy
    return ImageOps.exif_transpose(rgb) or rgb


def _within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size (W, H) with the same aspect whose longer side is `side`."""
    ratio = side / max(size)
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def _convert_in_strips(image: Image.Image, factor: int, transparent: bool) -> Image.Image:
    """Reduce a picture whose values cannot be averaged as they are: palettes, transparency, and 16-bit grey.

    Only a strip of it is converted at a time. Returns mode RGB, RGBA or L.
    """
    image.load()
    deep = image.mode.startswith("I;16")
    mode = "L" if deep else "RGBA" if transparent or image.mode in ("PA", "LA", "RGBA") else "RGB"
    width, height = image.size
    rows = max(1, _STRIP // (width * factor)) * factor
    small = Image.new(mode, (-(-width // factor), -(-height // factor)))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        if deep:  # Pillow's own conversion would clip it to white
            strip = Image.fromarray(((np.asarray(strip).astype(np.uint32) + 128) // 257).astype(np.uint8))
        else:
            strip = strip.convert(mode)
        small.paste(strip.reduce(factor) if factor > 1 else strip, (0, top // factor))
    return small


def _to_8_bit(grey: np.ndarray, mode: str) -> np.ndarray:
    """Bring float32 (H, W) to uint8 in place. White is 65535; in files of floats 1 or 255, where nothing exceeds it."""
    np.nan_to_num(grey, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(grey.max(initial=0.0))
    usual = (1.0, 255.0, 65535.0) if mode == "F" else (65535.0,)
    grey *= 255.0 / next((white for white in usual if largest <= white), largest)
    grey += 0.5
    return np.clip(grey, 0, 255, out=grey).astype(np.uint8)


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

"""Formats of picture files: which are read, and what to do with a file of another one."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from pathlib import Path

from PIL import Image, features

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".heic", ".heif", ".avif", ".tif", ".tiff", ".bmp", ".gif")
"""Of names of pictures, where files are told apart by their names."""
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # JPEG includes the multi-picture files (MPO) some phones write
# Without a handler of anybody's, Python writes what Pillow logs of a damaged file to standard error.
logging.getLogger("PIL").addHandler(logging.NullHandler())

TAKEN = "give a PNG, JPEG or WebP file (TIFF, BMP, GIF, HEIC and AVIF are read too)"
_AS_JPEG = "save it as JPEG or PNG"
_DEVELOP = "develop it and save it as JPEG or TIFF"

# Marks of formats that are not read: where they stand, what they are, the format's name, and what to do.
_KNOWN: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"8BPS", "Photoshop", _AS_JPEG),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000", _AS_JPEG),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", _AS_JPEG),
    (0, b"\xff\x0a", "JPEG XL", "convert it: djxl PICTURE picture.png"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL", "convert it: djxl PICTURE picture.png"),
    (0, b"%PDF", "PDF", "convert a page: pdftoppm -png FILE page"),
    (0, b"%!PS", "PostScript", "export it as PNG"),
    (0, b"<svg", "SVG", "export it as PNG"),
    (0, b"<?xml", "XML (or SVG)", "export it as PNG"),
    (0, b"gimp xcf", "GIMP", "export it as PNG"),
    (0, b"qoif", "QOI", _AS_JPEG),
    (0, b"v/1\x01", "OpenEXR", "tone-map it and save it as PNG"),
    (0, b"#?RADIANCE", "Radiance HDR", "tone-map it and save it as PNG"),
    (0, b"DDS ", "DDS", _AS_JPEG),
    (0, b"P5", "PGM", _AS_JPEG),
    (0, b"P6", "PPM", _AS_JPEG),
    (0, b"\x00\x00\x01\x00", "icon (ICO)", _AS_JPEG),
    (0, b"FUJIFILMCCD-RAW", "raw (Fujifilm)", _DEVELOP),
    (8, b"CR\x02\x00", "raw (Canon)", _DEVELOP),
    (4, b"ftypcrx ", "raw (Canon)", _DEVELOP),
    (0, b"IIRO", "raw (Olympus)", _DEVELOP),
    (0, b"IIU\x00", "raw (Panasonic)", _DEVELOP),
    (4, b"ftypisom", "video", "give a picture; a frame of it can be saved as one"),
    (4, b"ftypmp4", "video", "give a picture; a frame of it can be saved as one"),
    (4, b"ftypqt  ", "video", "give a picture; a frame of it can be saved as one"),
    (0, b"\x1a\x45\xdf\xa3", "video", "give a picture; a frame of it can be saved as one"),
)
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_RAW_TAGS = (50706,)  # DNG's version
_SUBFILE, _REDUCED = 254, 1  # TIFF: the picture is a smaller copy of another one of the file


@functools.lru_cache(maxsize=1)
def readable_formats() -> tuple[str, ...]:
    """List the formats that are read here: AVIF where Pillow has it, HEIC where pillow-heif is installed."""
    names = list(FORMATS)
    if features.check("avif"):
        names.append("AVIF")
    if importlib.util.find_spec("pillow_heif") is not None:
        heif = importlib.import_module("pillow_heif")
        heif.register_heif_opener()
        names.append("HEIF")
        if "AVIF" not in names and hasattr(heif, "register_avif_opener"):
            heif.register_avif_opener()
            names.append("AVIF")
    return tuple(names)


def why_not_readable(path: Path) -> str:
    """Say what a file is that no reader takes, and what to do with it."""
    with path.open("rb") as file:
        head = file.read(32)
    if head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS and "AVIF" not in readable_formats():
        return "is an AVIF picture, which this Pillow does not read; pip install -U pillow, or save it as JPEG"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS and "HEIF" not in readable_formats():
        return "is a HEIC picture; pip install 'cyberhost[heif]', or save it as JPEG"
    for start, mark, name, advice in _KNOWN:
        if head[start : start + len(mark)] == mark:
            return f"is a {name} file, which is not read; {advice}"
    return f"not a picture that can be read; {TAKEN}"


def is_raw(image: Image.Image) -> bool:
    """Whether an open TIFF is a camera's raw file, of which Pillow would read a thumbnail."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and (
        any(tag in tags for tag in _RAW_TAGS) or bool(int(tags.get(_SUBFILE, 0) or 0) & _REDUCED)
    )

"""Picture files: what is taken, what is refused and with which line; fitting without stretching."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from cyberhost_model.errors import InputError
from cyberhost_model.media import image, picture_formats
from cyberhost_model.media.colour import is_grey
from cyberhost_model.media.image import check_picture, crop_back, fit_canvas, load_picture, place


def corners(width: int = 120, height: int = 80) -> np.ndarray:
    """Red top left, green top right, blue bottom left, white bottom right."""
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    picture[: height // 2, : width // 2] = (255, 0, 0)
    picture[: height // 2, width // 2 :] = (0, 255, 0)
    picture[height // 2 :, : width // 2] = (0, 0, 255)
    picture[height // 2 :, width // 2 :] = 255
    return picture


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(corners()).save(path, **({"lossless": True} if suffix == "webp" else {}))
    loaded = load_picture(path)
    assert loaded.shape == (80, 120, 3) and loaded.dtype == np.uint8
    assert np.abs(loaded[10:30, 10:40].astype(int) - (255, 0, 0)).max() <= 4


def test_exif_rotation(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise to show
    Image.fromarray(corners()).save(path, exif=exif, quality=95)
    loaded = load_picture(path)
    assert loaded.shape == (120, 80, 3)
    assert np.abs(loaded[20, 20].astype(int) - (0, 0, 255)).max() < 12  # bottom left has come to the top left


def test_alpha_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((80, 80, 4), dtype=np.uint8)
    rgba[:40, :, 0] = 200
    rgba[:40, :, 3] = 255
    rgba[60:, :, 3] = 128
    for name, picture in {"a.png": rgba, "a.webp": rgba}.items():
        Image.fromarray(picture).save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        loaded = load_picture(tmp_path / name)
        assert tuple(loaded[10, 10]) == (200, 0, 0)
        assert tuple(loaded[50, 10]) == (255, 255, 255)
        assert abs(int(loaded[70, 10, 0]) - 127) <= 1


def test_palette_grey_and_16_bit(tmp_path: Path) -> None:
    palette = Image.fromarray(corners()).convert("P")
    palette.info["transparency"] = 0
    palette.save(tmp_path / "p.png")
    assert load_picture(tmp_path / "p.png").shape == (80, 120, 3)
    ramp = np.linspace(0, 65535, 128 * 128).reshape(128, 128).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    deep = load_picture(tmp_path / "deep.png")
    assert deep[0, 0, 0] == 0 and deep[-1, -1, 0] == 255 and abs(int(deep[64, 0, 1]) - 128) <= 1
    Image.fromarray((ramp >> 8).astype(np.uint8)).save(tmp_path / "grey.jpg")
    assert load_picture(tmp_path / "grey.jpg").shape == (128, 128, 3)
    Image.new("CMYK", (80, 80), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    assert load_picture(tmp_path / "cmyk.jpg")[40, 40, 0] > 200


def refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_picture(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    for word in words:
        assert word in message, message


def test_refused_files(tmp_path: Path) -> None:
    refused(tmp_path / "none.png", "no such picture")
    refused(tmp_path, "folder")
    text = tmp_path / "text.png"
    text.write_text("not a picture\n")
    refused(text, "PNG, JPEG or WebP")
    empty = tmp_path / "empty.png"
    empty.touch()
    refused(empty, "PNG, JPEG or WebP")
    for name, mark in {"a.psd": b"8BPS", "a.jxl": b"\xff\x0a", "a.svg": b"<svg ", "a.raf": b"FUJIFILMCCD-RAW"}.items():
        (tmp_path / name).write_bytes(mark + bytes(100))
        refused(tmp_path / name, "which is not read; ")
    raw = tmp_path / "a.dng"
    Image.fromarray(corners()).save(raw, format="TIFF", tiffinfo={50706: b"\x01\x04\x00\x00"})
    refused(raw, "raw file")
    refused(Path("https://example.org/a.png"), "download it first")
    for name in ("a.png", "a.jpg", "a.webp"):
        whole = tmp_path / name
        noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
        Image.fromarray(noise).save(whole)
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        refused(whole)


@pytest.mark.parametrize("size", [(1, 1), (63, 200), (64, 300)])
def test_refused_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "small.png"
    Image.new("RGB", size).save(path)
    refused(path, f"{size[0]}x{size[1]}")


@pytest.mark.skipif(os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="root reads everything")
def test_no_right_to_read(tmp_path: Path) -> None:
    path = tmp_path / "locked.png"
    Image.fromarray(corners()).save(path)
    path.chmod(0)
    refused(path, "permissions")


def test_12000x9000(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (12000, 9000), (10, 200, 30)).save(path)
    loaded = load_picture(path)
    assert loaded.shape == (3072, 4096, 3)
    assert np.abs(loaded[::500, ::500].astype(int) - (10, 200, 30)).max() <= 3


def test_large_png_is_reduced_and_a_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (12000, 9000), 77).save(path, compress_level=1)
    loaded = load_picture(path, max_side=1024)
    assert loaded.shape[1] <= 1024 and abs(loaded.shape[1] / loaded.shape[0] - 4 / 3) < 0.01
    assert tuple(loaded[100, 100]) == (77, 77, 77)
    bomb = tmp_path / "bomb.png"
    Image.new("1", (20000, 20000)).save(bomb)  # 400 megapixels in a few kilobytes
    refused(bomb, "128 megapixels")


def test_check_picture() -> None:
    assert check_picture(corners()).shape == (80, 120, 3)
    with pytest.raises(InputError, match="uint8"):
        check_picture(np.zeros((80, 80, 3), dtype=np.float32))
    with pytest.raises(InputError, match="64"):
        check_picture(np.zeros((8, 8, 3), dtype=np.uint8))


def test_canvas_keeps_aspect_everywhere() -> None:
    for width in range(64, 1300, 61):
        for height in range(64, 1300, 67):
            if max(width, height) > 4 * min(width, height):
                continue
            canvas = fit_canvas((width, height))
            w, h = canvas.picture_size
            assert canvas.width % 64 == 0 and canvas.height % 64 == 0
            assert w % 2 == 0 and h % 2 == 0
            assert abs(w - h * width / height) <= 1 + 1e-9 and abs(h - w * height / width) <= 1 + 1e-9
            left, top, right, bottom = canvas.box
            assert left >= 0 and top >= 0 and right <= canvas.width and bottom <= canvas.height
            assert canvas.width * canvas.height <= 1.25 * 256 * 256
            assert w * h >= 0.7 * 256 * 256


@pytest.mark.parametrize(
    ("size", "canvas_size"),
    [((512, 512), (256, 256)), ((300, 400), (256, 320)), ((400, 300), (320, 256)), ((1920, 1080), (384, 192))],
)
def test_canvas_choice(size: tuple[int, int], canvas_size: tuple[int, int]) -> None:
    assert fit_canvas(size).size == canvas_size


def test_place_and_crop_back() -> None:
    picture = corners(300, 200)
    canvas = fit_canvas((300, 200))
    for padding in ("edge", "reflect"):
        placed = place(picture, canvas, padding)  # type: ignore[arg-type]
        assert placed.shape == (canvas.height, canvas.width, 3)
        assert tuple(placed[0, 0]) == (255, 0, 0) and tuple(placed[-1, -1]) == (255, 255, 255)
    frames = np.stack([placed, placed])
    cropped = crop_back(frames, canvas)
    assert cropped.shape == (2, canvas.picture_height, canvas.picture_width, 3)
    exact = fit_canvas((256, 256))
    square = corners(256, 256)
    np.testing.assert_array_equal(crop_back(place(square, exact), exact), square)


SUFFIXES = {"tiff": {}, "lzw.tif": {"compression": "tiff_lzw"}, "bmp": {}, "gif": {}, "avif": {"quality": 95}}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_formats(tmp_path: Path, suffix: str) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(corners()).save(path, **SUFFIXES[suffix])
    loaded = load_picture(path)
    assert loaded.shape == (80, 120, 3)
    assert np.abs(loaded[10:30, 10:40].astype(int) - (255, 0, 0)).max() <= 6


def test_heic(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.fromarray(corners()).save(tmp_path / "a.heic", quality=95)
    assert np.abs(load_picture(tmp_path / "a.heic")[10:30, 10:40].astype(int) - (255, 0, 0)).max() <= 8


def test_heic_without_its_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_formats, "readable_formats", lambda: picture_formats.FORMATS)
    monkeypatch.setattr(image, "readable_formats", lambda: picture_formats.FORMATS)
    path = tmp_path / "a.heic"
    path.write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(100))
    refused(path, "cyberhost[heif]")


def test_the_first_of_many_pictures(tmp_path: Path) -> None:
    first, second = Image.fromarray(corners()), Image.new("RGB", (120, 80))
    for name in ("a.gif", "a.tiff", "a.webp"):
        first.save(
            tmp_path / name, save_all=True, append_images=[second], **({"lossless": True} if "w" in name else {})
        )
        assert tuple(load_picture(tmp_path / name)[10, 100]) == (0, 255, 0), name
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second], quality=95)
    assert np.abs(load_picture(tmp_path / "a.jpg")[10, 100].astype(int) - (0, 255, 0)).max() < 8


def swapped_profile() -> bytes:
    """The ICC profile of a made-up space: sRGB with red and green swapped."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    entries = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    places = [bytes(profile[at + 4 : at + 12]) for at in (red, green)]
    profile[green + 4 : green + 12], profile[red + 4 : red + 12] = places
    profile[84:100] = bytes(16)  # its digest
    return bytes(profile)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_an_embedded_profile_is_converted_to_srgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "wide.png"
    Image.fromarray(corners()).convert(mode).save(path, icc_profile=swapped_profile())
    loaded = load_picture(path)
    assert np.abs(loaded[10:30, 10:40].astype(int) - (0, 255, 0)).max() <= 3
    assert np.abs(loaded[50:70, 10:40].astype(int) - (0, 0, 255)).max() <= 3
    assert np.abs(loaded[50:70, 70:110].astype(int) - 255).max() <= 3


def test_profiles_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    for name, picture, profile in (
        ("damaged", Image.fromarray(corners()), b"no profile" * 40),
        ("srgb", Image.fromarray(corners()), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        ("cmyk", Image.new("CMYK", (120, 80), (0, 255, 255, 0)), swapped_profile()),
    ):
        path = tmp_path / f"{name}.tiff"
        picture.save(path, icc_profile=profile)
        assert np.abs(load_picture(path)[10, 10].astype(int) - (255, 0, 0)).max() <= 3, name
    grey = tmp_path / "grey.png"
    Image.new("L", (80, 80), 100).save(grey, icc_profile=swapped_profile())
    assert is_grey(load_picture(grey))


def test_grey_is_told_from_colour(tmp_path: Path, portrait_file: Path) -> None:
    coloured = load_picture(portrait_file)
    assert not is_grey(coloured)
    Image.fromarray(coloured).convert("L").convert("RGB").save(tmp_path / "grey.jpg", quality=60)
    assert is_grey(load_picture(tmp_path / "grey.jpg"))
    pale = coloured.mean(-1, keepdims=True) + 0.15 * (coloured - coloured.mean(-1, keepdims=True))
    assert not is_grey(pale.astype(np.uint8))


def peak_growth(path: Path) -> float:
    """How many MB a new process grows by when it reads a picture."""
    script = (
        "import resource, sys, numpy as np\n"
        "from cyberhost_model.media.image import load_picture\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "load_picture(sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    return int(run.stdout) / (1 << 20 if sys.platform == "darwin" else 1 << 10)


@pytest.mark.parametrize("kind", ["16-bit grey", "palette"])
def test_memory_of_a_large_picture_stays_near_half_a_gigabyte(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("resource")
    path = tmp_path / "large.png"
    if kind == "palette":
        Image.new("P", (12000, 9000), 3).save(path, compress_level=1)
    else:
        Image.fromarray(np.full((9000, 12000), 40_000, np.uint16)).save(path, compress_level=1)
    assert peak_growth(path) < 600


def test_16_bit_of_any_size_keeps_its_values(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 300).astype(np.uint16), (200, 1))
    for name in ("a.png", "a.tiff"):
        Image.fromarray(ramp).save(tmp_path / name)
        whole, small = load_picture(tmp_path / name), load_picture(tmp_path / name, max_side=75)
        assert np.abs(whole[100, :, 0].astype(float) - ramp[100] / 257).max() <= 0.51
        assert small.shape == (50, 75, 3)
        assert np.abs(small[25, :, 0].astype(float) - ramp[100].reshape(75, 4).mean(1) / 257).max() <= 1.01
    for white in (1.0, 255.0, 65535.0):
        Image.fromarray(np.linspace(0, white, 6400, dtype=np.float32).reshape(80, 80)).save(tmp_path / "f.tiff")
        loaded = load_picture(tmp_path / "f.tiff")
        assert loaded[0, 0, 0] == 0 and loaded[-1, -1, 0] == 255 and abs(int(loaded[40, 0, 0]) - 128) <= 1


def test_a_damaged_tiff_writes_nothing_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg"):
        path = tmp_path / "a.tiff"
        Image.fromarray(noise).save(path, compression=compression)
        whole = bytearray(path.read_bytes())
        for at in range(100, 2000, 97):
            whole[at] ^= 0xFF
        path.write_bytes(bytes(whole))
        with contextlib.suppress(InputError):
            load_picture(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="POSIX files")
def test_what_is_no_ordinary_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    refused(tmp_path / "fifo.png", "is a pipe")
    refused(Path("/dev/zero"), "is a device")

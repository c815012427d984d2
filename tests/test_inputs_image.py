"""Picture files: what is taken, what is refused and with which line; fitting without stretching."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cyberhost_model.errors import InputError
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
    gif = tmp_path / "a.gif"
    Image.fromarray(corners()).save(gif)
    refused(gif, "PNG, JPEG or WebP")
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

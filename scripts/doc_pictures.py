"""Make the pictures of README and docs/user from the commands that those pages show.

    python scripts/doc_pictures.py WORK [--only animate reenact ...]

WORK holds the videos; one that is there is not made again. The pictures go to docs/images.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import imageio_ffmpeg
from PIL import Image

from cyberhost_cli.main import main as cyberhost

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
REF, SPEECH = "examples/astronaut.jpg", "examples/speech.wav"
COMMANDS = {
    "out.mp4": ["animate", REF, SPEECH],
    "again.mp4": ["reenact", REF, "out.mp4"],
    "wave.mp4": ["multimodal", REF, "--audio", SPEECH, "--hands", "wave"],
    "head.mp4": ["animate", REF, SPEECH, "--head"],
} | {
    f"{name}.template.mp4": ["template", "show", name]
    for name in ("wave", "open_palms", "counting", "pointing", "rest")
}
FACE = (120, 0, 312, 192)
"""The astronaut's head in a video of 512x512, with the room it moves in."""
TIMES = (0.2, 0.7, 1.2, 1.7, 2.2, 2.7, 3.2)
"""Seconds of the video that a strip shows."""


def frames(path: Path) -> tuple[list[Image.Image], float]:
    """Read all frames of a video, and how many there are a second."""
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    size = meta["size"]
    return [Image.frombuffer("RGB", size, data, "raw", "RGB", 0, 1).copy() for data in reader], meta["fps"]


def row(path: Path, width: int, box: tuple[int, int, int, int] | None = None) -> Image.Image:
    """Set frames of a video side by side, each `width` wide."""
    shown, fps = frames(path)
    chosen = [shown[min(round(t * fps), len(shown) - 1)] for t in TIMES]
    chosen = [frame.crop(box) if box else frame for frame in chosen]
    height = round(width * chosen[0].height / chosen[0].width)
    strip = Image.new("RGB", (width * len(chosen), height))
    for i, frame in enumerate(chosen):
        strip.paste(frame.resize((width, height), Image.Resampling.LANCZOS), (i * width, 0))
    return strip


def stack(rows: list[Image.Image], name: str) -> None:
    """Write rows below each other as a JPEG."""
    sheet = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)))
    y = 0
    for strip in rows:
        sheet.paste(strip, (0, y))
        y += strip.height
    sheet.save(IMAGES / name, quality=85, optimize=True)


def moving(path: Path, name: str, width: int = 300) -> None:
    """Write a video as an animated WebP: the whole frame, and the face beside it."""
    shown, fps = frames(path)
    pairs = []
    for frame in shown:
        pair = Image.new("RGB", (2 * width, width))
        pair.paste(frame.resize((width, width), Image.Resampling.LANCZOS), (0, 0))
        pair.paste(frame.crop(FACE).resize((width, width), Image.Resampling.LANCZOS), (width, 0))
        pairs.append(pair)
    pairs[0].save(
        IMAGES / name, save_all=True, append_images=pairs[1:], duration=round(1000 / fps), loop=0, quality=60, method=6
    )


def main() -> None:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument(
        "--only", nargs="+", default=["readme", "animate", "reenact", "multimodal", "head", "templates"]
    )
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "examples", given.work / "examples", dirs_exist_ok=True)
    os.chdir(given.work)
    for output, command in COMMANDS.items():
        if not Path(output).exists() and (code := cyberhost([*command, "-o", output])):
            raise SystemExit(f"cyberhost {' '.join(command)} ended with {code}")
    pictures = {
        "readme": lambda: moving(Path("out.mp4"), "astronaut.webp"),
        "animate": lambda: stack([row(Path("out.mp4"), 140), row(Path("out.mp4"), 140, FACE)], "animate.jpg"),
        "reenact": lambda: stack([row(Path("out.mp4"), 140, FACE), row(Path("again.mp4"), 140, FACE)], "reenact.jpg"),
        "multimodal": lambda: stack(
            [row(Path("wave.template.mp4"), 140), row(Path("wave.mp4"), 140)], "multimodal.jpg"
        ),
        "head": lambda: stack([row(Path("head.mp4"), 140)], "talking-head.jpg"),
        "templates": lambda: stack(
            [row(Path(f"{name}.template.mp4"), 110) for name in ("rest", "open_palms", "counting", "pointing", "wave")],
            "templates.jpg",
        ),
    }
    for name in given.only:
        pictures[name]()


if __name__ == "__main__":
    main()

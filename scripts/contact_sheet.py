"""Frames of a video side by side, to look at: `python scripts/contact_sheet.py VIDEO -o SHEET.jpg [--every 8]
[--columns 6] [--width 240]`.
"""

from __future__ import annotations

import argparse

import imageio_ffmpeg
import numpy as np
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--width", type=int, default=240)
    given = parser.parse_args()
    reader = imageio_ffmpeg.read_frames(given.video)
    w, h = next(reader)["size"]
    frames = [np.frombuffer(f, np.uint8).reshape(h, w, 3) for i, f in enumerate(reader) if i % given.every == 0]
    height = round(given.width * h / w)
    rows = -(-len(frames) // given.columns)
    sheet = Image.new("RGB", (given.columns * given.width, rows * height))
    for i, frame in enumerate(frames):
        sheet.paste(
            Image.fromarray(frame).resize((given.width, height)),
            (i % given.columns * given.width, i // given.columns * height),
        )
    sheet.save(given.output, quality=88)


if __name__ == "__main__":
    main()

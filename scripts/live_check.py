"""One long live session: does the person stay where it began, does the mouth go on, does memory grow?

    python scripts/live_check.py --minutes 60 [--size 256] [--steps 2]

The speech of examples/ and a second of silence are pushed again and again. For each part of the session: how far its
mean frame is from the first part's and how much the frames vary within it (grey levels, root mean square), peak memory
and seconds of processor. Exit code 1 where the last part has gone further than the first one's own variation.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from cyberhost_model import CyberHost
from cyberhost_model.media.audio import SPEECH_RATE, load_audio

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=None)
    given = parser.parse_args()

    host = CyberHost.from_pretrained("tiny")
    session = host.live(EXAMPLES / "astronaut.jpg", size=given.size, steps=given.steps)
    speech = np.concatenate([load_audio(EXAMPLES / "speech.wav").mono16k(), np.zeros(SPEECH_RATE, np.float32)])
    total = round(given.minutes * 60 * session.fps)
    count = max(1, total // given.parts)
    frames, process = stream(session, speech), psutil.Process()
    first, variation, distance = None, 0.0, 0.0
    for _ in range(given.parts):
        pictures = (next(frames).astype(np.float64) for _ in range(count))
        mean, square = np.zeros(0), np.zeros(0)
        for picture in pictures:
            mean, square = (mean + picture, square + picture**2) if mean.size else (picture, picture**2)
        mean, square = mean / count, square / count
        deviation = float(np.sqrt(np.maximum(square - mean**2, 0).mean()))
        if first is None:
            first, variation = mean, deviation
        distance = float(np.sqrt(((mean - first) ** 2).mean()))
        print(
            f"to {session.time:.0f} s: {distance:.2f} from the first part's mean, varies by {deviation:.2f}, "
            f"{process.memory_info().rss >> 20} MB, {time.process_time():.0f} s of processor",
            flush=True,
        )
    return int(distance > variation)


def stream(session, speech: np.ndarray):
    """Push the sound again and again, and yield the frames."""
    for piece in itertools.cycle(np.array_split(speech, 20)):
        session.push(piece, SPEECH_RATE)
        for frame, _ in session.frames():
            yield frame


if __name__ == "__main__":
    sys.exit(main())

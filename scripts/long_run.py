"""Measures a long video: memory as it grows and whether colour and identity drift.

    python scripts/long_run.py REF SPEECH -o OUT [--minutes 1] [--steps 8] [--fps 25] [--size 256]

The speech is repeated until it is long enough. Prints one JSON object: resident memory (MB) at each tenth of the video,
mean colour of the first and the last second; writes the first and the last second as first.mp4 and last.mp4, for a face
embedder to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from pathlib import Path

import numpy as np

from cyberhost_model import CyberHost
from cyberhost_model.media.audio import Sound, load_audio
from cyberhost_model.media.video_writer import write_video

RATE = 16000


def resident_mb() -> float:
    """Linux: pages in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture")
    parser.add_argument("speech")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--size", type=int, default=256)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    voice = np.concatenate(list(load_audio(given.speech).stream_mono16k()))
    samples = np.resize(voice, round(given.minutes * 60 * RATE)).astype(np.float32)
    sound = Sound.from_samples(samples, RATE)
    animation = CyberHost.from_pretrained("tiny").animate(
        given.picture, sound, steps=given.steps, fps=given.fps, size=given.size
    )
    second = round(given.fps)
    first: list[np.ndarray] = []
    last: deque[np.ndarray] = deque(maxlen=second)
    memory: list[float] = []
    for number, frame in enumerate(animation.frames, 1):
        if len(first) < second:
            first.append(frame)
        last.append(frame)
        if number * 10 // animation.n_frames > len(memory):
            memory.append(round(resident_mb()))
            print(f"{number} of {animation.n_frames} frames, {memory[-1]} MB", file=sys.stderr, flush=True)
    for name, frames in (("first", first), ("last", list(last))):
        write_video(
            frames, given.output / f"{name}.mp4", given.fps, Sound.from_samples(samples[:RATE], RATE), overwrite=True
        )
    colour = [np.stack(part).mean((0, 1, 2)).round(2).tolist() for part in (first, list(last))]
    print(
        json.dumps(
            {"frames": animation.n_frames, "memory_mb": memory, "colour_first": colour[0], "colour_last": colour[1]}
        )
    )


if __name__ == "__main__":
    main()

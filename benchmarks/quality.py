"""What the quicker ways to compute cost: frames of the embedded model against those of the whole computation with the
same seed.

    python -m benchmarks.quality [--picture FILE] [--sound FILE] [--seconds 2] [--rounds 3] [--threads N]

Each way is timed in turn, several rounds; ratios are of medians. PSNR and SSIM are means over all frames, of the whole
picture and of the mouth's box; "mouth moves" is the change from frame to frame there, against the whole computation's.
What another seed changes is the yardstick: a loss that is much smaller is no other video.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from benchmarks.clocks import CLOCK_HELP, CLOCKS
from benchmarks.inputs import EXAMPLES
from cyberhost_model import CyberHost
from cyberhost_model.lab.evaluation.metrics.psnr import psnr
from cyberhost_model.lab.evaluation.metrics.ssim import ssim
from cyberhost_model.media.audio import SPEECH_RATE, Sound, load_audio
from cyberhost_model.media.image import load_picture
from cyberhost_model.perception.detector import analyse
from cyberhost_model.perception.keypoints import LIPS

GUIDED = {"guidance_reference": 1.5, "guidance_audio": 2.5}
WAYS = {
    "without guidance": {
        "whole": {},
        "another seed": {"seed": 1},
        "--cache-blocks 2": {"cache_blocks": 2},
        "--cache-blocks 3": {"cache_blocks": 3},
        "--steps 3": {"steps": 3},
    },
    "with guidance 1.5 and 2.5": {
        "whole": GUIDED,
        "another seed": {**GUIDED, "seed": 1},
        "--guidance-interval 0,0.8": {**GUIDED, "guidance_interval": (0.0, 0.8)},
        "--guidance-interval 0.2,0.8": {**GUIDED, "guidance_interval": (0.2, 0.8)},
        "--guidance-interval 0.4,0.8": {**GUIDED, "guidance_interval": (0.4, 0.8)},
        "--cache-blocks 2": {**GUIDED, "cache_blocks": 2},
    },
}
"""The first of each group is what the others are held against."""


def main() -> None:
    """The command line: a Markdown table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--picture", default=str(EXAMPLES / "astronaut.jpg"))
    parser.add_argument("--sound", default=str(EXAMPLES / "speech.wav"))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help=CLOCK_HELP)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    for line in measured(given.picture, given.sound, given.seconds, given.rounds, CLOCKS[given.clock]):
        print(line, flush=True)


def measured(
    picture_file: str, sound_file: str, seconds: float, rounds: int, clock: Callable[[], float]
) -> Iterable[str]:
    """Rows of the table."""
    host = CyberHost.from_pretrained("tiny")
    picture = load_picture(Path(picture_file))
    samples = np.concatenate(list(load_audio(sound_file).stream_mono16k()))[: round(seconds * SPEECH_RATE)]
    sound = Sound.from_samples(samples, SPEECH_RATE)
    lips = analyse(picture, host.model.detector).keypoints.face[LIPS]
    mouth = (*lips.min(0), *lips.max(0))

    def run(settings: dict) -> tuple[float, np.ndarray]:
        began = clock()
        frames = np.stack(list(host.animate(picture, sound, size=256, **settings).frames))
        return clock() - began, frames

    yield "| Guidance | Way | time | PSNR | SSIM | mouth PSNR | mouth SSIM | mouth moves |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for group, ways in WAYS.items():
        taken: dict[str, list[float]] = {way: [] for way in ways}
        made: dict[str, np.ndarray] = {}
        for _ in range(rounds):
            for way, settings in ways.items():
                one, made[way] = run(settings)
                taken[way].append(one)
        base, *others = ways
        whole = statistics.median(taken[base])
        yield f"| {group} | {base} | 1 ({whole:.1f} s) | | | | | 1 |"
        for way in others:
            ratio = statistics.median(taken[way]) / whole
            pairs = list(zip(made[way], made[base], strict=True))
            near = [(cut(a, mouth), cut(b, mouth)) for a, b in pairs]
            moves = motion([a for a, _ in near]) / motion([b for _, b in near])
            whole_frame, mouth_alone = (f"{mean(psnr, p):.1f} | {mean(ssim, p):.4f}" for p in (pairs, near))
            yield f"| {group} | {way} | {ratio:.2f} | {whole_frame} | {mouth_alone} | {moves:.2f} |"


def cut(frame: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
    """The box (x0, y0, x1, y1), in 0..1 of the frame, with half its height around it, and at least the 11 pixels of
    SSIM's window.
    """
    h, w = frame.shape[:2]
    x0, y0, x1, y1 = box
    margin = max((y1 - y0) / 2, 8 / min(h, w))
    return frame[
        int((y0 - margin) * h) : int((y1 + margin) * h) + 1, int((x0 - margin) * w) : int((x1 + margin) * w) + 1
    ]


def motion(frames: list[np.ndarray]) -> float:
    """Mean absolute change from frame to frame."""
    return float(np.abs(np.diff(np.stack(frames).astype(float), axis=0)).mean())


def mean(measure, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Of `measure` over pairs of frames."""
    return float(np.mean([measure(a, b) for a, b in pairs]))


if __name__ == "__main__":
    main()

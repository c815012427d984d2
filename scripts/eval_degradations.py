"""Makes videos worse in steps and prints what `cyberhost eval` says of them: each metric must move where its
definition says.

    python scripts/eval_degradations.py OUT [--people N ...] [--frames 52] [--metrics NAMES] [--networks
    public|embedded] [--weights-dir DIR]

The videos are drawn people who speak (the project's own training data, 256x320), so no collection is needed. OUT keeps
the videos and the features: run again, it goes on. A measure whose weights are not there is left out of the table.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cyberhost_model.lab.evaluation.degradations import frozen_hands, jittered, late_sound, shifted, swapped_identity
from cyberhost_model.lab.evaluation.protocol import METRICS
from cyberhost_model.lab.evaluation.results import Results
from cyberhost_model.lab.evaluation.run import evaluate
from cyberhost_model.lab.synthetic.clips import Clip, ClipGenerator
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.video_writer import write_video

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SIZE, FPS, RATE = (256, 320), 25, 16000
UP, DOWN = 1, -1


@dataclass(frozen=True)
class Film:
    """A clip as arrays: frames uint8 (T, H, W, 3), sound (n,) at 16 kHz, and the clip itself."""

    frames: np.ndarray
    sound: np.ndarray
    clip: Clip


Worse = Callable[[Film, Film, float], Film]


def noise(film: Film, other: Film, amount: float) -> Film:
    random = np.random.default_rng(0)
    return Film(
        np.clip(film.frames + random.normal(0, amount, film.frames.shape), 0, 255).astype(np.uint8),
        film.sound,
        film.clip,
    )


def blur(film: Film, other: Film, sigma: float) -> Film:
    return Film(np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in film.frames]), film.sound, film.clip)


def swap(film: Film, other: Film, share: float) -> Film:
    return Film(swapped_identity(film.frames, other.frames, share), film.sound, film.clip)


def freeze(film: Film, other: Film, share: float) -> Film:
    return Film(frozen_hands(film.frames, [f.keypoints for f in film.clip.frames], share), film.sound, film.clip)


def jitter(film: Film, other: Film, pixels: float) -> Film:
    return Film(jittered(film.frames, pixels), film.sound, film.clip)


def shift(film: Film, other: Film, pixels: float) -> Film:
    return Film(shifted(film.frames, pixels), film.sound, film.clip)


def delay(film: Film, other: Film, frames: float) -> Film:
    return Film(film.frames, late_sound(film.sound, round(frames)), film.clip)


# What is done in which steps, and where it must move which measures.
WAYS: dict[str, tuple[Worse, tuple[float, ...], dict[str, int]]] = {
    "noise, deviation": (noise, (4, 12, 36), {"SSIM": DOWN, "PSNR": DOWN, "FID": UP, "FID-legacy": UP, "FVD": UP}),
    "blur, sigma": (blur, (1, 2, 4), {"SSIM": DOWN, "PSNR": DOWN, "FID": UP, "FID-legacy": UP, "FVD": UP}),
    "another person, share": (swap, (0.25, 0.5, 1.0), {"CSIM": DOWN}),
    "shift, pixels": (shift, (2, 5, 10), {"AKD": UP, "SSIM": DOWN}),
    "frozen hands, share": (freeze, (0.5, 0.75, 1.0), {"HKV": DOWN}),
    "jitter, pixels": (jitter, (1, 3, 6), {"HKV": UP, "FVD": UP, "AKD": UP}),
    "late sound, frames": (delay, (1, 3, 5, 10), {"SyncC": DOWN, "SyncD": UP}),
}


def films(people: Sequence[int], frames: int) -> list[Film]:
    """Drawn people who speak, by number, one clip each."""
    synth = ClipGenerator(People([], 1.0), SpeechLibrary(EXAMPLES), 5, frames, sizes=(SIZE,), clean=True)
    made = []
    for number in people:
        clip = synth.clip(number)
        start = round(clip.first / FPS * RATE)
        sound = clip.samples[start : start + round(len(clip.frames) / FPS * RATE)]
        made.append(Film(np.stack([f.picture_u8 for f in clip.frames]), sound, clip))
    return made


def worsened(clips: list[Film], way: str, step: float) -> list[Film]:
    """All clips, each made worse in this way; where another person is wanted it is the next."""
    return [WAYS[way][0](film, clips[(i + 1) % len(clips)], step) for i, film in enumerate(clips)]


def write(folder: Path, clips: list[Film]) -> Path:
    """The clips as videos, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, film in enumerate(clips):
        path = folder / f"person{i}.mp4"
        if not path.exists():
            write_video(list(film.frames), path, FPS, Sound.from_samples(film.sound, RATE))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--people",
        type=int,
        nargs="+",
        default=[5, 25, 1, 17],
        metavar="N",
        help="numbers of drawn people; the hands of the default ones move and are seen",
    )
    parser.add_argument("--frames", type=int, default=52)
    parser.add_argument("--metrics", default=",".join(METRICS))
    parser.add_argument("--networks", default="public", choices=("public", "embedded"))
    parser.add_argument("--weights-dir", type=Path)
    parser.add_argument("--clips", type=int, default=4)
    chosen = parser.parse_args()
    clips = films(chosen.people, chosen.frames)
    truth = write(chosen.out / "truth", clips)

    def measure(folder: Path) -> Results:
        return evaluate(
            folder,
            truth,
            metrics=chosen.metrics.split(","),
            weights_dir=chosen.weights_dir,
            networks=chosen.networks,
            clips=chosen.clips,
            download=False,
            cache=chosen.out / "features",
            device="cpu",
        ).results

    itself = measure(truth)
    names = [m.name for m in itself.metrics if m.status == "ok"]
    for m in itself.metrics:
        if m.status != "ok":
            print(f"{m.name}: {m.reason}")
    print(f"\n| | {' | '.join(names)} | As defined |\n|---|{'---:|' * len(names)}---|")
    print(f"| ground truth against itself | {' | '.join(shown(itself, names))} | |")
    for way, (_, steps, expected) in WAYS.items():
        wanted = {name: sign for name, sign in expected.items() if name in names}
        if not wanted:
            continue
        runs = [itself]
        for step in steps:
            runs.append(
                measure(
                    write(chosen.out / f"{way.split(',')[0].replace(' ', '_')}_{step:g}", worsened(clips, way, step))
                )
            )
            verdict = (
                ", ".join(f"{name} {'yes' if yes else 'no'}" for name, yes in steady(runs, wanted).items())
                if step == steps[-1]
                else ""
            )
            print(f"| {way} {step:g} | {' | '.join(shown(runs[-1], names))} | {verdict} |", flush=True)


def shown(results: Results, names: list[str]) -> list[str]:
    found = [results.metric(name) for name in names]
    return [f"{m.value:.{m.decimals}f}" if m and m.value is not None else "-" for m in found]


def steady(runs: Sequence[Results], expected: Mapping[str, int]) -> dict[str, bool]:
    """Measure -> whether it moved the right way at every step."""
    found = {}
    for name, sign in expected.items():
        values = [m.value for run in runs if (m := run.metric(name)) and m.value is not None]
        found[name] = len(values) == len(runs) and all(sign * (b - a) > 0 for a, b in itertools.pairwise(values))
    return found


if __name__ == "__main__":
    main()

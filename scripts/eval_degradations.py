"""Degrade videos in steps and print what `cyberhost eval` measures: each metric must move as its definition says.

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

from cyberhost_model.lab.evaluation.registry import headline_measures
from cyberhost_model.lab.evaluation.results import Results
from cyberhost_model.lab.evaluation.run import evaluate
from cyberhost_model.lab.synthetic.clips import Clip, ClipGenerator
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.perception.keypoints import Keypoints

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SIZE, FPS, RATE = (256, 320), 25, 16000
UP, DOWN = 1, -1


@dataclass(frozen=True)
class SpeakerClip:
    """Hold a clip as arrays: frames uint8 (T, H, W, 3), sound (n,) at 16 kHz, and the clip itself."""

    frames: np.ndarray
    sound: np.ndarray
    source: Clip


def swap_identity(frames: np.ndarray, others: np.ndarray, share: float) -> np.ndarray:
    """Replace the last `share` of the frames by another person's (CSIM falls).

    frames, others: uint8 (T, H, W, 3); the result is a copy, here and below.
    """
    out = frames.copy()
    start = len(frames) - round(share * len(frames))
    out[start:] = others[start:]
    return out


def freeze_hands(frames: np.ndarray, people: list[Keypoints], share: float) -> np.ndarray:
    """Freeze everything below the chin in the last `share` of the frames (HKV falls).

    It is taken from the frame whose hands are nearest to their mean place. people: the person in each frame.
    """
    out = frames.copy()
    start = len(frames) - round(share * len(frames))
    hands = np.stack([k.hands.reshape(-1) for k in people])
    middle = int(np.linalg.norm(hands - hands.mean(0), axis=1).argmin())
    chin = max(float(k.face[:, 1].max()) for k in people) * frames.shape[1]
    top = min(frames.shape[1] - 1, int(chin) + 2)
    out[start:, top:] = frames[middle, top:]
    return out


def jitter_frames(frames: np.ndarray, pixels: float, seed: int = 0) -> np.ndarray:
    """Move every frame by its own random step of up to `pixels` on either axis (HKV rises)."""
    steps = np.random.default_rng(seed).uniform(-1, 1, (len(frames), 2)) * pixels
    return np.stack([_moved(frame, *step) for frame, step in zip(frames, steps, strict=True)])


def shift_frames(frames: np.ndarray, pixels: float) -> np.ndarray:
    """Move all frames to the right by `pixels` (AKD rises)."""
    return np.stack([_moved(frame, pixels, 0.0) for frame in frames])


def delay_sound(samples: np.ndarray, frames: int, fps: float = FPS, rate: int = RATE) -> np.ndarray:
    """Delay the sound (n,) by `frames`, negative for earlier, at the same length.

    The offset that SyncNet finds moves by as much, SyncC falls.
    """
    step = round(frames / fps * rate)
    silence = np.zeros(min(abs(step), len(samples)), samples.dtype)
    if step >= 0:
        return np.concatenate([silence, samples[: len(samples) - step]])
    return np.concatenate([samples[-step:], silence])


def _moved(frame: np.ndarray, x: float, y: float) -> np.ndarray:
    """Move a frame; its edge is repeated where nothing comes from outside."""
    size = frame.shape[1], frame.shape[0]
    return cv2.warpAffine(
        frame, np.array([[1, 0, x], [0, 1, y]], float), size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


Degrade = Callable[[SpeakerClip, SpeakerClip, float], SpeakerClip]


def noise(clip: SpeakerClip, other: SpeakerClip, amount: float) -> SpeakerClip:
    """Add Gaussian noise of this deviation."""
    random = np.random.default_rng(0)
    return SpeakerClip(
        np.clip(clip.frames + random.normal(0, amount, clip.frames.shape), 0, 255).astype(np.uint8),
        clip.sound,
        clip.source,
    )


def blur(clip: SpeakerClip, other: SpeakerClip, sigma: float) -> SpeakerClip:
    """Blur with a Gaussian of this sigma."""
    return SpeakerClip(np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in clip.frames]), clip.sound, clip.source)


def swap(clip: SpeakerClip, other: SpeakerClip, share: float) -> SpeakerClip:
    """Replace a share of the frames by another person."""
    return SpeakerClip(swap_identity(clip.frames, other.frames, share), clip.sound, clip.source)


def freeze(clip: SpeakerClip, other: SpeakerClip, share: float) -> SpeakerClip:
    """Freeze the hands in a share of the frames."""
    return SpeakerClip(
        freeze_hands(clip.frames, [f.keypoints for f in clip.source.frames], share), clip.sound, clip.source
    )


def jitter(clip: SpeakerClip, other: SpeakerClip, pixels: float) -> SpeakerClip:
    """Move every frame by its own random step."""
    return SpeakerClip(jitter_frames(clip.frames, pixels), clip.sound, clip.source)


def shift(clip: SpeakerClip, other: SpeakerClip, pixels: float) -> SpeakerClip:
    """Move all frames to the right."""
    return SpeakerClip(shift_frames(clip.frames, pixels), clip.sound, clip.source)


def delay(clip: SpeakerClip, other: SpeakerClip, frames: float) -> SpeakerClip:
    """Delay the sound by frames."""
    return SpeakerClip(clip.frames, delay_sound(clip.sound, round(frames)), clip.source)


_WORSE = dict.fromkeys(("SSIM", "PSNR", "SSIM-face", "SSIM-hands"), DOWN) | dict.fromkeys(
    ("FID", "FID-legacy", "KID", "FVD", "LPIPS", "LPIPS-face", "LPIPS-hands", "FID-face", "KID-face"), UP
)
# What is done in which steps, and where it must move which measures.
DEGRADATIONS: dict[str, tuple[Degrade, tuple[float, ...], dict[str, int]]] = {
    "noise, deviation": (noise, (4, 12, 36), {**_WORSE, "Flicker": UP}),
    "blur, sigma": (blur, (1, 2, 4), _WORSE),
    "another person, share": (swap, (0.25, 0.5, 1.0), {"CSIM": DOWN}),
    "shift, pixels": (shift, (2, 5, 10), {"AKD": UP, "SSIM": DOWN}),
    "frozen hands, share": (freeze, (0.5, 0.75, 1.0), {"HKV": DOWN, "SSIM-hands": DOWN, "Dynamics": DOWN}),
    "jitter, pixels": (jitter, (1, 3, 6), {"HKV": UP, "FVD": UP, "AKD": UP, "Dynamics": UP}),
    "late sound, frames": (delay, (1, 3, 5, 10), {"SyncC": DOWN, "SyncD": UP}),
}


def render_speakers(people: Sequence[int], frames: int) -> list[SpeakerClip]:
    """Render drawn people who speak, by number, one clip each."""
    synth = ClipGenerator(People([], 1.0), SpeechLibrary([EXAMPLES]), 5, frames, sizes=(SIZE,), clean=True)
    made = []
    for number in people:
        clip = synth.clip(number)
        start = round(clip.first / FPS * RATE)
        sound = clip.samples[start : start + round(len(clip.frames) / FPS * RATE)]
        made.append(SpeakerClip(np.stack([f.picture_u8 for f in clip.frames]), sound, clip))
    return made


def degrade(clips: list[SpeakerClip], way: str, step: float) -> list[SpeakerClip]:
    """Degrade every clip; where another person is needed it is the next one."""
    return [DEGRADATIONS[way][0](clip, clips[(i + 1) % len(clips)], step) for i, clip in enumerate(clips)]


def write_videos(folder: Path, clips: list[SpeakerClip]) -> Path:
    """Write the clips as videos, unless they exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, clip in enumerate(clips):
        path = folder / f"person{i}.mp4"
        if not path.exists():
            write_video(list(clip.frames), path, FPS, Sound.from_samples(clip.sound, RATE))
    return folder


def main() -> None:
    """Print the table."""
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
    parser.add_argument("--metrics", default=",".join(headline_measures()))
    parser.add_argument("--networks", default="public", choices=("public", "embedded"))
    parser.add_argument("--weights-dir", type=Path)
    parser.add_argument("--clips", type=int, default=4)
    chosen = parser.parse_args()
    clips = render_speakers(chosen.people, chosen.frames)
    truth = write_videos(chosen.out / "truth", clips)

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
    print(f"| ground truth against itself | {' | '.join(format_values(itself, names))} | |")
    for way, (_, steps, expected) in DEGRADATIONS.items():
        wanted = {name: sign for name, sign in expected.items() if name in names}
        if not wanted:
            continue
        runs = [itself]
        for step in steps:
            runs.append(
                measure(
                    write_videos(
                        chosen.out / f"{way.split(',')[0].replace(' ', '_')}_{step:g}", degrade(clips, way, step)
                    )
                )
            )
            verdict = (
                ", ".join(f"{name} {'yes' if yes else 'no'}" for name, yes in moves_as_defined(runs, wanted).items())
                if step == steps[-1]
                else ""
            )
            print(f"| {way} {step:g} | {' | '.join(format_values(runs[-1], names))} | {verdict} |", flush=True)


def format_values(results: Results, names: list[str]) -> list[str]:
    """Write the values of measures."""
    found = [results.metric(name) for name in names]
    return [f"{m.value:.{m.decimals}f}" if m and m.value is not None else "-" for m in found]


def moves_as_defined(runs: Sequence[Results], expected: Mapping[str, int]) -> dict[str, bool]:
    """Return for each measure whether it moved the right way at every step."""
    found = {}
    for name, sign in expected.items():
        values = [m.value for run in runs if (m := run.metric(name)) and m.value is not None]
        found[name] = len(values) == len(runs) and all(sign * (b - a) > 0 for a, b in itertools.pairwise(values))
    return found


if __name__ == "__main__":
    main()

"""The tables of docs/reference/driving.md: `python scripts/driving_measure.py --gestures DIR --stills DIR --speech
DIR`.

Errors are mean distances in pixels of a picture 640 high. Noise and gaps are planted in key points that are known;
videos and the same performance by two people are made by the generator from people kept out of training.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.signal import savgol_filter

from cyberhost_model.driving import video as follow
from cyberhost_model.driving.retarget import retarget
from cyberhost_model.driving.sequence import ARRAYS, PoseSequence
from cyberhost_model.driving.smooth import clean
from cyberhost_model.driving.video import read_poses
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.framing import random_framing
from cyberhost_model.lab.synthetic.performance import load_gestures, perform
from cyberhost_model.lab.synthetic.puppet import Puppet
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary
from cyberhost_model.lab.synthetic.speech_motion import speech_motion
from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.perception.keypoints import VISIBLE
from cyberhost_model.perception.registry import embedded_detector

HEIGHT, SIZE, FRAMES = 640, (384, 512), 100
PARTS = {"body": slice(0, 18), "hands": slice(18, 60), "face": slice(60, 128)}


def distances(a: PoseSequence, b: PoseSequence) -> np.ndarray:
    """(T, 128), NaN where one of them does not show the point."""
    off = HEIGHT * np.linalg.norm((a.points() - b.points()) * [b.aspect, 1], axis=-1)
    return np.where((a.scores() > VISIBLE) & (b.scores() > VISIBLE), off, np.nan)


def spoiled(true: PoseSequence, tremble: float, missing: float, rng: np.random.Generator) -> PoseSequence:
    noise = rng.normal(0, tremble / HEIGHT, (len(true), 128, 2)) / [true.aspect, 1]
    return true.with_points(true.points() + noise, np.where(rng.random((len(true), 128)) < missing, 0, true.scores()))


def mean(values: np.ndarray) -> str:
    return f"{np.nanmean(values):.2f}" if np.isfinite(values).any() else "-"


def smoothing(name: str, trues: list[PoseSequence]) -> None:
    rng = np.random.default_rng(0)
    for tremble in (0.0, 3.0, 7.5):
        rows = []
        for true in trues:
            speed = HEIGHT * np.linalg.norm(np.gradient(true.points() * [true.aspect, 1], axis=0), axis=-1)
            bad = spoiled(true, tremble, 0.2 if tremble else 0.0, rng)
            good = clean(bad)
            before, after = distances(bad, true), distances(good, true)
            shown = true.scores() > VISIBLE
            rows.append(
                [
                    before,
                    after,
                    np.where(speed > 5, before, np.nan),
                    np.where(speed > 5, after, np.nan),
                    (good.scores() > VISIBLE)[shown].mean(),
                ]
            )
        joined = [np.concatenate([r[i].ravel() for r in rows]) for i in range(4)]
        print(
            f"| {name} | {tremble:g} px, {'20%' if tremble else '0%'} | {' | '.join(mean(j) for j in joined)} | "
            f"{np.mean([r[4] for r in rows]):.1%} |"
        )


def recorded(folder: Path) -> list[PoseSequence]:
    """Recorded gestures. They tremble themselves: their parabolas over seven frames are taken for the truth."""
    out = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            arrays = {n: file[n].clip(0, 1) if n.endswith("score") else file[n] for n in ARRAYS}
        out.append(PoseSequence(25.0, (480, 640), **arrays).map(lambda p: savgol_filter(p, 7, 2, axis=0)))
    return out


def people(folder: str, rng: np.random.Generator) -> list[Still]:
    """Held-out people who show both hands, and as many drawn ones; their arms can be moved one by one."""
    found = [s for s in People([folder], 0.0, True).stills if s.keypoints.hands_score.max(1).min() > VISIBLE]
    made = [random_framing(s, rng, SIZE) for s in found]
    free = [s for s in made if movable(s)]
    drawn = (
        random_framing(drawn_still(i, (SIZE[0] * 3 // 2, SIZE[1] * 3 // 2)), rng, SIZE) for i in range(10_000, 10_200)
    )
    return free + list(itertools.islice((s for s in drawn if movable(s)), len(free)))


def movable(still: Still) -> bool:
    puppet = Puppet(still)
    return len(puppet.bones) == 2 and not puppet.clasped


def reading(clips: list[tuple[PoseSequence, Path]]) -> None:
    detector = embedded_detector()
    for name, every in (("searched in every frame", 1), ("followed, searched every 12th frame", follow.SEARCH)):
        follow.SEARCH = every
        start = time.process_time()
        raw = [read_poses(path, detector, smooth=False) for _, path in clips]
        cost = (time.process_time() - start) / sum(map(len, raw))
        for words, made in ((name, raw), (f"{name}, cleaned", [clean(r) for r in raw])):
            off = [
                np.concatenate([distances(m, t)[:, part].ravel() for m, (t, _) in zip(made, clips, strict=True)])
                for part in PARTS.values()
            ]
            rough = [
                HEIGHT * np.linalg.norm(np.diff(m.points() * [m.aspect, 1], 2, axis=0), axis=-1)[:, 60:].mean()
                for m in made
            ]
            print(f"| {words} | {' | '.join(mean(o) for o in off)} | {np.mean(rough):.2f} | {1000 * cost:.1f} |")
    rough = [
        HEIGHT * np.linalg.norm(np.diff(t.points() * [t.aspect, 1], 2, axis=0), axis=-1)[:, 60:].mean()
        for t, _ in clips
    ]
    print(f"| the true points | 0 | 0 | 0 | {np.mean(rough):.2f} | |")


def same_performance(pairs: list[tuple[PoseSequence, PoseSequence, Still]]) -> None:
    """The driving, the other's true performance, and the other's still.

    Motion: what is left when each point's mean place is taken away.
    """
    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {
        "the still picture": [],
        "driving as it is": [],
        "retargeted": [],
    }
    for drive, true, still in pairs:
        made = (
            PoseSequence.of([still.keypoints] * len(true), 25, still.size),
            drive,
            retarget(drive, still.keypoints, still.size),
        )
        for row, sequence in zip(rows.values(), made, strict=True):
            row.append((distances(sequence, true), distances(centred(sequence), centred(true))))
    for name, found in rows.items():
        cells = [
            mean(np.concatenate([f[i][:, part].ravel() for f in found])) for part in PARTS.values() for i in (0, 1)
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def centred(sequence: PoseSequence) -> PoseSequence:
    return sequence.map(lambda p: p - p.mean(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--gestures", "--stills", "--speech"):
        parser.add_argument(option, required=True)
    options = parser.parse_args()
    rng = np.random.default_rng(3)
    gestures, library = load_gestures(options.gestures), SpeechLibrary([options.speech], True)
    stills = people(options.stills, rng)
    print(f"{len(stills)} people")
    clips, pairs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for i, still in enumerate(stills):
            poses = perform(speech_motion(library.window(rng, 8.0), 25.0), rng, False, gestures)[:FRAMES]
            made = []
            for who in (still, stills[(i + 1) % len(stills)]):
                puppet = Puppet(who)
                frames = [puppet.render(p) for p in poses]
                made.append((PoseSequence.of([f.keypoints for f in frames], 25.0, who.size), frames))
            path = write_video((f.picture_u8 for f in made[0][1]), Path(folder) / f"{i}.mp4", 25)
            clips.append((made[0][0], path))
            pairs.append((made[0][0], made[1][0], stills[(i + 1) % len(stills)]))
        print(
            "## Cleaning\n| key points | noise, missing | before | after | before, quick | after, quick | shown "
            "|\n|---|---|---|---|---|---|---|"
        )
        smoothing("recorded", recorded(Path(options.gestures)))
        smoothing("generated", [t for t, _ in clips])
        print("## Reading\n| | body | hands | face | trembling | ms |\n|---|---|---|---|---|---|")
        reading(clips)
    print(
        "## The same performance by another person\n| | body | motion | hands | motion | face | motion "
        "|\n|---|---|---|---|---|---|---|"
    )
    same_performance(pairs)
    long = recorded(Path(options.gestures))[0]
    long = long.sampled(np.arange(1500) % len(long), 25)
    for name, function in (("clean", clean), ("retarget", lambda s: retarget(s, stills[0].keypoints, stills[0].size))):
        start = time.process_time()
        function(long)
        print(f"{name}: {1e6 * (time.process_time() - start) / len(long):.0f} us a frame")


if __name__ == "__main__":
    main()

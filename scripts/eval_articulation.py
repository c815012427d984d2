"""Show what `cyberhost eval` says of the articulation of filmed people, with their own sound and with wrong ones.

`python scripts/eval_articulation.py FILMED -o OUT` prints a table. FILMED: short clips of one speaker, a sentence
each, 25 frames a second (GRID); those that are kept out of training are taken, `--trained` takes the others. They are
cut to their speech, and several make one video, because controls need 6 s and pauses are no articulation. OUT keeps
videos, sounds and features: run again, it goes on. Needs `cyberhost[articulation]`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from cyberhost_model.lab.evaluation.features.phonemes import PhonemeFeatures, load_recogniser
from cyberhost_model.lab.evaluation.results import Results
from cyberhost_model.lab.evaluation.run import evaluate
from cyberhost_model.lab.filmed.manifest import held_out
from cyberhost_model.media.audio import Sound, load_audio
from cyberhost_model.media.video_reader import probe_video, read_frames
from cyberhost_model.media.video_writer import write_video

FPS, RATE = 25, 16_000
HOP = RATE // FPS
BEFORE, AFTER = 2, 5  # frames kept before the first phoneme and from the last one on
MEASURES = ("Closure", "Opening", "LipLoudness")


def speech_of(path: Path, phonemes: PhonemeFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 (T, H, W, 3) and samples (T * 640,) of a clip, from its first phoneme to its last."""
    frames = np.concatenate([batch.copy() for batch in read_frames(probe_video(path))])
    samples = load_audio(path).mono16k()[: len(frames) * HOP]
    samples = np.pad(samples, (0, len(frames) * HOP - len(samples)))
    starts = phonemes.extract(path)["starts"]
    if not len(starts):
        return frames[:0], samples[:0]
    first, stop = max(0, int(starts[0] * FPS) - BEFORE), int(starts[-1] * FPS) + AFTER
    return frames[first:stop], samples[first * HOP : min(stop, len(frames)) * HOP]


def join_clips(clips: list[Path], out: Path, each: int) -> dict[str, np.ndarray]:
    """Write videos of `each` clips one after the other to `out`; returns the sound of each by the video's name."""
    out.mkdir(parents=True, exist_ok=True)
    phonemes, sounds = load_recogniser(), {}
    for start in range(0, len(clips), each):
        name = f"{start // each:02d}"
        parts = [speech_of(path, phonemes) for path in clips[start : start + each]]
        frames, sounds[name] = (np.concatenate(column) for column in zip(*parts, strict=True))
        if not (out / f"{name}.mp4").exists():
            write_video(list(frames), out / f"{name}.mp4", FPS, Sound.from_samples(sounds[name], RATE), crf=12)
    return sounds


def wrong_sounds(sounds: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Sounds by what is wrong with them: shifted in a ring by so many seconds, or that of the next video."""
    out = {"its own": dict(sounds)}
    for seconds in (0.4, -0.4, 1.0, -1.0):
        word = f"{abs(seconds):g} s {'late' if seconds > 0 else 'early'}"
        out[word] = {name: np.roll(sound, round(seconds * RATE)) for name, sound in sounds.items()}
    names = list(sounds)
    of_next = dict(zip(names, [*names[1:], names[0]], strict=True))
    out["another video's"] = {name: np.resize(sounds[of_next[name]], len(sound)) for name, sound in sounds.items()}
    return out


def row(word: str, results: Results) -> str:
    """One line of the table."""
    cells = []
    for name in MEASURES:
        found = results.metric(name)
        assert found is not None
        if found.value is None:
            cells.append(found.reason)
            continue
        lag = f", lag {found.extras['lag']:+d}" if "lag" in found.extras else ""
        sure = f" ± {found.extras['control_deviation']:.2f}" if "control_deviation" in found.extras else ""
        cells.append(f"{found.value:+.2f}{sure}{lag}")
    return f"| {word} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("filmed", type=Path, help="folder of clips")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--each", type=int, default=7, help="clips a video")
    parser.add_argument("--trained", action="store_true", help="the clips that are not kept out of training")
    args = parser.parse_args()
    clips = [p for p in sorted(args.filmed.glob("*.mp4")) if held_out(p.stem) != args.trained]
    clips = clips[: len(clips) // args.each * args.each]
    sounds = join_clips(clips, args.out / "videos", args.each)
    seconds = sum(map(len, sounds.values())) / RATE
    print(f"{len(clips)} clips in {len(sounds)} videos, {seconds:.0f} s of speech; ±: deviation of the controls\n")
    print(f"| Sound | {' | '.join(MEASURES)} |\n|---|{'---|' * len(MEASURES)}")
    for word, wrong in wrong_sounds(sounds).items():
        folder = args.out / word.replace(" ", "-").replace("'", "")
        folder.mkdir(exist_ok=True)
        for name, samples in wrong.items():
            soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="FLOAT")
        evaluation = evaluate(
            args.out / "videos", audio=folder, metrics=["Closure"], download=False, cache=args.out / "features"
        )
        print(row(word, evaluation.results), flush=True)


if __name__ == "__main__":
    main()

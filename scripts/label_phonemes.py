"""Label English speech with phonemes and their times, by hama.

`python scripts/label_phonemes.py SPEECH -o LABELS` writes one JSON a recording (or filmed clip): its seconds and
[start, end, phoneme] of each span; what is there already is left. Spans are those of a CTC recogniser, which tells
a phoneme 0.05 s late (measured on espeak-ng's speech, whose times are exact): they are moved back. Each lasts
until the next begins; between words there may be gaps. Needs an environment of its own: hama 1.7.0,
imageio-ffmpeg, numpy < 2.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from hama import ASRModel

RATE = 16_000  # Hz
LONGEST, SHORTEST = 10 * RATE, 6 * RATE  # samples: the recogniser's pieces, cut where it is quietest
LATE = 0.05  # seconds
SOUNDS = (".flac", ".wav", ".mp3", ".ogg", ".mp4", ".mov", ".mkv", ".webm")


def sound(path: Path) -> np.ndarray:
    """Mono samples at 16 kHz, float32 (n,)."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-i", str(path)]
    command += ["-ac", "1", "-ar", str(RATE), "-f", "f32le", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)


def pieces(samples: np.ndarray) -> list[tuple[int, int]]:
    """Stretches [first, end) of at most 10 s, cut in the quietest 20 ms after 6 s."""
    cuts, first = [], 0
    while len(samples) - first > LONGEST:
        late = samples[first + SHORTEST : first + LONGEST]
        power = (late[: len(late) // 320 * 320].reshape(-1, 320) ** 2).mean(1)
        end = first + SHORTEST + int(power.argmin()) * 320 + 160
        cuts.append((first, end))
        first = end
    return [*cuts, (first, len(samples))]


def spans(model: ASRModel, samples: np.ndarray) -> list[tuple[float, float, str]]:
    """(start, end, phoneme) in seconds."""
    out = []
    for first, end in pieces(samples):
        if end - first < RATE // 4:
            continue
        at = first / RATE - LATE
        for span in model.phoneme_spans(model.transcribe_waveform(np.ascontiguousarray(samples[first:end]), RATE)):
            out.append((round(at + span.start_ms / 1000, 3), round(at + span.end_ms / 1000, 3), span.phoneme))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("speech", type=Path, help="folder of sounds or videos")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of labels")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = ASRModel()
    for path in sorted(p for p in args.speech.iterdir() if p.suffix in SOUNDS):
        out = args.out / f"{path.stem}.json"
        if out.exists():
            continue
        samples = sound(path)
        heard, seconds = spans(model, samples), round(len(samples) / RATE, 3)
        found = {"seconds": seconds, "phonemes": heard}
        part = out.with_suffix(".part.json")  # a file that is there counts as done: it comes whole
        part.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
        part.rename(out)
        print(f"{path.name}: {len(heard)} phonemes in {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()

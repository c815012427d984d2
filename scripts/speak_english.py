"""Make synthetic English whose phonemes have exact times, by flite's voices, which are more natural than espeak-ng's.

`python scripts/speak_english.py -o SPEECH` writes FLAC at 16 kHz and beside each a JSON as `label_phonemes.py` does;
what is there already is left. Sentences are put together at random: sense is not needed, phonemes in many
surroundings are.
Needs the program flite (Debian: flite).
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from cyberhost_model.media.files import written_whole
from cyberhost_model.speech.phonemes import write_phonemes

VOICES = ("kal16", "awb", "rms", "slt")
IPA = dict(
    entry.split(":")
    for entry in (
        "pau: aa:ɑ ae:æ ah:ʌ ao:ɔ aw:aʊ ax:ə axr:ɚ ay:aɪ b:b ch:tʃ d:d dh:ð dx:ɾ eh:ɛ el:əl em:əm en:ən er:ɝ "
        "ey:eɪ f:f g:ɡ hh:h hv:h ih:ɪ "
        "iy:i jh:dʒ k:k l:l m:m n:n nx:n ng:ŋ ow:oʊ oy:ɔɪ p:p r:ɹ s:s sh:ʃ t:t th:θ uh:ʊ uw:u v:v w:w y:j z:z zh:ʒ"
    ).split(" ")
)
WHO = (
    "my mother|the old farmer|a young woman|our neighbour|Bob and Paul|every child|"
    "the people from Bombay|his wife|nobody|a famous painter|"
    "the boy in the blue shirt|Mary|five thieves|the judge|Joyce|a group of women|the baby|"
    "your uncle George|both brothers|the whole team"
).split("|")
DOES = (
    "bought|moved|would remember|has thrown away|found|should have opened|never measured|put down|"
    "wanted to borrow|loves|imagined|built|will push|"
    "saw|pulled|could not explain|brought back|watched|broke|chose|makes|described|took|wrapped up|"
    "forgot about|asked for|painted|believed in"
).split("|")
WHAT = (
    "a wooden boat|the purple umbrella|some warm bread and butter|two thousand pumpkins|an empty box|"
    "this beautiful vase|her mobile phone|a cup of coffee|"
    "the back of the book|an awful noise|their favourite movie|a bowl of soup|thirty white sheep|"
    "the map of Europe|a very good joke|both of the maps|"
    "the usual problem|a bag full of apples|four pounds of beef|one more question|the voice of the crowd|"
    "a thin leather jacket|the moon above the lake"
).split("|")
WHERE = (
    "by the river|on the roof|before breakfast|in the middle of July|with a lot of pleasure|"
    "up on the mountain|under the bridge|for the first time|"
    "without a warning|from the top of the tower|at half past five|behind the house|just over there|"
    "in a small village in Wales|after the rain|"
    "when the shop was closed|because of the fog|near the south beach|about a month ago|to keep warm"
).split("|")
FORMS = (
    "{0} {1} {2}.",
    "{0} {1} {2} {3}.",
    "{3}, {0} {1} {2}.",
    "Why do you think {0} {1} {2}?",
    "Maybe {0} {1} {2}, but {4} {5} {6} {3}.",
)


def sentence(rng: np.random.Generator) -> str:
    lists = (WHO, DOES, WHAT, WHERE, WHO, DOES, WHAT)
    return str(rng.choice(FORMS)).format(*(rng.choice(words) for words in lists))


def speak(text: str, voice: str, slower: float, pitch: float) -> tuple[np.ndarray, int, list[tuple[float, float, str]]]:
    """Samples, their rate in Hz, and (start, end, phoneme) in seconds; empty names are pauses. `pitch` in Hz."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as out:
        how = ["--setf", f"duration_stretch={slower:.3f}", "--setf", f"int_f0_target_mean={pitch:.1f}"]
        command = ["flite", "-voice", voice, *how, "-t", text, "-o", out.name, "-psdur"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        samples, rate = soundfile.read(out.name, dtype="float32")
    spans, start = [], 0.0
    for entry in told.split():
        name, _, end = entry.rpartition(":")
        spans.append((round(start, 3), round(float(end), 3), IPA[name]))
        start = float(end)
    return samples, rate, spans


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of speech")
    parser.add_argument("--sentences", type=int, default=100, help="how many each voice says")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for number, voice in enumerate(VOICES):
        rng = np.random.default_rng(number)
        for i in range(args.sentences):
            text, slower, pitch = sentence(rng), rng.uniform(0.85, 1.25), rng.uniform(85, 220)
            out = args.out / f"{voice}-english-{i:03d}.flac"
            if out.exists():
                continue
            samples, rate, spans = speak(text, voice, slower, pitch)
            if rate != 16_000:
                raise SystemExit(f"flite's voice {voice} has {rate} Hz, not 16000")
            write_phonemes(out.with_suffix(".json"), len(samples) / rate, spans)
            with written_whole(out) as part:  # after its labels: a sound that is there counts as done
                soundfile.write(part, samples, rate, format="FLAC")
        print(f"{voice}: {args.sentences} sentences", flush=True)


if __name__ == "__main__":
    main()

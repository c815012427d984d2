"""Make the ten videos that lips are judged by: people and speakers kept out of training, default options, 512 pixels.

    python scripts/articulation_videos.py --stills DIR --stills DIR --speech DIR -o OUT [--model tiny]

The speakers are those of the ten longest recordings that are kept out, cut to 15 s. OUT gets NN.mp4 with its sound.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import soundfile

from cyberhost_model import CyberHost
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.audio import SPEECH_RATE, Sound

PEOPLE = (
    "halfbody/man_02",
    "portraits/female_12",
    "halfbody/x_49",
    "portraits/male_14",
    "halfbody/man_03",
    "halfbody/woman_33",
    "portraits/female_47",
    "halfbody/man_14",
    "halfbody/man_17",
    "portraits/male_63",
)
SECONDS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stills", action="append", required=True)
    parser.add_argument("--speech", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="tiny")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    stills = {still.identity: still for still in People(given.stills, 0.0, held_out=True).stills}
    files = SpeechLibrary([given.speech], held_out=True).folders[0]
    longest = sorted(sorted(files, key=lambda path: -soundfile.info(path).duration)[: len(PEOPLE)])
    host = CyberHost.from_pretrained(given.model)
    for number, (person, path) in enumerate(zip(PEOPLE, longest, strict=True)):
        samples = soundfile.read(path, dtype="float32")[0][: SECONDS * SPEECH_RATE]
        sound = Sound.from_samples(samples, SPEECH_RATE)
        animation = host.animate(stills[person].picture_u8, sound, seed=number, size=512)
        plain = Marks(watermark=False, c2pa=False)  # the model is measured, not its marks
        animation.save(given.output / f"{number:02d}.mp4", overwrite=True, marks=plain)
        print(number, person, path.name, flush=True)


if __name__ == "__main__":
    main()

"""Makes what `scripts/heldout_measure.py` measures: for people and speakers kept out of training, the model's video,
the generator's own and the truth.

    python scripts/heldout_videos.py --stills DIR --speech DIR -o OUT [--model tiny] [--people 12] [--seconds 5]

Each item is N.ours.mp4, N.truth.mp4 (the photo puppet of the same still under the same speech), N.png (the still) and
N.json (the true opening).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from cyberhost_model import CyberHost
from cyberhost_model.lab.synthetic.performance import perform
from cyberhost_model.lab.synthetic.puppet import Puppet
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary
from cyberhost_model.lab.synthetic.speech_motion import spoken_motion
from cyberhost_model.lab.synthetic.stills import crop_still
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.video_writer import write_video

RATE, FPS, PAUSE = 16000, 25, 1.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stills", action="append", required=True)
    parser.add_argument("--speech", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--guidance-audio", type=float)
    parser.add_argument("--guidance-reference", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--cache-blocks", type=int, default=1)
    parser.add_argument("--body-movement", type=float)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    people, library = People(given.stills, 0.0, held_out=True), SpeechLibrary([given.speech], held_out=True)
    host = CyberHost.from_pretrained(given.model)
    picked = sorted(people.stills, key=lambda s: s.keypoints.hands_score.max() < 0.3)
    with_hands = sum(s.keypoints.hands_score.max() > 0.3 for s in picked)
    half = min(with_hands, (given.people + 1) // 2)
    chosen = picked[:half] + picked[with_hands : with_hands + given.people - half]
    for number, still in enumerate(chosen):
        rng = np.random.default_rng([17, number])
        speech = library.window(rng, given.seconds - PAUSE)
        cut = len(speech) // 2
        samples = np.concatenate([speech[:cut], np.zeros(round(PAUSE * RATE), np.float32), speech[cut:]])
        sound, motion = Sound.from_samples(samples, RATE), spoken_motion(samples, host.model.speech, FPS)
        name = given.output / f"{number:02d}"
        animation = host.animate(
            still.picture_u8,
            sound,
            seed=number,
            steps=given.steps,
            cache_blocks=given.cache_blocks,
            body_movement=given.body_movement,
            guidance_audio=given.guidance_audio,
            guidance_reference=given.guidance_reference,
        )
        plain = Marks(watermark=False, c2pa=False)  # the model is measured, not its marks
        animation.save(name.with_suffix(".ours.mp4"), overwrite=True, marks=plain)
        w, h = animation.size
        puppet = Puppet(crop_still(still, (0, 0, *still.size), (w // 4 * 4, h // 4 * 4)))
        frames = (puppet.render(pose).picture_u8 for pose in perform(motion, rng, puppet.clasped))
        write_video(frames, name.with_suffix(".truth.mp4"), FPS, sound, overwrite=True)
        Image.fromarray(still.picture_u8).resize((w, h), Image.Resampling.LANCZOS).save(name.with_suffix(".png"))
        facts = {"identity": still.identity, "opening": motion.opening.tolist(), "speech": motion.speech.tolist()}
        name.with_suffix(".json").write_text(json.dumps(facts))
        print(name, still.identity, len(motion), flush=True)


if __name__ == "__main__":
    main()

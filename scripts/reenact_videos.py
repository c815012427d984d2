"""Makes what `scripts/reenact_measure.py` measures: people and speakers kept out of training re-enact the generator's
own performance of their picture.

    python scripts/reenact_videos.py --stills DIR --speech DIR --gestures DIR -o OUT [--model tiny] [--people 6]
    [--seconds 2]

In OUT, a folder a kind of video, each with N.mp4, as `cyberhost eval OUT/reenact --reference OUT/truth` takes them:

    truth       the photo puppet                                    still       the picture, standing reenact     driven
    by the puppet's exact key points, silent     worse       with 3 pixels of noise at height 640, a fifth of the points
    missing video       driven by truth/N.mp4, read by the model's detector retarget    the same, retargeted multimodal
    the puppet's hands and the speech                   without     the speech alone head        the head alone and the
    speech (A2V-H)               head_truth, head_still  the puppet and the picture of that crop

and N.json (identity and true opening), N.png, N.wav (the picture and the speech).

reenact, worse, multimodal and without take the picture's exact key points as well, in the detector's place, so that
what is measured is the networks. Driving and picture show one person in one place: nothing is retargeted but where the
name says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image

from cyberhost_model import CyberHost
from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.driving.smooth import clean
from cyberhost_model.lab.synthetic.performance import load_gestures, perform
from cyberhost_model.lab.synthetic.puppet import Puppet
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary
from cyberhost_model.lab.synthetic.speech_motion import spoken_motion
from cyberhost_model.lab.synthetic.stills import Still, crop_still
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.perception.crops import HEAD_FACES
from cyberhost_model.perception.detector import Detection
from cyberhost_model.perception.keypoints import Keypoints

RATE, FPS, SIZE = 16000, 25, 512


def add_detector_noise(points: list[Keypoints], rng: np.random.Generator, size: tuple[int, int]) -> list[Keypoints]:
    """3 pixels of noise at a height of 640, and a fifth of the points missing."""
    noise = np.array([3 / 640 * size[1] / size[0], 3 / 640])
    out = [k.map(lambda p: (p + rng.normal(0, 1, p.shape) * noise).astype(np.float32)) for k in points]
    for k in out:
        for score in (k.body_score, k.hands_score, k.face_score):
            score *= rng.random(score.shape) >= 0.2
    return out


class Known(torch.nn.Module):
    """Key points that are known, in a detector's place."""

    reads_lips = True
    lips_from = 0.0

    def __init__(self, keypoints: Keypoints) -> None:
        super().__init__()
        self.keypoints = keypoints

    def detect(self, picture_u8: np.ndarray) -> list[Detection]:
        """The one person."""
        return [Detection(self.keypoints, 1.0, (0.0, 0.0, 0.0, 0.0))]


def head_box(still: Still) -> tuple[float, float, float, float]:
    """A square about the head as `--head` crops it."""
    w, h = still.size
    face = still.keypoints.face * [w, h]
    low, high = face.min(0), face.max(0)
    side = min(HEAD_FACES * float(high[1] - low[1]), w, h)
    x0, y0 = np.clip((low + high) / 2 - [side / 2, side * 0.52], 0, [w - side, h - side])
    return float(x0), float(y0), float(x0 + side), float(y0 + side)


def make(
    host: CyberHost, still: Still, number: int, library: SpeechLibrary, gestures: list, given: argparse.Namespace
) -> None:
    """The videos of one person."""
    rng = np.random.default_rng([23, number])
    samples = library.window(rng, given.seconds)
    sound, motion = Sound.from_samples(samples, RATE), spoken_motion(samples, host.model.speech, FPS)
    frames = round(given.seconds * FPS)
    name = given.output / f"{number:02d}"
    w, h = host.animate(still.picture_u8, sound, size=SIZE).size
    shown = crop_still(still, (0, 0, *still.size), (w // 4 * 4, h // 4 * 4))
    puppet = Puppet(shown)
    truth = [puppet.render(p) for p in perform(motion, rng, puppet.clasped, gestures)[:frames]]
    points = [t.keypoints for t in truth]
    poses = PoseSequence.of(points, FPS, shown.size)
    worse = clean(PoseSequence.of(add_detector_noise(points, rng, shown.size), FPS, shown.size))
    look = {"seed": number, "size": SIZE}
    played = given.output / "truth" / f"{number:02d}.mp4"
    played.parent.mkdir(exist_ok=True)
    write_video((t.picture_u8 for t in truth), played, FPS, overwrite=True)
    close = crop_still(still, head_box(still), (SIZE, SIZE))
    close_puppet = Puppet(close)
    made = {
        "still": lambda: (shown.picture_u8 for _ in truth),
        "video": lambda: host.reenact(still.picture_u8, played, audio=None, retarget=False, **look).frames,
        "retarget": lambda: host.reenact(still.picture_u8, played, audio=None, **look).frames,
        "head": lambda: host.animate(close.picture_u8, sound, head=True, **look).frames,
        "head_truth": lambda: (
            close_puppet.render(p).picture_u8
            for p in perform(motion, np.random.default_rng([24, number]), True, gestures)
        ),
        "head_still": lambda: (close.picture_u8 for _ in truth),
    }
    known = {
        "reenact": lambda: host.reenact(still.picture_u8, poses, audio=None, retarget=False, **look).frames,
        "worse": lambda: host.reenact(still.picture_u8, worse, audio=None, retarget=False, **look).frames,
        "multimodal": lambda: host.multimodal(still.picture_u8, sound, poses, retarget=False, **look).frames,
        "without": lambda: host.animate(still.picture_u8, sound, **look).frames,
    }
    detector = host.model.detector
    for kind, frames_of in (made | known).items():
        if given.kinds and kind not in given.kinds:
            continue
        host.model.detector = Known(still.keypoints) if kind in known else detector  # type: ignore[assignment]
        (given.output / kind).mkdir(exist_ok=True)
        write_video(itertools.islice(frames_of(), frames), given.output / kind / played.name, FPS, overwrite=True)
    host.model.detector = detector
    name.with_suffix(".json").write_text(
        json.dumps({"identity": still.identity, "opening": motion.opening[:frames].tolist()})
    )
    Image.fromarray(shown.picture_u8).save(name.with_suffix(".png"))
    soundfile.write(name.with_suffix(".wav"), samples, RATE)
    print(name, still.identity, f"{w}x{h}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stills", action="append", required=True)
    parser.add_argument("--speech", required=True)
    parser.add_argument("--gestures", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--kinds", nargs="*", help="only these of the videos (and the truth)")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    people, library = People(given.stills, 0.0, held_out=True), SpeechLibrary([given.speech], held_out=True)
    gestures, host = load_gestures(given.gestures), CyberHost.from_pretrained(given.model)
    for number, still in enumerate([s for s in people.stills if s.keypoints.hands_score.max() > 0.3][: given.people]):
        make(host, still, number, library, gestures, given)


if __name__ == "__main__":
    main()

"""Makes what `scripts/parts_measure.py` measures: videos of one seed with a part of the network taken out, or an option
set.

    python scripts/parts_videos.py --stills DIR --speech DIR -o OUT [--model tiny] [--people 3] [--seconds 3]

People with hands and speakers, both kept out of training. In OUT a folder for each part and option, with N.mp4. A part
is taken out of the trained network when it is used: nothing is trained without it. What is there already is left.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cyberhost_model import CyberHost
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.audio import Sound
from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.network import CyberHostNetwork

RATE, SIZE, PAUSE = 16000, 256, 0.8
OPTIONS = {
    "whole": {},
    "another seed": {"seed": 1},
    "--body-movement 0": {"body_movement": 0.0},
    "--body-movement 1": {"body_movement": 1.0},
    "--hand-clarity 0.1": {"hand_clarity": 0.1},
    "--hand-clarity 1": {"hand_clarity": 1.0},
    "--guidance-audio 2": {"guidance_audio": 2.0},
    "--no-blink": {"blink": False},
    "--gestures": {"gestures": True},
}


def _zero(*weights: torch.Tensor) -> None:
    for weight in weights:
        weight.data.zero_()


def _without_codebooks(network: CyberHostNetwork) -> None:
    for module in network.denoising_unet.regions.values():
        module.codebook = None


def _without_regions(network: CyberHostNetwork, ending: str) -> None:
    """Take out Region Codebook Attention of a region, or of a stage and a region."""
    for key in [key for key in network.denoising_unet.regions if key.endswith(ending)]:
        del network.denoising_unet.regions[key]


def _without(network: CyberHostNetwork, **absent: object) -> None:
    """Leave conditions out of every clip."""
    encode = network.clip_conditions

    def clip_conditions(*given: object) -> Conditions:
        return dataclasses.replace(encode(*given), **absent)

    network.clip_conditions = clip_conditions


PARTS: dict[str, Callable[[CyberHostNetwork], None]] = {
    "output of the U-Net": lambda network: _zero(*network.denoising_unet.unet.conv_out.parameters()),
    "speech": lambda network: _without(network, audio=None),
    "Reference Net": lambda network: _without(network, reference=None, reference_present=(False,)),
    "pose-aligned reference": lambda network: setattr(network, "reference_pose_encoder", None),
    "motion frames": lambda network: _without(network, motion=None, motion_present=(False,)),
    "body movement map": lambda network: _without(network, pose=None),
    "hand clarity": lambda network: _without(network, hand_clarity=None),
    "identity descriptors": lambda network: _without(network, face=None, hands=None),
    "codebooks": _without_codebooks,
    "region attention, face": lambda network: _without_regions(network, "face"),
    "region attention, hands": lambda network: _without_regions(network, "hands"),
    "concatenated reference": lambda network: _zero(*network.denoising_unet.reference_in.parameters()),
    "maps of what is heard": lambda network: _zero(*network.denoising_unet.face_state_in.parameters()),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stills", action="append", required=True)
    parser.add_argument("--speech", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    people, library = People(given.stills, 0.0, held_out=True), SpeechLibrary([given.speech], held_out=True)
    stills = [still for still in people.stills if still.keypoints.hands_score.max() > 0.3][: given.people]
    for kind in [*OPTIONS, *PARTS]:
        folder = given.output / kind
        folder.mkdir(parents=True, exist_ok=True)
        host = CyberHost.from_pretrained(given.model)
        if kind in PARTS:
            PARTS[kind](host.model.network)
        for number, still in enumerate(stills):
            if (out := folder / f"{number}.mp4").exists():
                continue
            speech = library.window(np.random.default_rng([17, number]), given.seconds - PAUSE)
            sound = Sound.from_samples(np.concatenate([speech, np.zeros(round(PAUSE * RATE), np.float32)]), RATE)
            options = {"seed": 0, "size": SIZE, "gestures": False, **OPTIONS.get(kind, {})}
            host.animate(still.picture_u8, sound, **options).save(out, marks=Marks(watermark=False, c2pa=False))
        print(kind, flush=True)


if __name__ == "__main__":
    main()

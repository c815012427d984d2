"""Hallo and Hallo2: a head speaks, from one picture and speech. One architecture, two trainings.

Cross attention of both U-Nets reads tokens of the face; behind every spatial transformer one for speech has three
masked attentions (`model.masked_audio`); motion frames go through the motion modules with the clip. At levels without
attention their program never runs its motion modules: these then add nothing here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cyberhost_model.config import AudioConfig, PortraitConfig, Preset, preset
from cyberhost_model.porting.animate_anyone import DIFFUSION, NOTHING_OF_OURS, SAMPLING, UNUSED
from cyberhost_model.porting.convert import Adapter, named_tensors
from cyberhost_model.porting.keymap import Converted, KeyMap, Rule, motion_rules

FILE = "net.pth"
NOT_RUN = "its program never runs the motion modules of levels without attention"
PARTS = {"vae": "sd-vae-ft-mse", "speech": "wav2vec2", "detector": "dwpose", "face": "antelope"}
RULES = (
    Rule(r"reference_unet\.(.+)", (r"reference_net.unet.\1",)),
    Rule(
        r"denoising_unet\.(down|up)_blocks\.(\d+)\.audio_modules\.(\d+)\.(.+)",
        (r"denoising_unet.masked_audio.\1_blocks_\2_attentions_\3.\4",),
    ),
    Rule(
        r"denoising_unet\.mid_block\.audio_modules\.(\d+)\.(.+)",
        (r"denoising_unet.masked_audio.mid_block_attentions_\1.\2",),
    ),
    Rule(r"denoising_unet\.((?!.*motion_modules).+)", (r"denoising_unet.unet.\1",)),
    *motion_rules(r"denoising_unet\."),
    Rule(r"face_locator\.(.+)", (r"pose_encoder.layers.\1",)),
    Rule(r"imageproj\.(.+)", (r"face_tokens.\1",)),
    Rule(r"audioproj\.(.+)", (r"window_projection.\1",)),
)


def full_size(name: str = "hallo2") -> Preset:
    """Build the preset of the published checkpoint. name: "hallo" or "hallo2", which drops pixels of motion frames."""
    base = preset("sd15")
    return dataclasses.replace(
        base,
        name=name,
        size=(512, 512),
        frames=16,
        motion_frames=2,
        unet=dataclasses.replace(base.unet, motion_norm_per_frame=True),
        audio=AudioConfig(dim=768, layers=12, tokens=5),
        portrait=PortraitConfig(
            face_tokens=4, audio_hidden=512, audio_tokens=32, motion_drop=0.25 if name == "hallo2" else 0.0
        ),
        diffusion=DIFFUSION,
        sampling=dataclasses.replace(SAMPLING, steps=40, overlap=0),
        pose_channels=(16, 32, 64, 128),
        pose_maps="face",
        ablations=NOTHING_OF_OURS,
    )


def collect(net: dict[str, Tensor]) -> KeyMap:
    """Map the tensors of net.pth. Raises ModelError naming what cannot be mapped."""
    keys = KeyMap(UNUSED)
    idle = "|".join(re.escape(stage) for stage in sorted(_without_attention(net)))
    last = rf"denoising_unet\.({idle})\.motion_modules\.(\d+)\.temporal_transformer\.(proj_out\..+)"
    silenced = Rule(last, (r"denoising_unet.unet.\1.motion_modules.\2.\3",), NOT_RUN, torch.zeros_like)
    keys.take(FILE, net, ((silenced,) if idle else ()) + RULES)
    return keys


def _without_attention(net: Mapping[str, Tensor]) -> set[str]:
    """Find the blocks of the Denoising U-Net that have motion modules and no attention."""

    def stages(kind: str) -> set[str]:
        found = (re.match(rf"denoising_unet\.((?:down|up)_blocks\.\d+)\.{kind}\.", name) for name in net)
        return {match[1] for match in found if match}

    return stages("motion_modules") - stages("attentions")


def network(name: str, paths: Mapping[str, Path], template: Preset | None) -> Converted:
    """Load the network of "hallo" or "hallo2" from the folder of `net.pth`.

    template: instead of the preset of the published size. Raises ModelError.
    """
    return collect(named_tensors(paths["network"], (FILE,))[FILE]).into(template or full_size(name))


def adapter(name: str, title: str) -> Adapter:
    """Make the adapter of one of both."""
    return Adapter(
        name,
        f"{title}: a head speaks",
        {"network": name, **PARTS},
        partial(network, name),
        partial(full_size, name),
        room=5_300_000_000,
    )


ADAPTER = adapter("hallo", "Hallo")
HALLO2_ADAPTER = adapter("hallo2", "Hallo2")

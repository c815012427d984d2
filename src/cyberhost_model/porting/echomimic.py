"""EchoMimic, the first: a head speaks, from one picture and speech; and its checkpoint of six steps, `echomimic-fast`.

The layout is EchoMimicV2's. In place of hands its Pose Encoder reads where the face is, a map of one channel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cyberhost_model.config import Preset
from cyberhost_model.porting import echomimic_v2
from cyberhost_model.porting.animate_anyone import UNUSED
from cyberhost_model.porting.keymap import Converted, KeyMap, Rule, map_files

FILES = ("reference_unet.pth", "denoising_unet.pth", "motion_module.pth", "face_locator.pth")
ONE_CHANNEL = "its map of the face has one channel, here the first of three"


def _to_three_channels(weight: Tensor) -> Tensor:
    return torch.cat([weight, weight.new_zeros(len(weight), 2, *weight.shape[2:])], 1)


RULES = {
    **{name: echomimic_v2.RULES[name] for name in FILES[:3]},
    "face_locator.pth": (
        Rule(r"(conv_in\.weight)", (r"pose_encoder.layers.\1",), ONE_CHANNEL, _to_three_channels),
        Rule(r"(.+)", (r"pose_encoder.layers.\1",)),
    ),
}


def full_size(name: str = "echomimic") -> Preset:
    """Build the preset of the published checkpoint. name: "echomimic", or "echomimic-fast" of six steps."""
    base = echomimic_v2.full_size()
    sampling = echomimic_v2.sampling_of(name, dataclasses.replace(base.sampling, window_shift=2))
    return dataclasses.replace(base, name=name, size=(512, 512), sampling=sampling, pose_maps="face")


def collect(files: Mapping[str, dict[str, Tensor]]) -> KeyMap:
    """Map the tensors of FILES, by name. Raises ModelError naming what cannot be mapped."""
    return map_files(files, RULES, UNUSED, echomimic_v2.NO_CROSS_ATTENTION)


def network(name: str, paths: Mapping[str, Path], template: Preset | None) -> Converted:
    """Load the network of "echomimic" or "echomimic-fast" from the repository's folder.

    template: instead of the preset of the published size. Raises ModelError.
    """
    return collect(echomimic_v2.read_files(name, paths["network"], FILES)).into(template or full_size(name))


ADAPTER = echomimic_v2.adapter("echomimic", "EchoMimic: a head speaks", network, full_size)
FAST_ADAPTER = echomimic_v2.adapter("echomimic-fast", "EchoMimic in six steps: a head speaks", network, full_size)

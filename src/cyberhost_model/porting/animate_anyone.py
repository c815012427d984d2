"""AnimateAnyone in the layout of Moore-AnimateAnyone: pose-driven, one CLIP token of the reference, no speech."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cyberhost_model.config import Ablations, AudioConfig, DiffusionConfig, Preset, SamplingConfig, preset
from cyberhost_model.porting.convert import Adapter, named_tensors
from cyberhost_model.porting.keymap import Converted, KeyMap, Rule, map_files, motion_rules

FILES = ("reference_unet.pth", "denoising_unet.pth", "motion_module.pth", "pose_guider.pth")
DIFFUSION = DiffusionConfig(prediction="v", beta_schedule="linear", zero_terminal_snr=True)
SAMPLING = SamplingConfig(
    sampler="diffusers-ddim",
    steps=25,
    guidance_reference=3.5,
    guidance_audio=3.5,  # one scale for all conditions
    overlap=4,
)
NOTHING_OF_OURS = Ablations(
    motion_codebook=False,
    id_descriptor=False,
    face_codebook=False,
    hand_codebook=False,
    body_movement=True,  # the Pose Encoder
    hand_clarity=False,
    pose_aligned_reference=False,
    local_enhancement=False,
)
UNUSED = (r"reference_net\.unet\.(conv_norm_out|conv_out)\..+",)
"""The end of diffusers' U-Net, which a Reference Net never reaches; the checkpoint has it not."""
RULES = {
    "reference_unet.pth": (Rule(r"(.+)", (r"reference_net.unet.\1",)),),
    "denoising_unet.pth": (Rule(r"((?!.*motion_modules).+)", (r"denoising_unet.unet.\1",)),),
    "motion_module.pth": motion_rules(),
    "pose_guider.pth": (Rule(r"(.+)", (r"pose_encoder.layers.\1",)),),
}


def full_size() -> Preset:
    """Build the preset of the published checkpoint: sd15 without what the paper adds."""
    base = preset("sd15")
    return dataclasses.replace(
        base,
        name="animate-anyone",
        size=(768, 512),
        frames=24,
        motion_frames=0,  # it knows none: windows overlap
        unet=dataclasses.replace(base.unet, motion_norm_per_frame=True),
        audio=AudioConfig(dim=base.audio.dim, layers=base.audio.layers, tokens=base.audio.tokens, project=False),
        diffusion=DIFFUSION,
        sampling=SAMPLING,
        image_token=True,
        pose_maps="dwpose",
        ablations=NOTHING_OF_OURS,
    )


def collect(files: Mapping[str, dict[str, Tensor]]) -> KeyMap:
    """Map the tensors of FILES, by name. Raises ModelError naming what cannot be mapped."""
    return map_files(files, RULES, UNUSED)


def network(paths: Mapping[str, Path], template: Preset | None) -> Converted:
    """Load the network from the repository's folder; `template` instead of the preset of the published size.

    Raises ModelError.
    """
    return collect(named_tensors(paths["network"], FILES)).into(template or full_size())


ADAPTER = Adapter(
    "animate-anyone",
    "AnimateAnyone: a person follows poses",
    {"network": "animate-anyone", "vae": "sd-vae-ft-mse", "image": "clip-image", "detector": "dwpose"},
    network,
    full_size,
    room=5_200_000_000,
)

"""EchoMimicV2: half bodies from speech and hand poses.

The layout is AnimateAnyone's, but cross attention reads Whisper's features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from cyberhost_model.config import AudioConfig, Preset, SamplingConfig, preset
from cyberhost_model.porting.animate_anyone import DIFFUSION, NOTHING_OF_OURS, SAMPLING, UNUSED
from cyberhost_model.porting.convert import Adapter, named_tensors
from cyberhost_model.porting.keymap import Converted, KeyMap, Rule, map_files, motion_rules

FILES = ("reference_unet.pth", "denoising_unet.pth", "motion_module.pth", "pose_encoder.pth")
FAST_FILES = {"denoising_unet.pth": "denoising_unet_acc.pth", "motion_module.pth": "motion_module_acc.pth"}
"""What the checkpoint of six steps has in place of two files; the other two are the same."""
AUDIO_WEIGHT = 3.0
"""The factor by which its code multiplies the output of the audio attention."""
NO_CROSS_ATTENTION = (r"reference_net\.unet\..+\.transformer_blocks\.\d+\.(attn2|norm2)\..+",)
"""Its Reference Net has none: ours then adds zero."""
RULES = {
    "reference_unet.pth": (Rule(r"(.+)", (r"reference_net.unet.\1",)),),
    "denoising_unet.pth": (
        Rule(
            r"((?!.*motion_modules).+\.attn2\.to_out\.0\..+)",
            (r"denoising_unet.unet.\1",),
            f"times {AUDIO_WEIGHT:g}, as its code multiplies the output",
            lambda weight: weight.float() * AUDIO_WEIGHT,
        ),
        Rule(r"((?!.*motion_modules).+)", (r"denoising_unet.unet.\1",)),
    ),
    "motion_module.pth": motion_rules(),
    "pose_encoder.pth": (Rule(r"(.+)", (r"pose_encoder.layers.\1",)),),
}

_SAMPLING = dataclasses.replace(
    SAMPLING,
    steps=30,
    guidance_reference=2.5,
    guidance_audio=2.5,
    overlap=3,
    window_shift=3,
    noise_limit=1.5,
    unguided_pose=False,
)


def full_size(name: str = "echomimic-v2") -> Preset:
    """Build the preset of the published checkpoint. name: "echomimic-v2", or "echomimic-v2-fast" of six steps."""
    base = preset("sd15")
    return dataclasses.replace(
        base,
        name=name,
        size=(768, 768),
        motion_frames=0,  # it knows none: windows overlap
        unet=dataclasses.replace(base.unet, motion_norm_per_frame=True, cross_attention_dim=384),
        audio=AudioConfig(dim=384, layers=5, tokens=10, project=False, centred=False),  # Whisper tiny
        diffusion=DIFFUSION,
        sampling=sampling_of(name, _SAMPLING),
        pose_maps="dwpose-hands",
        ablations=NOTHING_OF_OURS,
    )


def sampling_of(name: str, sampling: SamplingConfig) -> SamplingConfig:
    """Return `sampling`, or that of a checkpoint of six steps, which needs no guidance."""
    six_steps = dataclasses.replace(sampling, steps=6, guidance_reference=1.0, guidance_audio=1.0)
    return six_steps if name.endswith("-fast") else sampling


def read_files(name: str, folder: Path, files: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """Read a checkpoint's `files`, by these names also where they are those of six steps. Raises ModelError."""
    renamed = FAST_FILES if name.endswith("-fast") else {}
    found = named_tensors(folder, [renamed.get(file, file) for file in files])
    return dict(zip(files, found.values(), strict=True))


def collect(files: Mapping[str, dict[str, Tensor]]) -> KeyMap:
    """Map the tensors of FILES, by name. Raises ModelError naming what cannot be mapped."""
    return map_files(files, RULES, UNUSED, NO_CROSS_ATTENTION)


def network(name: str, paths: Mapping[str, Path], template: Preset | None) -> Converted:
    """Load the network of "echomimic-v2" or "echomimic-v2-fast" from the repository's folder.

    template: instead of the preset of the published size. Raises ModelError.
    """
    return collect(read_files(name, paths["network"], FILES)).into(template or full_size(name))


def adapter(name: str, title: str, network: Callable[..., Converted], full_size: Callable[[str], Preset]) -> Adapter:
    """Build the adapter of a checkpoint of the EchoMimic family; `network` and `full_size` as those of this file."""
    parts = {"network": name, "vae": "sd-vae-ft-mse", "speech": "whisper-tiny", "detector": "dwpose"}
    return Adapter(name, title, parts, partial(network, name), partial(full_size, name), room=4_600_000_000)


ADAPTER = adapter("echomimic-v2", "EchoMimicV2: a half body speaks and follows poses of the hands", network, full_size)
FAST_ADAPTER = adapter("echomimic-v2-fast", "EchoMimicV2 in six steps without guidance", network, full_size)

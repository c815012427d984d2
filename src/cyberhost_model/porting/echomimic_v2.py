"""EchoMimicV2: half bodies from speech and hand poses.

The layout is AnimateAnyone's, but cross attention reads Whisper's features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cyberhost_model.config import AudioConfig, Preset, preset
from cyberhost_model.porting.animate_anyone import DIFFUSION, NOTHING_OF_OURS, SAMPLING, UNUSED
from cyberhost_model.porting.convert import Adapter, named_tensors
from cyberhost_model.porting.keymap import Converted, KeyMap, Rule, map_files, motion_rules

FILES = ("reference_unet.pth", "denoising_unet.pth", "motion_module.pth", "pose_encoder.pth")
FAST = {"denoising_unet.pth": "denoising_unet_acc.pth", "motion_module.pth": "motion_module_acc.pth"}
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


def full_size() -> Preset:
    """Build the preset of the published checkpoint."""
    base = preset("sd15")
    return dataclasses.replace(
        base,
        name="echomimic-v2",
        size=(768, 768),
        motion_frames=0,  # it knows none: windows overlap
        unet=dataclasses.replace(base.unet, motion_norm_per_frame=True, cross_attention_dim=384),
        audio=AudioConfig(dim=384, layers=5, tokens=10, project=False, centred=False),  # Whisper tiny
        diffusion=DIFFUSION,
        sampling=_SAMPLING,
        pose_maps="dwpose-hands",
        ablations=NOTHING_OF_OURS,
    )


def collect(files: Mapping[str, dict[str, Tensor]]) -> KeyMap:
    """Map the tensors of FILES, by name. Raises ModelError naming what cannot be mapped."""
    return map_files(files, RULES, UNUSED, NO_CROSS_ATTENTION)


def network(paths: Mapping[str, Path], template: Preset | None) -> Converted:
    """Load the network from the repository's folder; `template` instead of the preset of the published size.

    Raises ModelError.
    """
    return collect(named_tensors(paths["network"], FILES)).into(template or full_size())


def fast_size() -> Preset:
    """Build the preset of the published checkpoint of six steps, which needs no guidance."""
    full = full_size()
    sampling = dataclasses.replace(full.sampling, steps=6, guidance_reference=1.0, guidance_audio=1.0)
    return dataclasses.replace(full, name="echomimic-v2-fast", sampling=sampling)


def fast_network(paths: Mapping[str, Path], template: Preset | None) -> Converted:
    """Load the network of six steps, as `network` does."""
    found = named_tensors(paths["network"], [FAST.get(name, name) for name in FILES])
    files = {name: found[FAST.get(name, name)] for name in FILES}
    return collect(files).into(template or fast_size())


ADAPTER = Adapter(
    "echomimic-v2",
    "EchoMimicV2: a half body speaks and follows poses of the hands",
    {"network": "echomimic-v2", "vae": "sd-vae-ft-mse", "speech": "whisper-tiny", "detector": "dwpose"},
    network,
    full_size,
    room=4_600_000_000,
)
FAST_ADAPTER = dataclasses.replace(
    ADAPTER,
    name="echomimic-v2-fast",
    what="EchoMimicV2 in six steps without guidance",
    parts={**ADAPTER.parts, "network": "echomimic-v2-fast"},
    network=fast_network,
    full_size=fast_size,
)

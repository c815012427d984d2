"""Hallo2's portrait network as a warm start of the paper's: both U-Nets, the motion modules, and the audio attention
of its audio modules.

Hallo2 has a transformer of its own for speech behind every spatial transformer, with three masked attentions (the rest,
the face, the lips). The paper's network has one audio attention inside the spatial transformer: it takes that of the
lips, which speech says most about, with the convolution behind it folded into its output. At half of the sites that
attention is of another width than the U-Net is there; these begin afresh. So this is a beginning for training, not the
same function.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cyberhost_model.config import DiffusionConfig, Preset, SamplingConfig, preset
from cyberhost_model.errors import ModelError
from cyberhost_model.porting.animatediff import motion_rules
from cyberhost_model.porting.convert import Adapter, named_tensors
from cyberhost_model.porting.keymap import Converted, KeyMap, Rule
from cyberhost_model.porting.sd15 import OURS

FILE = "net.pth"
STREAM, CONVOLUTION = "attn2_2", "zero_conv_lip"
DIFFUSION = DiffusionConfig(prediction="v", beta_schedule="linear", zero_terminal_snr=True)
SAMPLING = SamplingConfig(sampler="ddim", steps=40)
UNUSED = (r"reference_net\.unet\.(conv_norm_out|conv_out)\..+",)
_SITE = r"((?:down_blocks\.\d+|up_blocks\.\d+|mid_block)\.)audio_modules(\.\d+\.transformer_blocks\.0\.)"
_ATTENTION = r"denoising_unet.unet.\1attentions\2attn2."
_NARROW = "of another width than the U-Net is there"
_TEXT = "it reads tokens of the face; the audio attention takes its place"
_OWN = "of the audio module's own transformer; the network has one audio attention inside its spatial one"
RULES = (
    Rule(r"reference_unet\.(.+)", (r"reference_net.unet.\1",)),
    Rule(
        rf"denoising_unet\.{_SITE}{STREAM}\.(to_out\.0\.(?:weight|bias))",
        (rf"{_ATTENTION}\3",),
        f"with {CONVOLUTION}, which follows it, folded in",
    ),
    Rule(rf"denoising_unet\.{_SITE}{STREAM}\.(to_[qkv]\.weight)", (rf"{_ATTENTION}\3",)),
    Rule(rf"denoising_unet\.{_SITE}norm2\.(.+)", (r"denoising_unet.unet.\1attentions\2norm2.\3",)),
    Rule(rf"denoising_unet\.{_SITE}{CONVOLUTION}\..+", (), "folded into the audio attention's output"),
    Rule(rf"denoising_unet\.{_SITE}(attn2_[01]|zero_conv_(full|face))\..+", (), "attention to speech outside the lips"),
    Rule(r"denoising_unet\..+\.audio_modules\..+", (), _OWN),
    *motion_rules(r"denoising_unet\."),
    Rule(r"denoising_unet\..+\.attentions\.\d+\.transformer_blocks\.0\.(attn2|norm2)\..+", (), _TEXT),
    Rule(r"denoising_unet\.((?!.*motion_modules).+)", (r"denoising_unet.unet.\1",)),
    Rule(r"face_locator\..+", (), "its map of the face; the network has region masks of its own"),
    Rule(r"imageproj\..+", (), "makes tokens of the face for an attention that is not taken"),
    Rule(
        r"audioproj\..+",
        (),
        "of another shape than the audio projection (12 layers of a 5-frame window at once); that begins afresh",
    ),
)


def full_size() -> Preset:
    """The preset sd15 with the diffusion and the motion norm that these weights know."""
    base = preset("sd15")
    return dataclasses.replace(
        base,
        name="hallo2",
        unet=dataclasses.replace(base.unet, motion_norm_per_frame=True),
        diffusion=DIFFUSION,
        sampling=SAMPLING,
    )


def collect(net: dict[str, Tensor]) -> KeyMap:
    """`net`: the tensors of net.pth. Raises ModelError naming what cannot be mapped."""
    other = other_widths(net)
    fresh = [re.escape(f"denoising_unet.unet.{site[0]}attentions{site[1]}") for site in other]
    keys = KeyMap(
        (*OURS, *UNUSED, *(rf"{site}(norm2|attn2\.to_[qkv])\..+" for site in fresh)),
        tuple(rf"{site}attn2\.to_out\..+" for site in fresh),
    )
    narrow = tuple(re.escape(f"denoising_unet.{site[0]}audio_modules{site[1]}") + ".+" for site in other)
    keys.take(FILE, folded(net), (*(Rule(pattern, (), _NARROW) for pattern in narrow), *RULES))
    return keys


def other_widths(net: dict[str, Tensor]) -> list[tuple[str, str]]:
    """The sites (as `_SITE` cuts them) whose attention to speech is of another width than the U-Net's own attention."""
    found = []
    for name, value in net.items():
        if site := re.fullmatch(rf"denoising_unet\.{_SITE}{STREAM}\.to_q\.weight", name):
            own = net.get(f"denoising_unet.{site[1]}attentions{site[2]}attn2.to_q.weight")
            if own is None:
                raise ModelError(
                    f"{FILE}: {name} has no spatial attention beside it; it is of another version of the model"
                )
            if own.shape != value.shape:
                found.append((site[1], site[2]))
    return found


def folded(net: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with the lips' convolution in the output of the attention before it: Z (W x + b) + z = (Z W) x
    + (Z b + z).
    """
    made = dict(net)
    for name in net:
        if not (site := re.fullmatch(rf"(.+\.)audio_modules(.+\.){STREAM}\.to_out\.0\.weight", name)):
            continue
        block = f"{site[1]}audio_modules{site[2]}"
        try:
            z, shift = (
                net[f"{block}{CONVOLUTION}.weight"].float()[:, :, 0, 0],
                net[f"{block}{CONVOLUTION}.bias"].float(),
            )
            weight, bias = net[name].float(), net[name.replace("weight", "bias")].float()
        except KeyError as error:
            raise ModelError(f"{FILE}: {error.args[0]} is missing; it is of another version of the model") from None
        made[name], made[name.replace("weight", "bias")] = z @ weight, z @ bias + shift
    return made


def network(paths: Mapping[str, Path], template: Preset | None) -> Converted:
    """The network from the folder of `net.pth`; `template` instead of the preset of the published size.

    Raises ModelError.
    """
    return collect(named_tensors(paths["network"], (FILE,))[FILE]).into(template or full_size())


ADAPTER = Adapter(
    "hallo2",
    "a beginning for training from Hallo2",
    {"network": "hallo2", "vae": "sd-vae-ft-mse", "speech": "wav2vec2", "detector": "dwpose", "face": "arcface"},
    network,
    full_size,
    room=9_800_000_000,
    dtype=torch.float32,  # to be trained
)

"""Tiny checkpoints of models of heads (Hallo, Hallo2, EchoMimic) in the formats they are published in."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from peer_layouts import family, under
from torch import Tensor

from cyberhost_model.config import PortraitConfig, Preset
from cyberhost_model.hub.registry import load_adapter
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.porting import echomimic, echomimic_v2, hallo
from cyberhost_model.porting.keymap import KeyMap
from model_helpers import FULL

PORTRAITS = {
    name: partial(module.full_size, name)
    for module, names in ((hallo, ("hallo", "hallo2")), (echomimic, ("echomimic", "echomimic-fast")))
    for name in names
}
"""Name -> its preset at the published size."""
REPOSITORIES = {
    "hallo": "fudan-generative-ai/hallo",
    "hallo2": "fudan-generative-ai/hallo2",
    "echomimic": "BadToBest/EchoMimic",
    "echomimic-fast": "BadToBest/EchoMimic",
}


def small_portrait(name: str) -> Preset:
    """The adapter's preset at the size of the tests' networks: three levels, the deepest without attention."""
    full = PORTRAITS[name]()
    unet = dataclasses.replace(
        FULL.unet,
        block_out_channels=(32, 64, 64),
        attention_levels=(True, True, False),
        heads=(2, 2, 2),
        motion_heads=(1, 2, 2),
        motion_norm_per_frame=True,
    )
    portrait = None
    if full.portrait is not None:
        portrait = PortraitConfig(face_tokens=4, audio_hidden=8, audio_tokens=3, motion_drop=full.portrait.motion_drop)
    return dataclasses.replace(
        full,
        unet=unet,
        audio=dataclasses.replace(full.audio, dim=16, layers=2, tokens=full.audio.tokens if portrait else 2),
        portrait=portrait,
        region=FULL.region,
        size=(128, 128),
        frames=3,
        pose_channels=(4, 8, 8, 8),
        sampling=dataclasses.replace(full.sampling, overlap=min(full.sampling.overlap, 1)),
    )


def portrait_state(name: str) -> dict[str, Tensor]:
    """Weights of ours none of which are zero, so that every layer acts."""
    state = CyberHostNetwork(small_portrait(name)).state_dict()
    return {
        key: value if value.any() or not value.is_floating_point() else torch.randn_like(value) * 0.05
        for key, value in state.items()
    }


def portrait_files(name: str, state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Weights of ours as the files that are published, by name: the adapters' names the other way round."""
    if name.startswith("echomimic"):
        files = family(dict(state), "face_locator.pth", cross_attention=False)
        locator = files["face_locator.pth"]
        locator["conv_in.weight"] = locator["conv_in.weight"][:, :1]
        renamed = echomimic_v2.FAST_FILES if name == "echomimic-fast" else {}
        return {renamed.get(file, file): weights for file, weights in files.items()}
    files = family(dict(state), "face_locator")
    net = {f"reference_unet.{k}": v for k, v in files["reference_unet.pth"].items()}
    net |= {f"denoising_unet.{k}": v for k, v in files["denoising_unet.pth"].items()}
    net |= {f"denoising_unet.{k}": v for k, v in files["motion_module.pth"].items()}
    for key, value in under(dict(state), "denoising_unet.masked_audio.").items():
        block, number, rest = re.fullmatch(r"(.+)_attentions_(\d+)\.(.+)", key).groups()
        block = re.sub(r"_blocks_(\d+)", r"_blocks.\1", block)
        net[f"denoising_unet.{block}.audio_modules.{number}.{rest}"] = value
    parts = {"face_locator": "pose_encoder.layers", "imageproj": "face_tokens", "audioproj": "window_projection"}
    for theirs, ours in parts.items():
        net |= {f"{theirs}.{k}": v for k, v in under(dict(state), f"{ours}.").items()}
    return {"net.pth": net}


def collect_portrait(name: str, files: dict[str, dict[str, Tensor]]) -> KeyMap:
    """Map published files, named as they are published."""
    if not name.startswith("echomimic"):
        return hallo.collect(files["net.pth"])
    names = {theirs: ours for ours, theirs in echomimic_v2.FAST_FILES.items()} if name == "echomimic-fast" else {}
    return echomimic.collect({names.get(file, file): weights for file, weights in files.items()})


def write_portraits(root: Path) -> None:
    """Add these models to the folder of `peer_models.write_published`."""
    for name in PORTRAITS:
        (root / name).mkdir()
        for file, weights in portrait_files(name, portrait_state(name)).items():
            torch.save(weights, root / name / file)


def portrait_parts(root: Path, name: str) -> dict[str, str]:
    """What `convert` takes in place of the registry's names; the detector is the embedded one."""
    names = {"network": name, "vae": "vae", "speech": "whisper" if name.startswith("echomimic") else "wav2vec2"}
    parts = {part: str(root / names[part]) for part in load_adapter(name).parts if part in names}
    return {**parts, "detector": "embedded"}

"""Checkpoints as the peers lay them out: their names and shapes at full size, and a network of ours under them."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import torch
from torch import Tensor

_MODULE = r"((?:down_blocks\.\d+|up_blocks\.\d+|mid_block)\.motion_modules\.\d+)\.(.+)"
_INNER = {
    "attn1": "attention_blocks.0",
    "attn2": "attention_blocks.1",
    "norm1": "norms.0",
    "norm2": "norms.1",
    "norm3": "ff_norm",
    "ff": "ff",
}
REFERENCE_LACKS = r"(conv_norm_out|conv_out)\..+"


def published_names(name: str) -> dict[str, dict[str, Tensor]]:
    """File -> name -> a tensor of this shape that takes no memory.

    They are those of the peers' own classes at the published size (`scripts/pipeline_parity.py --names`).
    """
    files: dict[str, dict[str, Tensor]] = {}
    lines = gzip.decompress((Path(__file__).parent / "names" / f"{name}.txt.gz").read_bytes()).decode().splitlines()
    for file, key, shape in map(str.split, lines):
        size = () if shape == "-" else tuple(map(int, shape.split("x")))
        files.setdefault(file, {})[key] = torch.zeros(()).expand(size)
    return files


def under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def motion_modules(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' names -> AnimateDiff's own; both attentions have their copy of the positions."""
    out = {}
    for name, value in state.items():
        module, rest = re.fullmatch(_MODULE, name).groups()
        at = f"{module}.temporal_transformer."
        if not (inner := re.fullmatch(r"transformer_blocks\.(\d+)\.([^.]+)\.(.+)", rest)):
            out[at + rest] = value
            continue
        block = f"{at}transformer_blocks.{inner[1]}."
        if inner[2] == "pos_embed":
            out |= {f"{block}attention_blocks.{i}.pos_encoder.{inner[3]}": value for i in (0, 1)}
        else:
            out[f"{block}{_INNER[inner[2]]}.{inner[3]}"] = value
    return out


def family(state: dict[str, Tensor], pose_file: str, cross_attention: bool = True) -> dict[str, dict[str, Tensor]]:
    """The four files of AnimateAnyone, and without cross attention in the Reference Net those of EchoMimicV2."""
    reference = {k: v for k, v in under(state, "reference_net.unet.").items() if not re.fullmatch(REFERENCE_LACKS, k)}
    if not cross_attention:
        reference = {
            k: v for k, v in reference.items() if not re.search(r"transformer_blocks\.\d+\.(attn2|norm2)\.", k)
        }
    denoising = under(state, "denoising_unet.unet.")
    return {
        "reference_unet.pth": reference,
        "denoising_unet.pth": {k: v for k, v in denoising.items() if "motion_modules" not in k},
        "motion_module.pth": motion_modules({k: v for k, v in denoising.items() if "motion_modules" in k}),
        pose_file: under(state, "pose_encoder.layers."),
    }

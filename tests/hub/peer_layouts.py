"""Checkpoints as the peers lay them out, made of a network of ours: the adapters' names the other way round."""

from __future__ import annotations

import re

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


def hallo2(state: dict[str, Tensor], widths: tuple[int, ...], context: int) -> dict[str, Tensor]:
    """net.pth: the family's networks in one file, and audio modules whose inner width is, as in Hallo2's code, that of
    the block's input.
    """
    files = family(state, "unused")
    net = {f"reference_unet.{k}": v for k, v in files["reference_unet.pth"].items()}
    net |= {
        f"denoising_unet.{k}": v for file in ("denoising_unet.pth", "motion_module.pth") for k, v in files[file].items()
    }
    sites = sorted(
        {
            m[0]
            for k in files["denoising_unet.pth"]
            if (m := re.match(r"(?:\w+_blocks\.\d+|mid_block)\.attentions\.\d+", k))
        }
    )

    def fill(*shape: int) -> Tensor:
        return torch.randn(*shape, device=next(iter(state.values())).device)

    for site in sites:
        outer = files["denoising_unet.pth"][f"{site}.proj_in.weight"].shape[1]
        level = int(site.split(".")[1]) if "blocks" in site else -1
        first = site.endswith(".0")
        entering = {
            "d": widths[max(level - 1, 0)] if first else outer,
            "m": outer,
            "u": widths[::-1][min(level + 1, len(widths) - 1)],
        }[site[0]]
        at = f"denoising_unet.{site.replace('attentions', 'audio_modules')}"
        inner = {
            "norm": (outer,),
            "proj_in": (entering, outer, 1, 1),
            "proj_out": (outer, entering, 1, 1),
            **{
                f"transformer_blocks.0.zero_conv_{part}": (entering, entering, 1, 1) for part in ("full", "face", "lip")
            },
            **{f"transformer_blocks.0.norm{i}": (entering,) for i in (1, 2, 3)},
            "transformer_blocks.0.ff.net.0.proj": (8 * entering, entering),
            "transformer_blocks.0.ff.net.2": (entering, 4 * entering),
            **{
                f"transformer_blocks.0.{attention}.to_out.0": (entering, entering)
                for attention in ("attn1", "attn2_0", "attn2_1", "attn2_2")
            },
        }
        for name, shape in inner.items():
            net |= {f"{at}.{name}.weight": fill(*shape), f"{at}.{name}.bias": fill(shape[0])}
        for attention, reads in (("attn1", entering), ("attn2_0", context), ("attn2_1", context), ("attn2_2", context)):
            net |= {
                f"{at}.transformer_blocks.0.{attention}.{part}.weight": fill(
                    entering, entering if part == "to_q" else reads
                )
                for part in ("to_q", "to_k", "to_v")
            }
    small = {
        "face_locator.conv_in.weight": fill(2),
        "imageproj.proj.weight": fill(2),
        "imageproj.norm.bias": fill(2),
        "audioproj.proj1.weight": fill(2),
    }
    return {**net, **small}

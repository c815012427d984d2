"""Motion modules under the names of AnimateDiff's own code and its descendants -> diffusers' names."""

from __future__ import annotations

from cyberhost_model.porting.keymap import Rule

_MODULE = r"((?:down_blocks\.\d+|up_blocks\.\d+|mid_block)\.motion_modules\.\d+)\.temporal_transformer"
_BLOCK = rf"{_MODULE}\.transformer_blocks\.(\d+)"
_TO = r"denoising_unet.unet.\1"


def motion_rules(prefix: str = "") -> tuple[Rule, ...]:
    """`prefix`: regular expression that all names begin with."""
    return (
        Rule(rf"{prefix}{_MODULE}\.((?:norm|proj_in|proj_out)\..+)", (rf"{_TO}.\2",)),
        # each of both attentions has its own copy of the same sinusoids; diffusers has one for both
        Rule(
            rf"{prefix}{_BLOCK}\.attention_blocks\.[01]\.pos_encoder\.pe",
            (rf"{_TO}.transformer_blocks.\2.pos_embed.pe",),
        ),
        Rule(rf"{prefix}{_BLOCK}\.attention_blocks\.0\.(.+)", (rf"{_TO}.transformer_blocks.\2.attn1.\3",)),
        Rule(rf"{prefix}{_BLOCK}\.attention_blocks\.1\.(.+)", (rf"{_TO}.transformer_blocks.\2.attn2.\3",)),
        Rule(rf"{prefix}{_BLOCK}\.norms\.0\.(.+)", (rf"{_TO}.transformer_blocks.\2.norm1.\3",)),
        Rule(rf"{prefix}{_BLOCK}\.norms\.1\.(.+)", (rf"{_TO}.transformer_blocks.\2.norm2.\3",)),
        Rule(rf"{prefix}{_BLOCK}\.ff_norm\.(.+)", (rf"{_TO}.transformer_blocks.\2.norm3.\3",)),
        Rule(rf"{prefix}{_BLOCK}\.ff\.(.+)", (rf"{_TO}.transformer_blocks.\2.ff.\3",)),
    )

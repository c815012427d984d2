"""DenoisingUNet: Figure 2 of the paper as one forward over diffusers' blocks.

What is not in the paper is marked so in the forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cyberhost_model.config import Preset
from cyberhost_model.model.attention import recompute, spatial_transformer, temporal_transformer
from cyberhost_model.model.condition_encoders import HandClarityEmbedding
from cyberhost_model.model.conditions import REGIONS, Conditions, level_sizes
from cyberhost_model.model.masked_audio import build_masked_audio, site_key
from cyberhost_model.model.reference_net import attention_sites
from cyberhost_model.model.region_attention import RegionCodebookAttention
from cyberhost_model.model.unet import build_motion_unet

HEARD = ("opening", "width", "closure", "energy")
"""What the first channels of the audio tokens tell of the speech. Not in the paper."""
HEARD_UNIT = 3.0
"""Value of these channels for 1."""
FACE_MAPS = 2 + len(HEARD)


class RegionMap(NamedTuple):
    """Prediction of one Region Codebook Attention, for supervision in training (eq. 6)."""

    stage: str
    region: str
    """"face" or "hands"."""
    values: Tensor
    """(B, F, 1, h', w') logits of M_r, or (B, F, K, h', w') heat maps."""


@dataclass
class DenoiserOutput:
    """Result of one denoising step."""

    prediction: Tensor
    """(B, F, C, h, w), of the preset's prediction type."""
    region_masks: list[RegionMap] = field(default_factory=list)
    """One for each stage and region."""
    heatmaps: list[RegionMap] = field(default_factory=list)
    """One for each stage and region that predicts key points, when asked for."""
    deep: Tensor | None = None
    """(B*F, D, h, w): features that enter the last up block, for `BlockCache`."""


class DenoisingUNet(nn.Module):
    """diffusers' `UNetMotionModel` with the paper's parts around it, each adding nothing at initialisation.

    Weights of the U-Net keep diffusers' names, under `unet.`.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        config, switches = preset.unet, preset.ablations
        width = config.block_out_channels[0]
        self.unet = build_motion_unet(config, preset.latent_channels)
        self.sites = attention_sites(self.unet)
        self.context_dim = config.cross_attention_dim
        self.gradient_checkpointing = False
        self.temporal = True
        """False leaves out the motion modules: the first stage of training, on single frames."""
        self.spatial_transformer, self.temporal_transformer = spatial_transformer, temporal_transformer
        self.clarity = HandClarityEmbedding(4 * width) if switches.hand_clarity else None
        self.reference_in = _zero_conv(preset.latent_channels, width) if preset.concat_reference else None
        has_prior = preset.pose_shift or preset.motion_prior
        self.prior_in = _zero_conv(preset.latent_channels, width) if has_prior else None
        self.audio_time = None
        if preset.audio_in_time:  # not zero at the start, because the audio projection before it is
            self.audio_time = nn.Linear(preset.audio.tokens * self.context_dim, 4 * width, bias=False)
        self.face_state_in = _zero_conv(FACE_MAPS, width) if preset.face_state else None
        self.preset = preset
        self.masked_audio = None if preset.portrait is None else build_masked_audio(config, self.sites)
        self.regions = nn.ModuleDict()
        enabled = {"face": switches.face_codebook, "hands": switches.hand_codebook}
        keypoints = {"face": preset.region.face_keypoints, "hands": preset.region.hand_keypoints}
        if switches.motion_codebook or switches.id_descriptor:
            for stage in preset.region.stages:
                for region in (name for name in REGIONS if enabled[name]):
                    self.regions[_region_key(stage, region)] = RegionCodebookAttention(
                        _stage_channels(self.unet, stage),
                        preset.region,
                        keypoints[region] if switches.local_enhancement else 0,
                        config.motion_max_frames,
                        switches.motion_codebook,
                        switches.id_descriptor,
                    )

    def forward(
        self,
        noisy: Tensor,
        timestep: Tensor,
        conditions: Conditions,
        heatmaps: bool = False,
        deep: Tensor | None = None,
    ) -> DenoiserOutput:
        """Predict one denoising step.

        noisy (B, F, C, h, w): a noisy latent, or its residual where `conditions.prior` is given; timestep (B,) in
        0..1000, float or integer; heatmaps: also predict the key points' heat maps (eq. 6); deep: `DenoiserOutput.deep`
        of an earlier step, with which only the blocks at full resolution run (DeepCache, arXiv 2312.00858).
        """
        unet, given = self.unet, conditions
        batch, frames = noisy.shape[:2]
        silent = noisy.new_zeros(batch, frames, 1, self.context_dim)
        audio = (silent if given.audio is None else given.audio.expand(-1, frames, -1, -1)).flatten(0, 1)
        context = audio if given.face_tokens is None else given.face_tokens.repeat_interleave(frames, 0)
        masks = self._audio_masks(given, noisy)
        output = DenoiserOutput(noisy)

        def layer(x: Tensor, stage: str, block: nn.Module, j: int, resnet: nn.Module | None) -> Tensor:
            """Run a residual block, spatial attention (reference, audio) and temporal attention (motion frames)."""
            if resnet is not None:
                x = resnet(x, time)
            site = f"{stage}.attentions.{j}"
            if hasattr(block, "attentions"):
                reference = None if given.reference is None else given.reference[site]
                x = self.spatial_transformer(
                    block.attentions[j], x, frames, context, reference, given.reference_present
                )
                if self.masked_audio is not None:  # not in the paper: `portrait`
                    x = self.masked_audio[site_key(site)](x, audio, masks[x[0, 0].numel()])
            if not self.temporal:
                return x
            motion = None if given.motion is None else given.motion.get(site)
            if motion is not None and self.masked_audio is not None:  # not in the paper: `portrait`
                return self._with_motion_frames(block.motion_modules[j], x, frames, motion)
            return self.temporal_transformer(block.motion_modules[j], x, frames, motion, given.motion_present)

        def region_attention(x: Tensor, stage: str) -> Tensor:
            """Refine face and hands at the end of a stage (section 3.2), and keep its predictions."""
            for region in given.regions:
                module = self.regions[key] if (key := _region_key(stage, region)) in self.regions else None
                if module is not None:
                    x, mask, maps = run(module, x, frames, getattr(given, region), heatmaps)
                    output.region_masks.append(RegionMap(stage, region, mask.unflatten(0, (batch, frames))))
                    if maps is not None:
                        output.heatmaps.append(RegionMap(stage, region, maps.unflatten(0, (batch, frames))))
            return x

        def run(function, *args):
            return recompute(self.gradient_checkpointing, function, *args)

        # time, and the hand clarity score as a residual on it (section 3.3)
        time = unet.time_embedding(unet.time_proj(timestep.expand(batch)).to(noisy.dtype))
        time = time[:, None].expand(-1, frames, -1)
        if self.clarity is not None and given.hand_clarity is not None:
            time = time + self.clarity(given.hand_clarity)
        if self.audio_time is not None and given.audio is not None:  # not in the paper: `audio_in_time`
            time = time + self.audio_time(given.audio.flatten(2))
        time = time.flatten(0, 1)

        # the noisy latent, and the body movement map (section 3.3) or skeleton maps (section 4.2) as a residual on it
        x = unet.conv_in(noisy.flatten(0, 1)).unflatten(0, (batch, frames))
        if self.reference_in is not None and given.reference_latent is not None:  # not in the paper: `concat_reference`
            x = x + self.reference_in(given.reference_latent)[:, None]
        if given.pose is not None:
            x = x + given.pose
        if self.prior_in is not None and given.prior is not None:  # not in the paper: `pose_shift`, `motion_prior`
            x = x + self.prior_in(given.prior.flatten(0, 1)).unflatten(0, (batch, frames))
        if self.face_state_in is not None and given.face_state is not None:  # not in the paper: `face_state`
            maps = face_maps(given.face_state, None if given.audio is None else heard(given.audio))
            x = x + self.face_state_in(maps.flatten(0, 1)).unflatten(0, (batch, frames))
        x = x.flatten(0, 1)

        # down
        skips = [x]
        for i, block in enumerate(unet.down_blocks if deep is None else unet.down_blocks[:1]):
            stage = f"down_blocks.{i}"
            for j, resnet in enumerate(block.resnets):
                x = run(layer, x, stage, block, j, resnet)
                if j == len(block.resnets) - 1:
                    x = region_attention(x, stage)
                skips.append(x)
            for downsampler in block.downsamplers or () if deep is None else ():
                x = downsampler(x)
                skips.append(x)

        # middle
        if deep is None:
            x = unet.mid_block.resnets[0](x, time)
            for j, resnet in enumerate(unet.mid_block.resnets[1:]):
                x = run(layer, x, "mid_block", unet.mid_block, j, None)
                x = run(resnet, x, time)
            x = region_attention(x, "mid_block")

        # up
        last = len(unet.up_blocks) - 1
        for i, block in enumerate(unet.up_blocks):
            if i == last:
                output.deep = x = x if deep is None else deep
            elif deep is not None:
                continue
            stage = f"up_blocks.{i}"
            for j, resnet in enumerate(block.resnets):
                x = run(layer, torch.cat([x, skips.pop()], dim=1), stage, block, j, resnet)
            x = region_attention(x, stage)
            for upsampler in block.upsamplers or ():
                x = upsampler(x, skips[-1].shape[-2:])

        x = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
        output.prediction = x.unflatten(0, (batch, frames))
        return output

    def _audio_masks(self, given: Conditions, noisy: Tensor) -> dict[int, Tensor]:
        """Cut the masks of the audio attentions by level: cells of a level -> (B * F, 3, cells); none: all count."""
        if self.masked_audio is None:
            return {}
        cells = [h * w for h, w in level_sizes(self.preset, noisy.shape[-2:])]
        masks = given.audio_masks
        if masks is None:
            masks = noisy.new_ones(len(noisy), 3, sum(cells))
        masks = masks.repeat_interleave(noisy.shape[1], 0)
        return dict(zip(cells, masks.split(cells, -1), strict=True))

    def _with_motion_frames(self, module: nn.Module, x: Tensor, frames: int, motion: Tensor) -> Tensor:
        """Run a motion module on motion frames and clip as one clip, and return the clip: Hallo's way.

        x (B * F, C, h, w); motion (B, M, N, C): every item has motion frames.
        """
        ahead = motion.mT.unflatten(-1, x.shape[-2:])
        both = torch.cat([ahead, x.unflatten(0, (-1, frames))], 1)
        out = self.temporal_transformer(module, both.flatten(0, 1), both.shape[1], None, ())
        return out.unflatten(0, both.shape[:2])[:, motion.shape[1] :].flatten(0, 1)

    @contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Cache results that depend on the weights alone, inside a block in which the weights do not change."""
        regions = self._regions()
        before = [module.cached for module in regions]
        for module in regions:
            module.cache_codebooks(True)
        try:
            yield
        finally:
            for module, cached in zip(regions, before, strict=True):
                module.cached = cached

    def cached_codebooks(self) -> list[tuple[Tensor, Tensor] | None]:
        """List the keys and values that `fixed_weights` caches, one entry for each Region Codebook Attention."""
        return [module.cached for module in self._regions()]

    def _regions(self) -> list[RegionCodebookAttention]:
        return [module for module in self.regions.values() if isinstance(module, RegionCodebookAttention)]


def heard(audio: Tensor) -> Tensor:
    """Read off audio tokens (B, F, L, D) what they tell of the speech -> (B, F, 4), in the order of HEARD.

    Stages hear, 1 and 2 train the tokens' first channels for it. Not in the paper.
    """
    return audio[..., : len(HEARD)].mean(-2) / HEARD_UNIT


def face_maps(face_state: Tensor, told: Tensor | None) -> Tensor:
    """Draw what is known of a face where it is: (B, F, FACE_MAPS, h, w).

    face_state (B, F, 3, h, w): the mouth, the picture's lip gap there, and how far the lids are shut at the eyes. told
    (B, F, 4): what the speech tells, of `heard`, drawn at the mouth; zero without speech.
    """
    mouth = face_state[:, :, :1]
    if told is None:
        return torch.cat([face_state[:, :, 1:], mouth.expand(-1, -1, len(HEARD), -1, -1) * 0], 2)
    return torch.cat([face_state[:, :, 1:], mouth * told[..., None, None]], 2)


def _zero_conv(channels: int, width: int) -> nn.Conv2d:
    """Make the input layer of further latents, zero at the start: the same as concatenating them to the noisy one."""
    layer = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def _region_key(stage: str, region: str) -> str:
    """Name of a region's attention in `DenoisingUNet.regions`, in which dots are not allowed."""
    return f"{stage.replace('.', '_')}_{region}"


def _stage_channels(unet: nn.Module, stage: str) -> int:
    return unet.get_submodule(stage).resnets[-1].out_channels

"""What the Denoising U-Net is told, encoded and ready: made once a clip, used at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cyberhost_model.conditions.pose_shift import FINE, MAPS
from cyberhost_model.config import Preset

Features = dict[str, Tensor]
"""Attention site -> Reference Net features."""
REGIONS = ("face", "hands")


Shape = tuple[int, ...]


def _input(shape: Callable[[Preset, int, int], Shape | None]) -> Any:
    """A field that the network encodes; shape(preset, clips, frames) is that of a batch at the preset's size, None
    where the preset does not take it.
    """
    return field(default=None, metadata={"shape": shape})


def _latent(preset: Preset) -> Shape:
    return (preset.latent_channels, *(side // preset.latent_factor for side in preset.size))


def _face(preset: Preset) -> Shape:
    return (3, 256, 256) if preset.region.face_channels else (512,)


def _audio(preset: Preset) -> Shape:
    return preset.audio.tokens, preset.audio.layers, preset.audio.dim


def _pose_shift(preset: Preset) -> Shape:
    return (MAPS, *(FINE * side // preset.latent_factor for side in preset.size))


@dataclass(frozen=True)
class ReferenceInputs:
    """What the reference picture gives, before the network encodes it; the same for every clip of a video."""

    reference_latent: Tensor | None = _input(lambda p, b, f: (b, *_latent(p)))
    """(B, C, h, w) from the codec. Always given."""
    reference_pose: Tensor | None = _input(lambda p, b, f: (b, 3, *p.size))
    """(B, 3, H, W) in 0..1: its skeleton map, for pose-aligned reference features."""
    face: Tensor | None = _input(lambda p, b, f: (b, *_face(p)))
    """(B, 3, 256, 256) in -1..1: its crop, zeros where there is none; or (B, 512), ArcFace's descriptor."""
    hands: Tensor | None = _input(lambda p, b, f: (b, 2, 3, 128, 128))
    """(B, 2, 3, 128, 128) in -1..1: their crops, zeros where there is none."""
    image: Tensor | None = _input(lambda p, b, f: (b, p.unet.cross_attention_dim) if p.image_token else None)
    """(B, D): CLIP's embedding of the picture, where the preset takes it (`image_token`)."""


@dataclass(frozen=True)
class ClipInputs:
    """What one clip adds, before the network encodes it."""

    audio: Tensor | None = _input(lambda p, b, f: (b, f, *_audio(p)))
    """(B, F, L, layers, D): speech features of each frame's window."""
    motion_latents: Tensor | None = _input(
        lambda p, b, f: (b, p.motion_frames, *_latent(p)) if p.motion_frames else None
    )
    """(B, M, C, h, w): the last frames of the clip before, as `codecs.base.for_reference_net` gives them; None for the
    first clip.
    """
    pose: Tensor | None = _input(lambda p, b, f: (b, 1, 3, *p.size))
    """(B, F or 1, 3, H, W) in 0..1: body movement map or skeleton maps."""
    pose_shift: Tensor | None = _input(lambda p, b, f: (b, f, *_pose_shift(p)) if p.pose_shift else None)
    """(B, F, 7, 2h, 2w): beside skeleton maps, where the preset takes it (`conditions.pose_shift`)."""
    hand_clarity: Tensor | None = _input(lambda p, b, f: (b, f))
    """(B, F) in about 0..1; 0 where there is no hand to judge."""


def input_shapes(preset: Preset, clips: int, frames: int) -> dict[str, Shape]:
    """The shape of every input that `preset` takes, by name, for `clips` clips of `frames` frames."""
    shapes = {
        entry.name: entry.metadata["shape"](preset, clips, frames)
        for inputs in (ReferenceInputs, ClipInputs)
        for entry in dataclasses.fields(inputs)
    }
    return {name: shape for name, shape in shapes.items() if shape is not None}


def _tensor() -> Any:
    """A field that is batched along the first axis."""
    return field(default=None, metadata={"batched": True})


@dataclass
class Conditions:
    """Encoded conditions of B clips of F frames; None is a condition that is absent.

    An item without a reference is not attended with an empty one: it is computed without (as diffusers would), so a
    batch that mixes both, as guidance does, wastes nothing. That is why `reference` and `motion` hold the present items
    only.
    """

    reference_latent: Tensor | None = _tensor()
    """(B, C, h, w): enters at the input (`concat_reference`); zeros are "absent"."""
    reference: Features | None = None
    """Site -> (R, N, D): features of the reference picture for the R items of `reference_present` that are True."""
    reference_present: tuple[bool, ...] = ()
    motion: Features | None = None
    """Site -> (R, M, N, D): features of the motion frames, for the items of `motion_present` that are True."""
    motion_present: tuple[bool, ...] = ()
    audio: Tensor | None = _tensor()
    """(B, F or 1, L, D): audio tokens; zeros are "absent" (silence is not: it has features of its own).

    With `image_token` the picture's token.
    """
    pose: Tensor | None = _tensor()
    """(B, F or 1, C0, h, w): encoded body movement map or skeleton maps, added after `conv_in`."""
    prior: Tensor | None = _tensor()
    """(B, F, C, h, w): the latents that key points (presets with `pose_shift`) and the clip before (`motion_prior`)
    lead one to expect; the U-Net denoises what differs from them. Not in the paper.
    """
    prior_from_motion: Tensor | None = _tensor()
    """What of `prior` the clip before adds."""
    prior_std: Tensor | None = _tensor()
    """(B, F, C, 1, 1) in 0..1: how far latents differ from `prior`, against those of which nothing is known; what is
    denoised is divided by it.
    """
    pose_coverage: Tensor | None = _tensor()
    """(B, F, 1, h, w) in 0..1: where `prior` is all there is to say, so that nothing is drawn at random there."""
    hand_clarity: Tensor | None = _tensor()
    """(B, F): hand clarity score in about 0..1; 0 where there is no hand to judge."""
    face: Tensor | None = _tensor()
    """(B, n, D): identity descriptor; zeros are "absent"."""
    hands: Tensor | None = _tensor()
    """(B, n, D): identity descriptors; zeros are "absent"."""
    regions: tuple[str, ...] = REGIONS
    """Where Region Codebook Attention acts; without "hands" the video is a talking head (A2V-H)."""

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor there is, by its name; of features by "name/site"."""
        found: dict[str, Tensor] = {}
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Tensor):
                found[entry.name] = value
            elif isinstance(value, dict):
                found |= {f"{entry.name}/{site}": features for site, features in value.items()}
        return found

    def apply(self, function: Callable[[Tensor], Tensor]) -> Conditions:
        """The same with `function` applied to each tensor."""
        made: dict[str, Tensor | Features] = {}
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Tensor):
                made[entry.name] = function(value)
            elif isinstance(value, dict):
                made[entry.name] = {site: function(features) for site, features in value.items()}
        return dataclasses.replace(self, **made)  # type: ignore[arg-type]

    @property
    def follows(self) -> tuple[bool, ...]:
        """Of each item, whether it is expected to go on from the clip before; empty where none can."""
        return () if self.prior_from_motion is None else self.motion_present

    def without_audio(self, drop: Sequence[bool] | None = None) -> Conditions:
        """The same without speech, for all items or those `drop` marks (guidance, condition dropout in training)."""
        return dataclasses.replace(self, audio=_zeroed(self.audio, drop))

    def without_reference(self, drop: Sequence[bool] | None = None) -> Conditions:
        """The same without the reference picture: its features, its latent and both identity descriptors.

        Motion frames, pose and hand clarity stay.
        """
        reference, present = _removed(self.reference, self.reference_present, drop)
        return dataclasses.replace(
            self,
            reference=reference,
            reference_present=present,
            reference_latent=_zeroed(self.reference_latent, drop),
            face=_zeroed(self.face, drop),
            hands=_zeroed(self.hands, drop),
        )

    def without_motion(self, drop: Sequence[bool] | None = None) -> Conditions:
        """The same without motion frames, as in the first clip of a video."""
        motion, present = _removed(self.motion, self.motion_present, drop)
        left, prior, prior_std = _zeroed(self.prior_from_motion, drop), self.prior, self.prior_std
        if prior is not None and self.prior_from_motion is not None and left is not None and prior_std is not None:
            prior, prior_std = prior - self.prior_from_motion + left, 1 - _zeroed(1 - prior_std, drop)  # type: ignore[operator]
        return dataclasses.replace(
            self, motion=motion, motion_present=present, prior=prior, prior_from_motion=left, prior_std=prior_std
        )

    def remainder(self, z: Tensor) -> Tensor:
        """What the U-Net denoises of a clip's latents z (B, F, C, h, w)."""
        left = z if self.prior is None else z - self.prior
        return left if self.prior_std is None else left / self.prior_std

    def whole(self, remainder: Tensor) -> Tensor:
        """The latents of a clip of which `remainder` was denoised; where key points say all, nothing of it counts."""
        z = remainder if self.prior_std is None else remainder * self.prior_std
        z = z if self.pose_coverage is None else z * (1 - self.pose_coverage)
        return z if self.prior is None else z + self.prior

    @staticmethod
    def cat(parts: Sequence[Conditions]) -> Conditions:
        """One batch of several: all must have the same conditions, except that items may lack a reference or motion
        frames. Raises ValueError if one has, say, a pose and another none.
        """
        if len(parts) == 1:
            return parts[0]
        if any(part.regions != parts[0].regions for part in parts):
            raise ValueError("cannot batch clips with different regions")
        tensors: dict[str, Tensor | None] = {}
        for name in (entry.name for entry in dataclasses.fields(Conditions) if entry.metadata.get("batched")):
            values = [getattr(part, name) for part in parts]
            if any(value is None for value in values) != all(value is None for value in values):
                raise ValueError(f"cannot batch clips with and without {name}")
            tensors[name] = None if values[0] is None else torch.cat(values)
        return Conditions(
            reference=_cat_features([part.reference for part in parts]),
            reference_present=tuple(flag for part in parts for flag in part.reference_present),
            motion=_cat_features([part.motion for part in parts]),
            motion_present=tuple(flag for part in parts for flag in part.motion_present),
            regions=parts[0].regions,
            **tensors,
        )


def _zeroed(value: Tensor | None, drop: Sequence[bool] | None) -> Tensor | None:
    if value is None or (drop is not None and not any(drop)):
        return value
    if drop is None or all(drop):
        return torch.zeros_like(value)
    keep = torch.tensor([not flag for flag in drop], device=value.device)
    return torch.where(keep.view(-1, *[1] * (value.ndim - 1)), value, 0.0)


def _removed(
    features: Features | None, present: tuple[bool, ...], drop: Sequence[bool] | None
) -> tuple[Features | None, tuple[bool, ...]]:
    if features is None:
        return None, present
    drop = [True] * len(present) if drop is None else drop
    rows = [gone for gone, here in zip(drop, present, strict=True) if here]
    left = tuple(here and not gone for gone, here in zip(drop, present, strict=True))
    if not any(left):
        return None, left
    keep = [row for row, gone in enumerate(rows) if not gone]
    return {site: value[keep] for site, value in features.items()}, left


def _cat_features(parts: list[Features | None]) -> Features | None:
    present = [part for part in parts if part is not None]
    if not present:
        return None
    return {site: torch.cat([part[site] for part in present]) for site in present[0]}

"""Conditions of the Denoising U-Net: raw inputs (`ReferenceInputs`, `ClipInputs`) and encoded ones (`Conditions`).

The fields of the two inputs are the network's only list of conditions; `input_shapes` gives their shapes. `Conditions`
are encoded once a clip and read at every denoising step.
"""

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
AUDIO_REGIONS = ("full", "face", "lip")
"""Parts of the picture with an audio attention each (`Preset.portrait`): around the face, the face, the lips."""


Shape = tuple[int, ...]


def _input(shape: Callable[[Preset, int, int], Shape | None]) -> Any:
    """Declare a field that the network encodes.

    shape(preset, clips, frames): the shape of a batch at the preset's size, None where the preset does not take it.
    """
    return field(default=None, metadata={"shape": shape})


def _latent(preset: Preset) -> Shape:
    return (preset.latent_channels, *(side // preset.latent_factor for side in preset.size))


def _face(preset: Preset) -> Shape:
    return (3, 256, 256) if preset.region.face_channels and preset.portrait is None else (512,)


def _audio_masks(preset: Preset) -> Shape:
    return len(AUDIO_REGIONS), sum(h * w for h, w in level_sizes(preset, _latent(preset)[1:]))


def level_sizes(preset: Preset, latent: Sequence[int]) -> list[tuple[int, int]]:
    """List (h, w) of every level of the U-Nets for latents of the size `latent`, the finest first."""
    return [(latent[0] >> i, latent[1] >> i) for i in range(len(preset.unet.block_out_channels))]


def _audio(preset: Preset) -> Shape:
    return preset.audio.tokens, preset.audio.layers, preset.audio.dim


def _pose_shift(preset: Preset) -> Shape:
    return (MAPS, *(FINE * side // preset.latent_factor for side in preset.size))


@dataclass(frozen=True)
class ReferenceInputs:
    """Raw conditions of the reference picture, the same for every clip of a video."""

    reference_latent: Tensor | None = _input(lambda p, b, f: (b, *_latent(p)))
    """(B, C, h, w) from the codec; required."""
    reference_pose: Tensor | None = _input(lambda p, b, f: (b, 3, *p.size))
    """(B, 3, H, W) in 0..1: skeleton map of the picture, for pose-aligned reference features (section 3.3)."""
    face: Tensor | None = _input(lambda p, b, f: (b, *_face(p)))
    """(B, 3, 256, 256) in -1..1: crop of the face, zeros without one; or (B, 512), ArcFace's descriptor."""
    hands: Tensor | None = _input(lambda p, b, f: (b, 2, 3, 128, 128))
    """(B, 2, 3, 128, 128) in -1..1: crops of the left and the right hand, zeros for an absent one."""
    lip_gap: Tensor | None = _input(lambda p, b, f: (b,) if p.face_state else None)
    """(B,): gap of the picture's lips in face heights, where the preset takes it (`face_state`)."""
    image: Tensor | None = _input(lambda p, b, f: (b, p.unet.cross_attention_dim) if p.image_token else None)
    """(B, D): CLIP's embedding of the picture, where the preset takes it (`image_token`)."""
    audio_masks: Tensor | None = _input(lambda p, b, f: (b, *_audio_masks(p)) if p.portrait else None)
    """(B, 3, N) in 0..1: how much each of AUDIO_REGIONS counts at each cell of all levels, one level after the other,
    where the preset takes it (`portrait`).
    """


@dataclass(frozen=True)
class ClipInputs:
    """Raw conditions of one clip of F frames."""

    audio: Tensor | None = _input(lambda p, b, f: (b, f, *_audio(p)))
    """(B, F, L, layers, D): speech features of each frame's window."""
    motion_latents: Tensor | None = _input(
        lambda p, b, f: (b, p.motion_frames, *_latent(p)) if p.motion_frames else None
    )
    """(B, M, C, h, w): motion frames, the last of the previous clip, as `codecs.base.for_reference_net` converts them;
    None for the first clip (section 3.1).
    """
    pose: Tensor | None = _input(lambda p, b, f: (b, 1, 3, *p.size))
    """(B, F or 1, 3, H, W) in 0..1: body movement map (section 3.3) or skeleton maps (section 4.2)."""
    pose_shift: Tensor | None = _input(lambda p, b, f: (b, f, *_pose_shift(p)) if p.pose_shift else None)
    """(B, F, 10, 2h, 2w): displacement of key points since the reference (`conditions.pose_shift`)."""
    hand_clarity: Tensor | None = _input(lambda p, b, f: (b, f))
    """(B, F) in about 0..1; 0 where no hand is visible (section 3.3)."""
    shut: Tensor | None = _input(lambda p, b, f: (b, f) if p.face_state else None)
    """(B, F): how far the lids are shut, 0 as in the picture .. 1, where the preset takes it (`face_state`)."""


def input_shapes(preset: Preset, clips: int, frames: int) -> dict[str, Shape]:
    """List the shape of every input that `preset` takes, by name, for `clips` clips of `frames` frames."""
    shapes = {
        entry.name: entry.metadata["shape"](preset, clips, frames)
        for inputs in (ReferenceInputs, ClipInputs)
        for entry in dataclasses.fields(inputs)
    }
    return {name: shape for name, shape in shapes.items() if shape is not None}


def _tensor() -> Any:
    """Declare a field of B items that `Conditions.cat` concatenates along the first axis."""
    return field(default=None, metadata={"batched": True})


@dataclass
class Conditions:
    """Encoded conditions of B clips of F frames; None where a condition is absent.

    `reference` and `motion` hold the items that have them only (R of B): attention of an item without a reference runs
    without those keys and values, so a batch that mixes both, as guidance makes it, costs nothing extra.
    """

    reference_latent: Tensor | None = _tensor()
    """(B, C, h, w): added at the input with `concat_reference`; zeros where absent."""
    reference: Features | None = None
    """Site -> (R, N, D): features of the reference picture, of the items that `reference_present` marks; with
    `portrait` (R, 2, N, D): frames read two variants in turn.
    """
    reference_present: tuple[bool, ...] = ()
    motion: Features | None = None
    """Site -> (R, M, N, D): features of the motion frames, of the items that `motion_present` marks."""
    motion_present: tuple[bool, ...] = ()
    audio: Tensor | None = _tensor()
    """(B, F or 1, L, D): audio tokens, or the picture's token with `image_token`; zeros where absent.

    Silence is not absent: it has features of its own.
    """
    pose: Tensor | None = _tensor()
    """(B, F or 1, C0, h, w): encoded body movement map or skeleton maps, added after `conv_in`."""
    prior: Tensor | None = _tensor()
    """(B, F, C, h, w): latents predicted from key points (`pose_shift`) and from the previous clip (`motion_prior`);
    the U-Net denoises the residual. Not in the paper.
    """
    prior_from_motion: Tensor | None = _tensor()
    """(B, F, C, h, w): the part of `prior` that the previous clip adds."""
    prior_std: Tensor | None = _tensor()
    """(B, F, C, 1, 1) in 0..1: standard deviation of latents about `prior`, relative to that of all latents; the
    residual is divided by it.
    """
    pose_coverage: Tensor | None = _tensor()
    """(B, F, C, h, w) in 0..1: where key points determine `prior`; the residual is left out there."""
    hand_clarity: Tensor | None = _tensor()
    """(B, F): hand clarity score in about 0..1; 0 where no hand is visible."""
    face_state: Tensor | None = _tensor()
    """(B, F, 3, h, w): the picture's mouth, its lip gap there, and how far the lids are shut at its eyes."""
    face: Tensor | None = _tensor()
    """(B, n, D): identity descriptor of the face; zeros where absent."""
    hands: Tensor | None = _tensor()
    """(B, n, D): identity descriptors of the hands; zeros where absent."""
    face_tokens: Tensor | None = _tensor()
    """(B, n, D): tokens of the face that spatial cross attention reads (`portrait`)."""
    audio_masks: Tensor | None = _tensor()
    """(B, 3, N): as in `ReferenceInputs`."""
    absent: Conditions | None = None
    """What the branch without conditions reads, for presets (`portrait`) in which that is more than zeros."""
    regions: tuple[str, ...] = REGIONS
    """Regions that Region Codebook Attention refines; without "hands" the video is a talking head (A2V-H)."""

    def tensors(self) -> dict[str, Tensor]:
        """List all tensors by the field's name, features by "name/site"."""
        found: dict[str, Tensor] = {}
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Tensor):
                found[entry.name] = value
            elif isinstance(value, dict):
                found |= {f"{entry.name}/{site}": features for site, features in value.items()}
        return found

    def apply(self, function: Callable[[Tensor], Tensor]) -> Conditions:
        """Copy the conditions with `function` applied to each tensor."""
        changed: dict[str, Tensor | Features] = {}
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Tensor):
                changed[entry.name] = function(value)
            elif isinstance(value, dict):
                changed[entry.name] = {site: function(features) for site, features in value.items()}
        absent = None if self.absent is None else self.absent.apply(function)
        return dataclasses.replace(self, absent=absent, **changed)  # type: ignore[arg-type]

    def with_further(self, pictures: Sequence[Conditions]) -> Conditions:
        """Copy the conditions of a reference picture with what further pictures of the same person show.

        Their Reference Net features are further keys and values of the attention to the reference; descriptors and
        tokens are averaged over the pictures that show what they describe. What says where things are (the latent at
        the input, the state of the face, masks) stays the first picture's, whose size the others need not have.
        """
        every = [self, *pictures]
        features = [part.reference for part in every if part.reference is not None]
        described = {
            name: _mean_where_shown([value for part in every if (value := getattr(part, name)) is not None])
            for name in ("audio", "face", "hands", "face_tokens")
        }
        changes: dict[str, Any] = {
            "reference": {site: torch.cat([part[site] for part in features], -2) for site in features[0]},
            **described,
        }
        return dataclasses.replace(self, **changes)

    @property
    def continues(self) -> tuple[bool, ...]:
        """Whether each item has a prior from the previous clip; empty for presets without `motion_prior`."""
        return () if self.prior_from_motion is None else self.motion_present

    def without_audio(self, drop: Sequence[bool] | None = None) -> Conditions:
        """Copy the conditions without speech, for all items or those that `drop` marks.

        For guidance (section 4.1) and for condition dropout in training.
        """
        return dataclasses.replace(self, audio=_zeroed(self.audio, drop))

    def without_reference(self, drop: Sequence[bool] | None = None) -> Conditions:
        """Copy the conditions without the reference picture: its features, its latent and the identity descriptors.

        Motion frames, pose, hand clarity and the state of the face (where it is, how far its lips are apart) stay,
        unless `absent` says what is read instead.
        """
        if self.absent is not None and drop is None:
            return self.absent
        reference, present = _removed(self.reference, self.reference_present, drop)
        return dataclasses.replace(
            self,
            reference=reference,
            reference_present=present,
            reference_latent=_zeroed(self.reference_latent, drop),
            face=_zeroed(self.face, drop),
            hands=_zeroed(self.hands, drop),
        )

    def without_pose(self) -> Conditions:
        """Copy the conditions without the body movement map or skeleton maps."""
        return dataclasses.replace(self, pose=_zeroed(self.pose, None))

    def without_motion(self, drop: Sequence[bool] | None = None) -> Conditions:
        """Copy the conditions without motion frames, as in the first clip of a video."""
        motion, present = _removed(self.motion, self.motion_present, drop)
        left, prior, prior_std = _zeroed(self.prior_from_motion, drop), self.prior, self.prior_std
        if prior is not None and self.prior_from_motion is not None and left is not None and prior_std is not None:
            prior, prior_std = prior - self.prior_from_motion + left, 1 - _zeroed(1 - prior_std, drop)  # type: ignore[operator]
        return dataclasses.replace(
            self, motion=motion, motion_present=present, prior=prior, prior_from_motion=left, prior_std=prior_std
        )

    def to_residual(self, z: Tensor) -> Tensor:
        """Subtract the prior from a clip's latents z (B, F, C, h, w) and divide by its deviation, for the U-Net."""
        residual = z if self.prior is None else z - self.prior
        return residual if self.prior_std is None else residual / self.prior_std

    def from_residual(self, residual: Tensor) -> Tensor:
        """Invert `to_residual`, except where `pose_coverage` leaves the residual out."""
        z = residual if self.prior_std is None else residual * self.prior_std
        z = z if self.pose_coverage is None else z * (1 - self.pose_coverage)
        return z if self.prior is None else z + self.prior

    @staticmethod
    def cat(parts: Sequence[Conditions]) -> Conditions:
        """Concatenate several batches into one.

        Raises ValueError where a condition is absent in some only; a reference and motion frames may be.
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
    """Set the items of (B, ...) that `drop` marks to zero, or all of them without `drop`."""
    if value is None or (drop is not None and not any(drop)):
        return value
    if drop is None or all(drop):
        return torch.zeros_like(value)
    keep = torch.tensor([not flag for flag in drop], device=value.device)
    return torch.where(keep.view(-1, *[1] * (value.ndim - 1)), value, 0.0)


def _mean_where_shown(values: Sequence[Tensor]) -> Tensor | None:
    """Average tokens (B, ..., n, D) over the pictures in which they are not zero, as those of absent parts are."""
    if not values:
        return None
    stacked = torch.stack([*values])
    shown = stacked.any(-1, keepdim=True).sum(0).clamp_min(1)
    return stacked.sum(0) / shown


def _removed(
    features: Features | None, present: tuple[bool, ...], drop: Sequence[bool] | None
) -> tuple[Features | None, tuple[bool, ...]]:
    """Take the items that `drop` marks (all without it) out of features; returns the rest and the new `present`."""
    if features is None:
        return None, present
    drop = [True] * len(present) if drop is None else drop
    left = tuple(flag and not dropped for dropped, flag in zip(drop, present, strict=True))
    if not any(left):
        return None, left
    rows = [dropped for dropped, flag in zip(drop, present, strict=True) if flag]  # of the items in `features`
    keep = [row for row, dropped in enumerate(rows) if not dropped]
    return {site: value[keep] for site, value in features.items()}, left


def _cat_features(parts: list[Features | None]) -> Features | None:
    """Concatenate features site by site, leaving out parts without any."""
    present = [part for part in parts if part is not None]
    if not present:
        return None
    return {site: torch.cat([part[site] for part in present]) for site in present[0]}

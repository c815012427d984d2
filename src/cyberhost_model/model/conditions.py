"""What the Denoising U-Net is told, encoded and ready: made once a clip, used at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Features = dict[str, Tensor]
"""Attention site -> Reference Net features."""
REGIONS = ("face", "hands")


@dataclass
class Conditions:
    """Encoded conditions of B clips of F frames; None is a condition that is absent.

    reference_latent (B, C, h, w): enters at the input (`concat_reference`); zeros are "absent". reference: site -> (R,
    N, D), features of the reference picture for the R items of `reference_present` that are True. motion: site -> (R,
    M, N, D), features of the motion frames, for the items of `motion_present` that are True. audio (B, F or 1, L, D):
    audio tokens; zeros are "absent" (silence is not: it has features of its own). With `image_token` the picture's
    token. pose (B, F or 1, C0, h, w): encoded body movement map or skeleton maps, added after `conv_in`. prior (B, F,
    C, h, w): the latents that key points (presets with `pose_shift`) and the clip before lead one to expect; the U-Net
    denoises what differs from them. prior_from_motion: what of it the clip before adds (`motion_prior`).
    prior_std (B, F, C, 1, 1) in 0..1: how far latents differ from `prior` then, against those of which nothing is
    known; what is denoised is divided by it. pose_coverage (B, F, 1, h, w) in 0..1: where `prior` is all there is to
    say, so that nothing is drawn at random there. hand_clarity (B, F): hand clarity score in about 0..1; 0 where there
    is no hand to judge. face (B, n, D), hands (B, n, D): identity descriptors; zeros are "absent". regions: where
    Region Codebook Attention acts; without "hands" the video is a talking head (A2V-H).

    An item without a reference is not attended with an empty one: it is computed without (as diffusers would), so a
    batch that mixes both, as guidance does, wastes nothing. That is why `reference` and `motion` hold the present items
    only.
    """

    reference_latent: Tensor | None = None
    reference: Features | None = None
    reference_present: tuple[bool, ...] = ()
    motion: Features | None = None
    motion_present: tuple[bool, ...] = ()
    audio: Tensor | None = None
    pose: Tensor | None = None
    prior: Tensor | None = None
    prior_from_motion: Tensor | None = None
    prior_std: Tensor | None = None
    pose_coverage: Tensor | None = None
    hand_clarity: Tensor | None = None
    face: Tensor | None = None
    hands: Tensor | None = None
    regions: tuple[str, ...] = REGIONS

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
        for name in (
            "reference_latent",
            "audio",
            "pose",
            "prior",
            "prior_from_motion",
            "prior_std",
            "pose_coverage",
            "hand_clarity",
            "face",
            "hands",
        ):
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

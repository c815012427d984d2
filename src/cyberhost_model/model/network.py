"""CyberHostNetwork: all networks of the paper except the codec and the speech encoder.

It encodes raw inputs into `Conditions` and predicts denoising steps with them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from cyberhost_model.config import Preset
from cyberhost_model.model.condition_encoders import (
    ARCFACE_DIM,
    AudioProjection,
    AudioTokens,
    FaceEncoder,
    FaceTokens,
    HandEncoder,
    PoseEncoder,
    WindowProjection,
)
from cyberhost_model.model.conditions import ClipInputs, Conditions, Features, ReferenceInputs
from cyberhost_model.model.denoising_unet import DenoiserOutput, DenoisingUNet
from cyberhost_model.model.motion_prior import PoseToLatent, measure_pose_coverage, motion_prior
from cyberhost_model.model.reference_net import ReferenceNet

OPEN_GAP = 0.09
"""Gap of the lips of a wide open mouth, in face heights."""


class CyberHostNetwork(nn.Module):
    """Reference Net, Denoising U-Net and the encoders of their conditions, one class for every preset.

    Parts that an ablation switches off are not built, and their inputs are ignored.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        switches, region = preset.ablations, preset.region
        width = preset.unet.block_out_channels[0]

        def pose_encoder() -> PoseEncoder:
            return PoseEncoder(preset.pose_channels, width, preset.pose_pool)

        self.reference_net = ReferenceNet(preset.unet, preset.latent_channels)
        self.denoising_unet = DenoisingUNet(preset)
        self.audio_projection: nn.Module = AudioTokens()
        self.face_tokens = self.window_projection = None
        if preset.portrait is not None:
            self.window_projection = WindowProjection(preset.audio, preset.portrait, preset.unet.cross_attention_dim)
            self.face_tokens = FaceTokens(preset.portrait.face_tokens, preset.unet.cross_attention_dim)
        elif preset.audio.project and not preset.image_token:
            self.audio_projection = AudioProjection(preset.audio, preset.unet.cross_attention_dim)
        self.reference_pose_encoder = pose_encoder() if switches.pose_aligned_reference else None
        self.pose_encoder = pose_encoder() if switches.body_movement else None
        self.pose_to_latent = PoseToLatent(preset.latent_channels) if preset.pose_shift else None
        describes = switches.id_descriptor
        self.face_encoder = FaceEncoder(region) if describes and switches.face_codebook else None
        self.hand_encoder = HandEncoder(region) if describes and switches.hand_codebook else None

    def forward(
        self,
        noisy: Tensor,
        timestep: Tensor,
        conditions: Conditions,
        heatmaps: bool = False,
        deep: Tensor | None = None,
    ) -> DenoiserOutput:
        """Predict one denoising step, see `DenoisingUNet.forward`."""
        return self.denoising_unet(noisy, timestep, conditions, heatmaps, deep)

    def reference_conditions(self, given: ReferenceInputs) -> Conditions:
        """Encode the reference picture's inputs; once a video."""
        latent, pose, image = given.reference_latent, given.reference_pose, given.image
        assert latent is not None
        aligned = None
        if self.reference_pose_encoder is not None and pose is not None:
            aligned = self.reference_pose_encoder(pose)
        face_tokens, reference = None, None
        if self.face_tokens is not None:
            face_tokens = self._face_tokens(given)
            reference = self._portrait_reference(latent, face_tokens)
        return Conditions(
            reference_latent=latent if self.preset.concat_reference else None,
            reference=reference or self.reference_net(latent, aligned, None if image is None else image[:, None]),
            reference_present=(True,) * len(latent),
            face_state=self._lip_gap_map(latent, given.lip_gap),
            motion_present=(False,) * len(latent),
            audio=None if image is None else image[:, None, None],
            face=None if self.face_encoder is None or given.face is None else self.face_encoder(given.face),
            hands=None if self.hand_encoder is None or given.hands is None else self.hand_encoder(given.hands),
            face_tokens=face_tokens,
            audio_masks=given.audio_masks,
        )

    def _face_tokens(self, given: ReferenceInputs) -> Tensor:
        """Make the tokens of the face, or those of no face where none is given: (B, n, D)."""
        assert self.face_tokens is not None and given.reference_latent is not None
        latent = given.reference_latent
        return self.face_tokens(latent.new_zeros(len(latent), ARCFACE_DIM) if given.face is None else given.face)

    def _portrait_reference(self, latent: Tensor, tokens: Tensor) -> Features:
        """Encode the picture beside the tokens of no face and beside those of the face -> site -> (B, 2, N, D).

        Frames read both in turn (`attention.spatial_transformer`), as in Hallo's program, which repeats the features of
        the two branches of guidance over the frames of both. Not in the paper: `portrait`.
        """
        assert self.face_tokens is not None
        nobody = self.face_tokens(tokens.new_zeros(len(tokens), ARCFACE_DIM))
        both = [self.reference_net(latent, None, beside) for beside in (nobody, tokens)]
        return {site: torch.stack([features[site] for features in both], 1) for site in both[0]}

    def clip_conditions(self, video: Conditions, given: ClipInputs, features: Features | None = None) -> Conditions:
        """Encode one clip's inputs and add them to `video`, the result of `reference_conditions`; once a clip.

        features: `motion_features` of the motion frames, where they were computed before; not for presets with
        `portrait`.
        """
        pose, motion = given.pose, given.motion_latents
        if features is None and motion is not None and self.face_tokens is None:
            features = self.motion_features(motion)
        encoded_pose = None
        if self.pose_encoder is not None and pose is not None:
            encoded_pose = self.pose_encoder(pose.flatten(0, 1)).unflatten(0, pose.shape[:2])
        without_speech = given.audio is None or self.preset.image_token
        clip = dataclasses.replace(
            video,
            audio=video.audio if without_speech else (self.window_projection or self.audio_projection)(given.audio),
            motion=features,
            motion_present=(motion is not None,) * len(video.reference_present),
            pose=encoded_pose,
            hand_clarity=given.hand_clarity,
            face_state=self._add_lids(video.face_state, given),
            **self._prior(video, given),
        )
        return clip if self.face_tokens is None else self._portrait_conditions(clip, motion)

    def _portrait_conditions(self, clip: Conditions, motion: Tensor | None) -> Conditions:
        """Add the motion frames' features, and what the branch without conditions reads. Not in the paper: `portrait`.

        That branch sees the motion frames too, beside the tokens of no face. The Reference Net sees the motion frames
        of both branches as Hallo's program pairs them: it repeats the two branches' tokens over the rows of all
        frames, so that every other frame has those of the other branch.
        """
        tokens = clip.face_tokens
        assert self.face_tokens is not None and tokens is not None
        nobody = self.face_tokens(tokens.new_zeros(len(tokens), ARCFACE_DIM))
        with_face = without = None
        if motion is not None:
            seen, unseen = (self.motion_features(motion, beside) for beside in (tokens, nobody))
            odd = torch.arange(motion.shape[1], device=motion.device).add(motion.shape[1]) % 2 == 1
            with_face = {s: torch.where(odd[:, None, None], seen[s], unseen[s]) for s in seen}
            first = torch.arange(motion.shape[1], device=motion.device) % 2 == 0
            without = {s: torch.where(first[:, None, None], seen[s], unseen[s]) for s in seen}
        absent = dataclasses.replace(clip.without_audio().without_reference(), face_tokens=nobody, motion=without)
        pose = None if clip.pose is None else torch.zeros_like(clip.pose)
        return dataclasses.replace(clip, motion=with_face, absent=dataclasses.replace(absent, pose=pose))

    def _prior(self, video: Conditions, given: ClipInputs) -> dict[str, Any]:
        """Predict the latents from key points and from the previous clip (`model.motion_prior`). Not in the paper."""
        reference, shift, motion = video.reference_latent, given.pose_shift, given.motion_latents
        prior = coverage = from_motion = std = None
        if self.pose_to_latent is not None and shift is not None and reference is not None:
            coverage = measure_pose_coverage(shift)
            prior = coverage * self.pose_to_latent(shift, reference)  # all else is the U-Net's
            coverage = coverage.repeat(1, 1, self.preset.latent_channels, 1, 1)
            if given.audio is not None:  # lips follow speech too
                coverage[:, :, self.preset.latent_channels - self.preset.control_channels :] = 0
        if self.preset.motion_prior and motion is not None and reference is not None:
            frames = self.preset.frames if given.hand_clarity is None else given.hand_clarity.shape[1]
            last, controls = motion[:, -1] - reference, self.preset.control_channels
            from_motion, std = motion_prior(last, self.preset.motion_prior, frames, controls, prior, coverage)
            prior = from_motion if prior is None else prior + from_motion
        return {"prior": prior, "prior_from_motion": from_motion, "prior_std": std, "pose_coverage": coverage}

    def _lip_gap_map(self, latent: Tensor, lip_gap: Tensor | None) -> Tensor | None:
        """Draw the picture's mouth, its lip gap there, and its eyes, for `_add_lids`: (B, 1, 3, h, w)."""
        if not self.preset.face_state or lip_gap is None:
            return None
        mouth, _, eyes = latent[:, -self.preset.control_channels :].unbind(1)
        return torch.stack([mouth, mouth * (lip_gap / OPEN_GAP)[:, None, None], eyes], 1)[:, None]

    @staticmethod
    def _add_lids(maps: Tensor | None, given: ClipInputs) -> Tensor | None:
        """Scale the eyes of `_lip_gap_map` by how far the lids of each frame are shut: (B, F, 3, h, w)."""
        if maps is None or given.shut is None:
            return None
        still = torch.ones_like(given.shut)
        amounts = torch.stack([still, still, given.shut], -1)
        return maps * amounts[..., None, None]

    def motion_features(self, motion_latents: Tensor, tokens: Tensor | None = None) -> Features:
        """Encode motion frames with the Reference Net: (B, M, C, h, w) -> site -> (B, M, N, D).

        tokens (B, n, D): those of the face, for presets with `portrait`.
        """
        seen = None if tokens is None else tokens.repeat_interleave(motion_latents.shape[1], 0)
        features = self.reference_net(motion_latents.flatten(0, 1), None, seen)
        return {site: value.unflatten(0, motion_latents.shape[:2]) for site, value in features.items()}

    def conditions(self, **given: Tensor | None) -> Conditions:
        """Encode all inputs at once, as in training: the fields of `ReferenceInputs` and `ClipInputs` by name."""
        names = {entry.name for entry in dataclasses.fields(ReferenceInputs)}
        reference = ReferenceInputs(**{name: value for name, value in given.items() if name in names})
        clip = ClipInputs(**{name: value for name, value in given.items() if name not in names})
        return self.clip_conditions(self.reference_conditions(reference), clip)

    def enable_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Trade time for memory in both U-Nets: every layer's activations are computed again in the backward pass."""
        self.reference_net.gradient_checkpointing = enabled
        self.denoising_unet.gradient_checkpointing = enabled

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.parameters()).dtype

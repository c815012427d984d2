"""CyberHostNetwork: all networks of the paper but the codec and the speech encoder, and the step from raw conditions
to `Conditions`.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from cyberhost_model.config import Preset
from cyberhost_model.model.condition_encoders import AudioProjection, AudioTokens, FaceEncoder, HandEncoder, PoseEncoder
from cyberhost_model.model.conditions import Conditions, Features
from cyberhost_model.model.denoising_unet import DenoiserOutput, DenoisingUNet
from cyberhost_model.model.motion_prior import PoseToLatent, measure_pose_coverage, motion_prior
from cyberhost_model.model.reference_net import ReferenceNet

HEARD = 3.0  # the first channel of the audio tokens at a wide open mouth


class CyberHostNetwork(nn.Module):
    """Reference Net, Denoising U-Net and the encoders of their conditions, one class for every preset.

    What an ablation switches off is not built; its input is then ignored.
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
        if preset.audio.project and not preset.image_token:
            self.audio_projection = AudioProjection(preset.audio, preset.unet.cross_attention_dim)
        self.reference_pose_encoder = pose_encoder() if switches.pose_aligned_reference else None
        self.pose_encoder = pose_encoder() if switches.body_movement else None
        self.pose_follower = PoseToLatent(preset.latent_channels) if preset.pose_shift else None
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
        """See `DenoisingUNet.forward`."""
        return self.denoising_unet(noisy, timestep, conditions, heatmaps, deep)

    def reference_conditions(
        self,
        reference_latent: Tensor,
        reference_pose: Tensor | None = None,
        face: Tensor | None = None,
        hands: Tensor | None = None,
        image: Tensor | None = None,
    ) -> Conditions:
        """What the reference picture says; once a video.

        reference_latent (B, C, h, w) from the codec; reference_pose (B, 3, H, W) in 0..1, its skeleton map; face (B, 3,
        256, 256) in [-1, 1] (or (B, 512), ArcFace) and hands (B, 2, 3, 128, 128) in [-1, 1], its crops, zeros where
        there is none; image (B, D), CLIP's embedding of it, where the preset takes it (`image_token`).
        """
        aligned = None
        if self.reference_pose_encoder is not None and reference_pose is not None:
            aligned = self.reference_pose_encoder(reference_pose)
        return Conditions(
            reference_latent=reference_latent if self.preset.concat_reference else None,
            reference=self.reference_net(reference_latent, aligned, None if image is None else image[:, None]),
            reference_present=(True,) * len(reference_latent),
            motion_present=(False,) * len(reference_latent),
            audio=None if image is None else image[:, None, None],
            face=None if self.face_encoder is None or face is None else self.face_encoder(face),
            hands=None if self.hand_encoder is None or hands is None else self.hand_encoder(hands),
        )

    def clip_conditions(
        self,
        video: Conditions,
        audio: Tensor | None = None,
        motion_latents: Tensor | None = None,
        pose: Tensor | None = None,
        pose_shift: Tensor | None = None,
        hand_clarity: Tensor | None = None,
    ) -> Conditions:
        """`video`, from `reference_conditions`, with what one clip adds; once a clip.

        audio (B, F, L, layers, D_audio), speech features; motion_latents (B, M, C, h, w), the previous clip's last
        frames as latents the Reference Net can read, None for the first clip; pose (B, F or 1, 3, H, W) in 0..1, body
        movement map or skeleton maps; pose_shift (B, F, 7, 2h, 2w), with skeleton maps, where the preset takes it;
        hand_clarity (B, F) in about 0..1, 0 where there is no hand to judge.
        """
        batch = len(video.reference_present)
        encoded_pose = None
        if self.pose_encoder is not None and pose is not None:
            encoded_pose = self.pose_encoder(pose.flatten(0, 1)).unflatten(0, pose.shape[:2])
        prior = pose_coverage = None
        if self.pose_follower is not None and pose_shift is not None and video.reference_latent is not None:
            prior, pose_coverage = (
                self.pose_follower(pose_shift, video.reference_latent),
                measure_pose_coverage(pose_shift),
            )
        prior_from_motion = prior_std = None
        if self.preset.motion_prior and motion_latents is not None and video.reference_latent is not None:
            frames = self.preset.frames if hand_clarity is None else hand_clarity.shape[1]
            last = motion_latents[:, -1] - video.reference_latent
            prior_from_motion, prior_std = motion_prior(
                last, self.preset.motion_prior, frames, self.preset.control_channels, prior, pose_coverage
            )
            prior = prior_from_motion if prior is None else prior + prior_from_motion
        return dataclasses.replace(
            video,
            audio=video.audio if audio is None or self.preset.image_token else self.audio_projection(audio),
            motion=None if motion_latents is None else self.motion_features(motion_latents),
            motion_present=(motion_latents is not None,) * batch,
            pose=encoded_pose,
            prior=prior,
            prior_from_motion=prior_from_motion,
            prior_std=prior_std,
            pose_coverage=pose_coverage,
            hand_clarity=hand_clarity,
        )

    @staticmethod
    def predicted_mouth_opening(conditions: Conditions) -> Tensor:
        """How far the speech opens the mouth, (B, F), about 0..1: what stage 2 teaches the first channel of the audio
        tokens (`hear`).
        """
        assert conditions.audio is not None
        return conditions.audio[..., 0].mean(-1) / HEARD

    def motion_features(self, motion_latents: Tensor) -> Features:
        """(B, M, C, h, w) -> site -> (B, M, N, D), by the Reference Net."""
        features = self.reference_net(motion_latents.flatten(0, 1))
        return {site: value.unflatten(0, motion_latents.shape[:2]) for site, value in features.items()}

    def conditions(
        self,
        *,
        reference_latent: Tensor,
        reference_pose: Tensor | None = None,
        face: Tensor | None = None,
        hands: Tensor | None = None,
        audio: Tensor | None = None,
        motion_latents: Tensor | None = None,
        pose: Tensor | None = None,
        pose_shift: Tensor | None = None,
        hand_clarity: Tensor | None = None,
    ) -> Conditions:
        """`reference_conditions` and `clip_conditions` in one, as training wants it."""
        video = self.reference_conditions(reference_latent, reference_pose, face, hands)
        return self.clip_conditions(video, audio, motion_latents, pose, pose_shift, hand_clarity)

    def enable_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Trade time for memory in both U-Nets: every layer's activations are computed again in the backward pass."""
        self.reference_net.gradient_checkpointing = enabled
        self.denoising_unet.gradient_checkpointing = enabled

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.parameters()).dtype

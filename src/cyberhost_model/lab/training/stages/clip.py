"""Stages 1 and 2 of the paper (section 4.1): Reference Net and Denoising U-Net, on single frames and on clips.

One class for both: what distinguishes them is their configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cyberhost_model.codecs.base import for_reference_net
from cyberhost_model.config import Preset
from cyberhost_model.lab.training.clips import ClipFolders, LatentClips, find_clips
from cyberhost_model.lab.training.driving import DrivingMix
from cyberhost_model.lab.training.init import build_network, freeze, preset_for_weights
from cyberhost_model.lab.training.losses import LossWeights, Prediction, combine, gradient_shares
from cyberhost_model.lab.training.registry import NETWORK_SETTINGS, StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.denoising_unet import heard
from cyberhost_model.model.network import CyberHostNetwork
from cyberhost_model.sampler.noise import hide_controls, progressive_noise, train_slow_noise
from cyberhost_model.sampler.schedule import add_noise, training_target


@dataclass
class ClipStageConfig(LossWeights):
    """Settings of stages 1 and 2, and what distinguishes the two.

    The paper's stage 1 leaves out audio; ours does not: an open mouth that no condition explains cannot be learnt from
    scratch.
    """

    name: str = "2"
    batch: int = 1
    """Clips of a batch."""
    frames: int = 12
    """Frames of a clip: 1 in stage 1, where reference and target are two frames of a video, 12 in stage 2."""
    motion: float = 0.75
    """Probability that a clip has motion frames."""
    drop_audio: float = 0.1
    """Probability of dropping the audio, for guidance."""
    drop_reference: float = 0.1
    """Probability of dropping the reference and the audio, for guidance."""
    noise_motion: float = 0.1
    """Deviation of the noise on motion frames, which stands for the errors of the clip before."""
    temporal: bool = True
    """Whether motion modules and motion frames take part; not in stage 1."""
    driving: DrivingMix = field(default_factory=DrivingMix)
    """What drives the body, a table of `DrivingMix` in a recipe."""

    def __post_init__(self) -> None:
        if isinstance(self.driving, dict):
            self.driving = DrivingMix(**self.driving)


class ClipStage:
    """Flow matching or noise prediction on encoded clips, with the losses of `losses.TERMS`."""

    def __init__(self, data: ClipFolders, network: CyberHostNetwork, config: ClipStageConfig, limit: int | None = None):
        self.data, self.module, self.config, self.limit = data, network, config, limit
        self.preset: Preset = network.preset
        self.name = f"stage {config.name}"
        network.denoising_unet.temporal = config.temporal  # untrained motion modules change nothing: skip them
        freeze_untrained(network, config)

    def dataset(self, seed: int) -> Dataset:
        """Make the batches, see `LatentClips`."""
        return LatentClips(
            self.data, self.preset, seed, self.config.batch, self.config.frames, self.limit, self.config.driving
        )

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Add noise to the clips, predict, and compute `losses.TERMS`; "loss" is what trains."""
        return combine(self.predict(batch, generator))

    def gradient_shares(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Measure each term's share of the gradient that `loss` of the same arguments has, see `losses`."""
        trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        return gradient_shares(self.predict(batch, generator), trained)

    def predict(
        self, batch: dict[str, Tensor], generator: torch.Generator, noise_level: float | None = None
    ) -> Prediction:
        """Add noise to the clips and predict.

        noise_level: one in 0..1 for all clips, and none of their conditions is dropped, as `validation` wants it; None:
        drawn, as training does.
        """
        config, network, diffusion = self.config, self.module, self.preset.diffusion
        z = batch["z"]
        rand = lambda n=z.shape[0]: torch.rand(n, generator=generator, device=z.device)  # noqa: E731
        gauss = lambda x: torch.randn(x.shape, generator=generator, device=z.device)  # noqa: E731
        given = self.encode_conditions(batch, gauss(batch["motion"]))
        told = None if given.audio is None else heard(given.audio)
        chances = (rand(), rand(), rand())
        if noise_level is not None:
            chances = (torch.zeros_like(chances[0]), torch.ones_like(chances[1]), torch.ones_like(chances[2]))
        given = self.drop_conditions(given, batch, chances[0], chances[1])
        z = given.to_residual(z)
        noise = progressive_noise(gauss(z), diffusion.noise_correlation, self.preset.control_channels)
        time = sample_time(rand(), self.preset)
        if noise_level is not None:
            time = torch.full_like(time, noise_level)
        if diffusion.slow_noise:
            share, continues = diffusion.slow_noise * batch["moving"], torch.tensor(given.continues or [False] * len(z))
            noise = train_slow_noise(noise, share, self.preset.flow_channels, continues.to(z.device), generator)
        noisy, target = add_noise(diffusion, z, noise, time * 1000), training_target(diffusion, z, noise, time * 1000)
        if diffusion.hidden_controls:
            noisy = hide_controls(noisy, noise, self.preset.control_channels)
        # Section 3.3: the key point loss counts with a probability of 50% where t < 500.
        supervised = (chances[2] < 0.5) & (config.regions and self.preset.ablations.local_enhancement)
        output = network(noisy, time * 1000, given, heatmaps=bool(supervised.any()))
        return Prediction(config, self.preset, batch, time, output, target, told, supervised)

    def encode_conditions(self, batch: dict[str, Tensor], noise: Tensor) -> Conditions:
        """Encode all conditions of a batch.

        noise: of deviation 1, like the motion frames (B, M, C, h, w); scaled, it stands for their errors.
        """
        config, r = self.config, batch["r"]
        past = batch["motion"] + config.noise_motion * noise
        return self.module.conditions(
            reference_latent=r,
            reference_pose=batch["skeleton"],
            face=batch["face"],
            hands=batch["hands"],
            audio=batch["audio"],
            motion_latents=for_reference_net(self.preset.codec, past, r) if config.temporal else None,
            pose=batch["pose"],
            pose_shift=batch["pose_shift"],
            hand_clarity=batch["clarity"],
            lip_gap=batch["lip_gap"],
            shut=batch["shut"],
        )

    def drop_conditions(
        self, given: Conditions, batch: dict[str, Tensor], motion_draw: Tensor, guidance_draw: Tensor
    ) -> Conditions:
        """Drop motion frames, audio and reference with the probabilities of the configuration.

        motion_draw, guidance_draw: (B,), uniform in 0..1.
        """
        config = self.config
        given = given.without_motion((motion_draw > config.motion).tolist())
        no_audio = batch["deaf"] | (guidance_draw < config.drop_audio + config.drop_reference)
        given = given.without_audio(no_audio.tolist())
        given = given.without_reference((guidance_draw < config.drop_reference).tolist())
        if batch["head"].all():  # a talking head (A2V-H): no hand codebook attention
            given = replace(given, regions=("face",))
        return given


def freeze_untrained(network: CyberHostNetwork, config: ClipStageConfig) -> None:
    """Freeze the pose follower, which has a stage of its own, and without `config.temporal` the motion modules.

    What the network itself froze stays frozen.
    """
    for name, parameter in network.named_parameters():
        if (not config.temporal and "motion_modules" in name) or name.startswith("pose_to_latent"):
            parameter.requires_grad_(False)


def sample_time(u: Tensor, preset: Preset) -> Tensor:
    """Map uniform u (B,) in 0..1 to the noise level of each clip, 0..1.

    Flow training favours the noisy half, where the conditions decide: a shifted logit-normal distribution.
    """
    if preset.diffusion.prediction not in ("flow", "x0"):
        return u.clamp(1e-3, 0.999)
    return torch.sigmoid(torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4)) * 1.2 + 0.4)


def initial_network(inputs: StageInputs, preset: Preset) -> CyberHostNetwork:
    """Build the network of a stage, with the settings that belong to the weights it will have.

    Raises TrainingError where the stage's clips do not fit the preset, before a large network is built.
    """
    find_clips(inputs.clips, preset, inputs.config.frames)
    return build_network(preset_for_weights(preset, inputs.weights) if inputs.weights else preset, inputs.seed)


@register_stage("2", ClipStageConfig, sources=("clips",), network=NETWORK_SETTINGS)
@register_stage("1", ClipStageConfig, sources=("clips",), network=NETWORK_SETTINGS)
def build(inputs: StageInputs) -> Stage:
    """Build stage 1 or 2."""
    config = replace(inputs.config, name=inputs.name)
    stage = ClipStage(inputs.clips, initial_network(inputs, inputs.preset), config)
    freeze(stage.module, inputs.frozen)
    return stage

"""Stages 1 and 2 of the paper (section 4.1): the Reference Net and the Denoising U-Net, on single frames and on clips.

A stage is configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from cyberhost_model.codecs.base import for_reference_net
from cyberhost_model.config import Preset
from cyberhost_model.lab.training.clips import LatentClips
from cyberhost_model.lab.training.driving import DrivingMix
from cyberhost_model.model.conditions import Conditions
from cyberhost_model.model.network import OPEN_MOUTH, CyberHostNetwork
from cyberhost_model.sampler.noise import progressive_noise
from cyberhost_model.sampler.schedule import add_noise, training_target


@dataclass
class ClipStageConfig:
    """What distinguishes the two stages.

    frames: 1 in stage 1 (reference and target are two frames of a video), the preset's 12 in stage 2. temporal: whether
    motion modules and motion frames take part; stage 1 leaves them out. Unlike the paper's, our stage 1 hears: a mouth
    that nobody explains cannot be learnt from scratch. alpha: extra weight of face and hands (eq. 6). lips: the same
    for the lips alone, a few cells of a small picture. hear: weight of an auxiliary loss that lets the first channel of
    the audio tokens be the mouth's opening, so that speech means something to the U-Net from the first hundred steps
    on. motion: chance that a clip has motion frames. drop_*: chances of dropping a condition, for guidance.
    noise_motion: deviation of the noise on motion frames, which stands for the errors of the clip before. regions:
    whether masks and heat maps of the regions are supervised. driving: what drives the body (a table of `DrivingMix`).
    """

    name: str = "2"
    batch: int = 1
    frames: int = 12
    alpha: float = 1.0
    lips: float = 0.0
    hear: float = 0.0
    motion: float = 0.75
    drop_audio: float = 0.1
    drop_reference: float = 0.1
    noise_motion: float = 0.1
    temporal: bool = True
    regions: bool = True
    driving: DrivingMix = field(default_factory=DrivingMix)

    def __post_init__(self) -> None:
        if isinstance(self.driving, dict):
            self.driving = DrivingMix(**self.driving)


class ClipStage:
    """Flow matching or noise prediction on coded clips, with local enhancement supervision (eq. 6) and masks taught by
    the boxes.
    """

    def __init__(self, data: str | Path, network: CyberHostNetwork, config: ClipStageConfig, limit: int | None = None):
        self.data, self.module, self.config, self.limit = data, network, config, limit
        self.preset: Preset = network.preset
        self.name = f"stage {config.name}"
        network.denoising_unet.temporal = config.temporal  # untrained motion modules change nothing: skip them
        leave_out(network, config)

    def dataset(self, seed: int) -> Dataset:
        return LatentClips(
            self.data, self.preset, seed, self.config.batch, self.config.frames, self.limit, self.config.driving
        )

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        config, network, z = self.config, self.module, batch["z"]
        rand = lambda n=z.shape[0]: torch.rand(n, generator=generator, device=z.device)  # noqa: E731
        gauss = lambda x: torch.randn(x.shape, generator=generator, device=z.device)  # noqa: E731
        given = self.conditions(batch, gauss(batch["motion"]))
        l_hear = (
            z.new_zeros(())
            if given.audio is None
            else OPEN_MOUTH**2 * (network.predicted_mouth_opening(given) - batch["opening"]).pow(2).mean()
        )
        chances = (rand(), rand(), rand())
        given = self.dropped(given, batch, chances[0], chances[1])
        z = given.to_residual(z)
        diffusion = self.preset.diffusion
        noise = progressive_noise(gauss(z), diffusion.noise_correlation, self.preset.control_channels)
        t = noise_level(rand(), self.preset)
        noisy, target = add_noise(diffusion, z, noise, t * 1000), training_target(diffusion, z, noise, t * 1000)
        keypoints = bool(chances[2][0] < 0.5) and config.regions
        out = network(noisy, t * 1000, given, heatmaps=keypoints and self.preset.ablations.local_enhancement)
        critical = batch["masks"].amax(2, keepdim=True)  # face or hands: M of eq. 6
        error = (out.prediction - target).pow(2)
        weight = 1 + config.alpha * critical if self.preset.ablations.local_enhancement else torch.ones_like(critical)
        if diffusion.prediction == "x0":  # as fine near the end as the last steps must be
            weight = weight / (t * t + 0.1).view(-1, 1, 1, 1, 1)
        # The lips are explained by the speech alone where the noise is strongest, so they weigh the same at every t.
        weight = weight + config.lips * even_out(batch["lips"])[:, :, None]
        l_main = (weight * error).mean()
        l_mask = z.new_zeros(())
        for item in out.region_masks if config.regions else ():
            truth = F.adaptive_max_pool2d(
                batch["masks"][:, :, 0 if item.region == "face" else 1].float(), item.values.shape[-2:]
            )
            l_mask = l_mask + F.binary_cross_entropy_with_logits(item.values[:, :, 0], truth) / max(
                len(out.region_masks), 1
            )
        l_key = z.new_zeros(())
        early = (t < 0.5).float().view(-1, 1, 1, 1, 1)  # section 3.3: only where t < 500
        maps = [item for item in out.heatmaps if item.region == "hands"]
        for item in maps:
            truth = F.adaptive_max_pool2d(batch["heatmaps"].flatten(0, 1), item.values.shape[-2:]).unflatten(
                0, z.shape[:2]
            )
            l_key = l_key + ((item.values - truth).pow(2) * early).mean() / len(maps)
        with torch.no_grad():
            lips = batch["lips"][:, :, None]
            l_lips = (lips * error).sum() / (lips.sum() * z.shape[2]).clamp_min(1)
        return {
            "loss": l_main + 0.05 * l_mask + l_key + config.hear * l_hear,
            "main": l_main,
            "lips": l_lips,
            "mask": l_mask,
            "keypoints": l_key,
            "hear": l_hear,
        }

    def conditions(self, batch: dict[str, Tensor], noise: Tensor) -> Conditions:
        """All that a batch tells the network; `noise`, of deviation 1, is what stands for the errors of the motion
        frames.
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
        )

    def dropped(self, given: Conditions, batch: dict[str, Tensor], moving: Tensor, telling: Tensor) -> Conditions:
        """The same without what `config` says is to be missing now and then; moving and telling (B,) are uniform in
        0..1.
        """
        config = self.config
        given = given.without_motion((moving > config.motion).tolist())
        given = given.without_audio((batch["deaf"] | (telling < config.drop_audio + config.drop_reference)).tolist())
        given = given.without_reference((telling < config.drop_reference).tolist())
        if batch["head"].all():  # a talking head (A2V-H): no hand codebook attention
            given = replace(given, regions=("face",))
        return given


def leave_out(network: CyberHostNetwork, config: ClipStageConfig) -> None:
    """Freeze what a stage does not train; what the network itself froze stays so."""
    for name, parameter in network.named_parameters():
        if (not config.temporal and "motion_modules" in name) or name.startswith(
            "pose_to_latent"
        ):  # which has a stage of its own
            parameter.requires_grad_(False)


def even_out(lips: Tensor) -> Tensor:
    """Masks (B, F, h, w) of the lips as weights: a mouth of three cells in a half-body picture counts as much as one
    of twelve in a portrait.
    """
    area = lips.sum((2, 3), keepdim=True)
    return lips * (12 / area.clamp_min(1)).clamp(1, 4)


def noise_level(u: Tensor, preset: Preset) -> Tensor:
    """Uniform u in 0..1 -> time in 0..1; flow training favours the noisy half, where the conditions decide (logistic
    of a normal, shifted).
    """
    if preset.diffusion.prediction not in ("flow", "x0"):
        return u.clamp(1e-3, 0.999)
    return torch.sigmoid(torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4)) * 1.2 + 0.4)


def build_network(preset: Preset, seed: int = 0) -> nn.Module:
    """A freshly initialised network; the same for the same seed."""
    torch.manual_seed(seed)
    return CyberHostNetwork(preset)

"""Stage codec: train the ReferenceCodec on photo puppets in random poses, whose optical flow is known exactly."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from cyberhost_model.codecs.close_up import EYES, MOUTH, SIDE, Part
from cyberhost_model.codecs.reference import DecodedMaps, ReferenceCodec, compose, fit_components
from cyberhost_model.lab.synthetic.framing import random_colour, random_framing
from cyberhost_model.lab.synthetic.performance import random_pose
from cyberhost_model.lab.synthetic.puppet import Pose, Puppet
from cyberhost_model.lab.synthetic.sources import People
from cyberhost_model.lab.synthetic.stills import Still, crop_still
from cyberhost_model.lab.training.clips import half_size, to_signed
from cyberhost_model.lab.training.registry import StageInputs, register_stage
from cyberhost_model.lab.training.stage import Stage
from cyberhost_model.perception.face_controls import face_control_maps, face_controls
from cyberhost_model.perception.keypoints import VISIBLE

# (W, H). Smaller than the pictures the codec is for: it is convolutional, and many pictures teach more than large ones.
SIZES = ((192, 192), (192, 256), (256, 192), (256, 256))
PARTS = (MOUTH, EYES)
# Largest deviation of the simulated error of a denoiser, of components of unit deviation.
BLOCK_NOISE, CONTROL_NOISE = 0.5, 0.15
# Weights of the losses in their sum.
LOSS_WEIGHTS = {"picture": 2.0, "colour": 0.3, "flow": 0.3, "seen": 0.3, "r": 0.5, "marks": 0.5}


def region_maps(keypoints: Any, size: tuple[int, int]) -> np.ndarray:
    """Fill the outlines of face, lips and eyes, and hands, uint8 (3, H, W), 0 or 255, at `size` (W, H).

    They weigh the loss and are labels for `r`.
    """
    w, h = size
    maps = np.zeros((3, h, w), np.uint8)
    px = lambda p: np.round(p * [w, h]).astype(np.int32)  # noqa: E731
    cv2.fillConvexPoly(maps[0], cv2.convexHull(px(keypoints.face)), 255)
    for part in (keypoints.face[48:], keypoints.face[36:42], keypoints.face[42:48]):
        cv2.fillConvexPoly(maps[1], cv2.convexHull(px(part)), 255)
    for side in (0, 1):
        if keypoints.hands_score[side].max() > VISIBLE:
            cv2.fillConvexPoly(maps[2], cv2.convexHull(px(keypoints.hands[side])), 255)
    return maps


class CodecFrames(Dataset):
    """Batches of `count` references and `poses` frames of each, of one size; item i depends on (seed, i) alone.

    unsure: share of frames whose latents come from another picture, in which mouth and lids moved part of the way or
    otherwise, while the control channels are true. A denoiser that is unsure moves less than it should, and so the
    decoder learns to trust the controls. close, eyes: shares of items that are close-ups (`codecs.close_up`), in which
    the mouth or the lids alone move; the key "close" holds the place in `PARTS` of what they show, -1 for a frame.
    """

    def __init__(
        self,
        people: People,
        seed: int,
        count: int = 4,
        poses: int = 2,
        unsure: float = 0.6,
        close: float = 0.0,
        eyes: float = 0.0,
    ):
        self.people, self.seed, self.count, self.poses = people, seed, count, poses
        self.unsure, self.shares = unsure, (close, eyes)

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, i])
        size = SIZES[0] if rng.random() < 0.6 else SIZES[rng.integers(len(SIZES))]
        part = self._part(rng)
        size = size if part is None else (SIDE, SIDE)
        out: dict[str, list[np.ndarray]] = defaultdict(list)
        for _ in range(self.count):
            still = self.people.still(rng, size)
            still = random_framing(still, rng, size) if part is None else crop_close_up(still, part, rng)
            still.picture_u8 = random_colour(still.picture_u8, rng)
            puppet = Puppet(still, gape=float(rng.uniform(0.08, 0.125)))
            out["reference"].append(still.picture_u8)
            out["close"].append(np.array(-1 if part is None else PARTS.index(part)))
            out["reference_regions"].append(region_maps(still.keypoints, (size[0] // 4, size[1] // 4)))
            out["person"].append(cv2.resize(still.mask, (size[0] // 4, size[1] // 4), interpolation=cv2.INTER_AREA))
            for _ in range(self.poses):
                pose = random_pose(rng, puppet, calm=float(rng.uniform(0.2, 1)))
                pose = pose if part is None else part_only(pose, part, puppet, rng)
                for name, value in self._frame(rng, still, puppet, pose).items():
                    out[name].append(value)
        return {k: torch.from_numpy(np.stack(v)) for k, v in out.items()}

    def _part(self, rng: np.random.Generator) -> Part | None:
        """Draw the part that an item shows; None for a whole frame."""
        if not any(self.shares):
            return None
        x, (close, eyes) = rng.random(), self.shares
        return MOUTH if x < close else EYES if x < close + eyes else None

    def _frame(self, rng: np.random.Generator, still: Still, puppet: Puppet, pose: Pose) -> dict[str, np.ndarray]:
        """Render one pose with its labels."""
        w, h = still.size
        frame = puppet.render(pose)
        encoded = puppet.render(reduce_motion(pose, puppet, rng)) if rng.random() < self.unsure else frame
        return {
            "frames": frame.picture_u8,
            "flow": half_size(frame.flow),
            "seen": half_size(frame.seen),
            "coded": encoded.picture_u8,
            "coded_flow": half_size(encoded.flow),
            "coded_seen": half_size(encoded.seen),
            "controls": face_controls(still.keypoints, [frame.keypoints], (h // 16, w // 16))[0],
            # Also where parts were: the outline of a shut eye is empty.
            "regions": np.maximum(*(region_maps(k, (w // 2, h // 2)) for k in (frame.keypoints, still.keypoints))),
            "control_maps": face_control_maps(still.keypoints, (h // 16, w // 16)),
        }


def crop_close_up(still: Still, part: Part, rng: np.random.Generator) -> Still:
    """Cut out a part of the face and what is around it as `codecs.close_up` does, a little off."""
    (x, y), side = part.square(still.keypoints.face * still.size)
    middle = np.array([x, y]) + side / 2
    side *= float(np.exp(rng.normal(0, 0.08)))
    x, y = middle - side / 2 + rng.normal(0, 0.02, 2) * side
    return crop_still(still, (x, y, x + side, y + side), (SIDE, SIDE))


def part_only(pose: Pose, part: Part, puppet: Puppet, rng: np.random.Generator) -> Pose:
    """Keep the mouth of a pose and nothing else, or shut the lids of a still, often altogether."""
    if part is EYES:
        return Pose(opening=puppet.face.rest_opening, blink=min(float(rng.uniform(0, 1.4)), 1.0))
    return Pose(opening=pose.opening, width=pose.width, closure=pose.closure)


def reduce_motion(pose: Pose, puppet: Puppet, rng: np.random.Generator) -> Pose:
    """Move lips and lids part of the way from the still's state to `pose`; in half of the cases to any other mouth."""
    if rng.random() < 0.5:
        return replace(
            pose,
            opening=float(rng.uniform(0, 1)),
            width=float(rng.uniform(-1, 1)),
            blink=float(rng.uniform(0, 1)) * pose.blink,
            closure=0.0,
        )
    rest, share = puppet.face.rest_opening, float(rng.uniform(0, 1))
    return replace(
        pose,
        opening=rest + share * (pose.opening - rest),
        width=share * pose.width,
        blink=float(rng.uniform(0, 1)) * pose.blink,
        closure=share * pose.closure,
    )


def component_samples(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn a batch into the samples that `fit_components` takes; face, lips and hands weigh more."""
    regions = batch["regions"].float() / 255
    return {
        "frames": to_signed(batch["frames"]),
        "flow": batch["flow"].permute(0, 3, 1, 2),
        "visible": batch["seen"][:, None],
        "weight": 1 + 3 * regions[:, :1] + 10 * regions[:, 1:2] + 4 * regions[:, 2:],
    }


def close_up_latents(codec: ReferenceCodec, batch: dict[str, Tensor]) -> Tensor:
    """Make the latents from which `ReferenceCodec.decode` draws a close-up.

    The controls of the part where the still has it, and zeros elsewhere.
    """
    controls = PARTS[int(batch["close"][0])].controls
    values = batch["controls"] / codec.z_std[codec.config.blocks :, None, None]
    return codec.control_latent(values[:, controls], batch["control_maps"], controls)


@dataclass
class CodecStageConfig:
    """Settings of stage codec."""

    drawn: float = 0.15
    """Share of drawn people; the rest are stills."""
    decoder_only: bool = False
    """Freeze `r` and what it is made from, so that a denoiser trained on them stays valid."""
    close: float = 0.0
    """Share of close-ups of the mouth."""
    eyes: float = 0.0
    """Share of close-ups of the eyes."""


class CodecStage:
    """Reconstruction of frames, and supervision of colour, flow and visibility with the puppets' exact labels.

    `r` also has to reproduce the reference at a quarter of its size and to mark its regions.
    """

    name = "codec"

    def __init__(self, people: People, codec: ReferenceCodec | None = None, config: CodecStageConfig | None = None):
        """Prepare the codec; a new one gets its components from a few batches."""
        self.people, self.config = people, config or CodecStageConfig()
        if codec is None:
            codec = ReferenceCodec()
            frames = CodecFrames(people, seed=1, count=4, poses=4)
            fit_components(codec, [component_samples(frames[i]) for i in range(24)])
        n = codec.config.blocks
        self._noise = torch.cat(
            [torch.full((n,), BLOCK_NOISE), torch.full((codec.config.control_channels,), CONTROL_NOISE)]
        )[:, None, None]
        self.module = nn.ModuleDict(
            {
                "codec": codec,
                "teach_r": nn.Sequential(
                    nn.Conv2d(n, 128, 3, padding=1), nn.SiLU(), nn.Conv2d(128, 7 * 16, 1), nn.PixelShuffle(4)
                ),
            }
        )
        self.module.to(memory_format=torch.channels_last)  # 1.5 times faster on a CPU
        for part in (codec.appearance, codec.to_r):
            part.requires_grad_(not self.config.decoder_only)

    def dataset(self, seed: int) -> Dataset:
        """Make the batches, see `CodecFrames`."""
        return CodecFrames(self.people, seed, close=self.config.close, eyes=self.config.eyes)

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the losses of `LOSS_WEIGHTS`, and as "loss" their weighted sum."""
        codec: ReferenceCodec = self.module["codec"]  # type: ignore[assignment]
        reference, frames = to_signed(batch["reference"]), to_signed(batch["frames"])
        each = len(frames) // len(reference)
        pyramid = codec.appearance(reference)
        with torch.no_grad():
            close = bool((batch["close"] >= 0).all())
            z = close_up_latents(codec, batch) if close else self._noisy_latents(codec, batch, generator)
        decoded = codec.decode_maps(z, tuple(p.repeat_interleave(each, 0) for p in pyramid))  # type: ignore[arg-type]
        losses = self._frame_losses(batch, decoded, compose(decoded, reference.repeat_interleave(each, 0)), frames)
        if not self.config.decoder_only:
            losses.update(self._reference_losses(batch, reference, codec.to_r(pyramid[2])))
        return {"loss": sum(LOSS_WEIGHTS[name] * value for name, value in losses.items()), **losses}  # type: ignore[dict-item]

    def _frame_losses(
        self, batch: dict[str, Tensor], decoded: DecodedMaps, picture: Tensor, frames: Tensor
    ) -> dict[str, Tensor]:
        """Compare what was decoded with the frames (B, 3, H, W) and the labels of the puppets."""
        seen, true_flow = batch["seen"][:, None], batch["flow"].permute(0, 3, 1, 2)
        regions = batch["regions"].float() / 255
        weight = 1 + 2 * regions[:, :1] + 20 * regions[:, 1:2] + 3 * regions[:, 2:]
        full = F.interpolate(weight, scale_factor=2.0)
        hidden = F.interpolate(1 - seen, scale_factor=2.0)
        distance = ((decoded.flow - true_flow).pow(2).sum(1, keepdim=True) + 0.01).sqrt()
        return {
            "picture": ((picture - frames).abs() * full).mean(),
            "colour": (((decoded.colour - frames).abs() * full * (hidden + 0.03)).mean() / 0.1).clamp_max(20),
            "flow": (distance * weight * seen).mean(),
            "seen": (F.binary_cross_entropy_with_logits(decoded.visible, seen, reduction="none") * weight).mean(),
        }

    def _noisy_latents(self, codec: ReferenceCodec, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """Encode frames and add the errors of a denoiser, (B, C, h, w)."""
        z = codec.encode(
            to_signed(batch["coded"]),
            batch["coded_flow"].permute(0, 3, 1, 2),
            batch["coded_seen"][:, None],
            batch["controls"],
        )
        noise = torch.randn(z.shape, generator=generator, device=z.device) * self._noise.to(z.device)
        return z + noise * torch.rand((len(z), 1, 1, 1), generator=generator, device=z.device)

    def _reference_losses(self, batch: dict[str, Tensor], reference: Tensor, r: Tensor) -> dict[str, Tensor]:
        """Predict the small reference and its regions from `r`, and update the statistics that normalise `r`."""
        codec: ReferenceCodec = self.module["codec"]  # type: ignore[assignment]
        with torch.no_grad():
            codec.r_mean.lerp_(r.float().mean((0, 2, 3)), 0.02)
            codec.r_std.lerp_(r.float().std((0, 2, 3)), 0.02)
        predicted = self.module["teach_r"](r)
        marks = torch.cat([batch["person"][:, None], batch["reference_regions"].float() / 255], 1)
        pos = torch.tensor([1.0, 2.0, 8.0, 4.0], device=marks.device)[:, None, None]
        return {
            "r": (predicted[:, :3] - F.avg_pool2d(reference, 4)).abs().mean(),
            "marks": F.binary_cross_entropy_with_logits(predicted[:, 3:], marks, pos_weight=pos),
        }


@register_stage("codec", CodecStageConfig, sources=("stills",))
def build(inputs: StageInputs) -> Stage:
    """Build stage codec. A codec whose weights will be loaded needs no components of its own."""
    config: CodecStageConfig = inputs.config
    people = People(inputs.sources.stills, drawn=config.drawn)
    return CodecStage(people, ReferenceCodec() if inputs.weights else None, config)

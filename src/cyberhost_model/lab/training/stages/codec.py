"""Trains the ReferenceCodec on puppets in random poses, with the generator's exact flow as a second teacher."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from cyberhost_model.codecs.close_up import SIDE, SIDE_IN_FACES
from cyberhost_model.codecs.reference import ReferenceCodec, compose, fit_components
from cyberhost_model.lab.synthetic.framing import random_framing, random_look
from cyberhost_model.lab.synthetic.people import People
from cyberhost_model.lab.synthetic.performance import random_pose
from cyberhost_model.lab.synthetic.puppet import Pose, Puppet
from cyberhost_model.lab.synthetic.stills import Still, crop_still
from cyberhost_model.lab.training.clips import half_size
from cyberhost_model.perception.face_controls import MOUTH, face_control_maps, face_controls
from cyberhost_model.perception.geometry import face_height

# Smaller than the pictures it will code: the codec is convolutional, and more pictures teach more than larger ones.
SIZES = ((192, 192), (192, 256), (256, 192), (256, 256))
BLOCK_NOISE, CONTROL_NOISE = 0.5, 0.15  # most a denoiser's error on a component of unit deviation is taken to be


def region_maps(keypoints: Any, size: tuple[int, int]) -> np.ndarray:
    """Filled face, lips and hands at `size` (W, H): uint8 (3, H, W), 0 or 255.

    They weigh the loss and teach `r` where these parts are.
    """
    w, h = size
    maps = np.zeros((3, h, w), np.uint8)
    px = lambda p: np.round(p * [w, h]).astype(np.int32)  # noqa: E731
    cv2.fillConvexPoly(maps[0], cv2.convexHull(px(keypoints.face)), 255)
    cv2.fillConvexPoly(maps[1], cv2.convexHull(px(keypoints.face[48:])), 255)
    for side in (0, 1):
        if keypoints.hands_score[side].max() > 0.3:
            cv2.fillConvexPoly(maps[2], cv2.convexHull(px(keypoints.hands[side])), 255)
    return maps


class CodecFrames(Dataset):
    """Item i: `count` references and `poses` frames of each, of one size.

    `lazy` of the frames are coded with a mouth and lids that moved only part of the way or otherwise, while their
    controls tell the truth: a denoiser that is unsure says less than it should, and the decoder has to learn to trust
    the controls. `close` of the items are close-ups (`model.close_up`), in which the mouth alone moves; "close" says
    so.
    """

    def __init__(
        self, people: People, seed: int, count: int = 4, poses: int = 2, lazy: float = 0.6, close: float = 0.0
    ):
        self.people, self.seed, self.count, self.poses, self.lazy, self.close = people, seed, count, poses, lazy, close

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, i])
        size = SIZES[0] if rng.random() < 0.6 else SIZES[rng.integers(len(SIZES))]
        close = self.close > 0 and rng.random() < self.close
        size = (SIDE, SIDE) if close else size
        out: dict[str, list[np.ndarray]] = defaultdict(list)
        for _ in range(self.count):
            still = self.people.still(rng, size)
            still = close_framing(still, rng) if close else random_framing(still, rng, size)
            still.picture_u8 = random_look(still.picture_u8, rng)
            puppet = Puppet(still, gape=float(rng.uniform(0.08, 0.125)))
            out["reference"].append(still.picture_u8)
            out["close"].append(np.array(close))
            out["reference_regions"].append(region_maps(still.keypoints, (size[0] // 4, size[1] // 4)))
            out["person"].append(cv2.resize(still.mask, (size[0] // 4, size[1] // 4), interpolation=cv2.INTER_AREA))
            for _ in range(self.poses):
                pose = random_pose(rng, puppet, calm=float(rng.uniform(0.2, 1)))
                pose = Pose(opening=pose.opening, width=pose.width) if close else pose
                frame = puppet.render(pose)
                coded = puppet.render(lazier(pose, puppet, rng)) if rng.random() < self.lazy else frame
                out["frames"].append(frame.picture_u8)
                out["flow"].append(half_size(frame.flow))
                out["seen"].append(half_size(frame.seen))
                out["coded"].append(coded.picture_u8)
                out["coded_flow"].append(half_size(coded.flow))
                out["coded_seen"].append(half_size(coded.seen))
                out["controls"].append(
                    face_controls(still.keypoints, [frame.keypoints], (size[1] // 16, size[0] // 16))[0]
                )
                out["regions"].append(region_maps(frame.keypoints, (size[0] // 2, size[1] // 2)))
                out["control_maps"].append(face_control_maps(still.keypoints, (size[1] // 16, size[0] // 16)))
        return {k: torch.from_numpy(np.stack(v)) for k, v in out.items()}


def close_framing(still: Still, rng: np.random.Generator) -> Still:
    """The mouth and the face around it as `runtime.prepare.mouth_close_up` cuts them out, a little off."""
    face = still.keypoints.face * still.size
    side = SIDE_IN_FACES * face_height(face) * float(np.exp(rng.normal(0, 0.08)))
    x, y = face[MOUTH].mean(0) - side / 2 + rng.normal(0, 0.02, 2) * side
    return crop_still(still, (x, y, x + side, y + side), (SIDE, SIDE))


def lazier(pose: Pose, puppet: Puppet, rng: np.random.Generator) -> Pose:
    """The same pose with lips and lids somewhere between the still's own and `pose`'s, or, as often, with any other
    mouth.
    """
    if rng.random() < 0.5:
        return replace(
            pose,
            opening=float(rng.uniform(0, 1)),
            width=float(rng.uniform(-1, 1)),
            blink=float(rng.uniform(0, 1)) * pose.blink,
        )
    rest, share = puppet.face.rest_opening, float(rng.uniform(0, 1))
    return replace(
        pose,
        opening=rest + share * (pose.opening - rest),
        width=share * pose.width,
        blink=float(rng.uniform(0, 1)) * pose.blink,
    )


def _block_samples(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    regions = batch["regions"].float() / 255
    frames = batch["frames"].permute(0, 3, 1, 2).float() / 127.5 - 1
    return {
        "frames": frames,
        "flow": batch["flow"].permute(0, 3, 1, 2),
        "visible": batch["seen"][:, None],
        "weight": 1 + 3 * regions[:, :1] + 10 * regions[:, 1:2] + 4 * regions[:, 2:],
    }


def _pictures(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2).float() / 127.5 - 1


def _of_close_up(codec: ReferenceCodec, batch: dict[str, Tensor]) -> Tensor:
    """What `ReferenceCodec.decode` says of a close-up: the mouth's controls where the still's mouth is, and nothing
    else.
    """
    return codec.mouth_latent(
        batch["controls"][:, :2] / codec.z_std[codec.config.blocks :][:2, None, None], batch["control_maps"]
    )


class CodecStage:
    """Loss: colour + flow + mask; `r` also has to redraw the reference at a quarter of its size and to mark its
    regions.
    """

    name = "codec"

    def __init__(
        self, people: People, codec: ReferenceCodec | None = None, decoder_only: bool = False, close: float = 0.0
    ):
        """decoder_only: `r` and what it is made from stay as they are, so that a denoiser trained on them stays valid.

        close: share of close-ups.
        """
        self.people, self.decoder_only, self.close = people, decoder_only, close
        if codec is None:
            codec = ReferenceCodec()
            frames = CodecFrames(people, seed=1, count=4, poses=4)
            fit_components(codec, [_block_samples(frames[i]) for i in range(24)])
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
            part.requires_grad_(not decoder_only)

    def dataset(self, seed: int) -> Dataset:
        return CodecFrames(self.people, seed, close=self.close)

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        codec: ReferenceCodec = self.module["codec"]  # type: ignore[assignment]
        reference, frames = _pictures(batch["reference"]), _pictures(batch["frames"])
        each = len(frames) // len(reference)
        pyramid = codec.appearance(reference)
        pair = reference.repeat_interleave(each, 0)
        seen, true_flow = batch["seen"][:, None], batch["flow"].permute(0, 3, 1, 2)
        with torch.no_grad():
            z = _of_close_up(codec, batch) if batch["close"].all() else self._inexact(codec, batch, generator)
        decoded = codec.decode_maps(z, tuple(p.repeat_interleave(each, 0) for p in pyramid))  # type: ignore[arg-type]
        regions = batch["regions"].float() / 255
        weight = 1 + 2 * regions[:, :1] + 20 * regions[:, 1:2] + 3 * regions[:, 2:]
        full = F.interpolate(weight, scale_factor=2.0)
        picture = compose(decoded, pair)
        l_picture = ((picture - frames).abs() * full).mean()
        new = F.interpolate(1 - seen, scale_factor=2.0)
        l_colour = (((decoded.colour - frames).abs() * full * (new + 0.03)).mean() / 0.1).clamp_max(20)
        l_flow = (((decoded.flow - true_flow).pow(2).sum(1, keepdim=True) + 0.01).sqrt() * weight * seen).mean()
        l_seen = (F.binary_cross_entropy_with_logits(decoded.visible, seen, reduction="none") * weight).mean()
        loss = 2 * l_picture + 0.3 * l_colour + 0.3 * l_flow + 0.3 * l_seen
        losses = {"loss": loss, "picture": l_picture, "colour": l_colour, "flow": l_flow, "seen": l_seen}
        if not self.decoder_only:
            losses.update(self._reference_losses(batch, reference, codec.to_r(pyramid[2])))
            losses["loss"] = loss + 0.5 * losses["r"] + 0.5 * losses["marks"]
        return losses

    def _inexact(self, codec: ReferenceCodec, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """Latents (B, C, h, w) with what a denoiser gets wrong."""
        z = codec.encode(
            _pictures(batch["coded"]),
            batch["coded_flow"].permute(0, 3, 1, 2),
            batch["coded_seen"][:, None],
            batch["controls"],
        )
        noise = torch.randn(z.shape, generator=generator, device=z.device) * self._noise.to(z.device)
        return z + noise * torch.rand((len(z), 1, 1, 1), generator=generator, device=z.device)

    def _reference_losses(self, batch: dict[str, Tensor], reference: Tensor, r: Tensor) -> dict[str, Tensor]:
        codec: ReferenceCodec = self.module["codec"]  # type: ignore[assignment]
        with torch.no_grad():  # what `encode_reference` divides by, followed along the way
            codec.r_mean.lerp_(r.float().mean((0, 2, 3)), 0.02)
            codec.r_std.lerp_(r.float().std((0, 2, 3)), 0.02)
        taught = self.module["teach_r"](r)
        marks = torch.cat([batch["person"][:, None], batch["reference_regions"].float() / 255], 1)
        pos = torch.tensor([1.0, 2.0, 8.0, 4.0], device=marks.device)[:, None, None]
        return {
            "r": (taught[:, :3] - F.avg_pool2d(reference, 4)).abs().mean(),
            "marks": F.binary_cross_entropy_with_logits(taught[:, 3:], marks, pos_weight=pos),
        }

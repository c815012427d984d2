"""What drives the body, clip by clip: the body movement map alone, or key points over time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cyberhost_model.conditions.movement import BodyMovementMap
from cyberhost_model.conditions.pose_maps import PARTS, POSE_MAPS
from cyberhost_model.conditions.pose_shift import pose_shift
from cyberhost_model.config import Preset
from cyberhost_model.perception.face_controls import face_control_maps
from cyberhost_model.runtime.prepare import Reference, to_maps

if TYPE_CHECKING:
    from cyberhost_model.driving.sequence import PoseSequence


@dataclass(frozen=True)
class PoseCondition:
    """What drives the body in one clip."""

    pose: Tensor
    """(1, frames or 1, 3, H, W) in 0..1: the body movement map, or skeleton maps."""
    shift: Tensor | None
    """(1, frames, 7, 2h, 2w): the pose shift, where key points drive and the preset takes it."""
    control_maps: Tensor
    """(1, frames or 1, controls, h, w): where mouth and eyes are (`face_control_maps`)."""
    undriven: bool = False
    """No key point says where anything is: speech alone moves the body."""
    lips: Tensor | None = None
    """(1, frames), bool: key points say how far the lips are apart; None: of no frame."""


PoseSource = Callable[[int, int], PoseCondition]
"""(first frame, frames) -> what drives a clip."""


def movement_source(reference: Reference, amount: float) -> PoseSource:
    """Let speech move the body inside a body movement map (section 3.3) of `amount`: 0 in place .. 1 lively."""
    canvas = reference.canvas
    box = BodyMovementMap.fixed(reference.keypoints, amount, canvas.width / canvas.height)
    pose = to_maps(box.render(canvas.size), reference.control_maps)[:, None]
    condition = PoseCondition(pose, None, reference.control_maps[:, None], undriven=True)
    return lambda first, frames: condition


def skeleton_source(
    preset: Preset, reference: Reference, poses: PoseSequence, parts: tuple[str, ...] = PARTS
) -> PoseSource:
    """Let key points, in 0..1 of the picture, move the body: skeleton maps as the preset draws them (section 4.2).

    parts: those of the body that drive. After its end the sequence stands at its last frame.
    """
    like = reference.control_maps  # not the network, which may wait on the CPU while the codec computes
    draw, latent_size = POSE_MAPS[preset.pose_maps], tuple(reference.latent.shape[-2:])

    def source(first: int, frames: int) -> PoseCondition:
        points = [reference.on_canvas(poses.frame(min(i, len(poses) - 1))) for i in range(first, first + frames)]
        maps = np.stack([draw(k, reference.canvas.size, parts=parts) for k in points])
        shift = None
        if preset.pose_shift:
            shift = to_maps(pose_shift(reference.keypoints, points, latent_size, parts), like)
        control_maps, lips = like[:, None], None
        if "face" in parts:
            moved = to_maps(np.stack([face_control_maps(k, latent_size) for k in points]), like)
            control_maps = torch.where(moved.amax((2, 3, 4), keepdim=True) > 0, moved, control_maps)
            if shift is not None:  # what the denoiser reads, frame by frame
                lips = shift[:, :, -1].amax((2, 3)) > 0
        return PoseCondition(to_maps(maps, like), shift, control_maps, lips=lips)

    return source

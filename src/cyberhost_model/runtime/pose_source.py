"""Pose conditions clip by clip: a fixed body movement map, or skeleton maps of key points over time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cyberhost_model.codecs.arm_layers import ELBOW, ArmLayers, arm_points, make_arm_layers
from cyberhost_model.conditions.blink import blinks_of
from cyberhost_model.conditions.face_region import face_map
from cyberhost_model.conditions.movement import BodyMovementMap
from cyberhost_model.conditions.pose_maps import PARTS, POSE_MAPS
from cyberhost_model.conditions.pose_shift import pose_shift
from cyberhost_model.config import Preset
from cyberhost_model.perception.face_controls import face_control_maps
from cyberhost_model.perception.hands import WRISTS
from cyberhost_model.perception.keypoints import SURE, VISIBLE, Keypoints
from cyberhost_model.runtime.prepare import Reference, to_maps

if TYPE_CHECKING:
    from cyberhost_model.driving.sequence import PoseSequence


@dataclass(frozen=True)
class PoseCondition:
    """Pose conditions of one clip."""

    pose: Tensor
    """(1, frames or 1, 3, H, W) in 0..1: body movement map, or skeleton maps."""
    shift: Tensor | None
    """(1, frames, 10, 2h, 2w): displacement of key points (`conditions.pose_shift`), where the preset takes it."""
    control_maps: Tensor
    """(1, frames or 1, controls, h, w): positions of mouth and eyes (`face_control_maps`)."""
    undriven: bool = False
    """Speech alone moves head and body; at most the hands have key points."""
    shut: Tensor | None = None
    """(1, frames) in 0..1: how far lids are shut that key points drive; None where there are none."""


PoseSource = Callable[[int, int], PoseCondition]
"""(first frame, frames) -> the pose conditions of a clip."""


def poses_of(source: PoseSource, frames: Sequence[int]) -> PoseCondition:
    """Take the pose conditions of `frames`, which need not follow each other, as one clip's."""
    runs = list(consecutive(frames))
    parts = [source(first, count) for first, count in runs]
    if len(parts) == 1:
        return parts[0]

    def joined(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in parts]
        if values[0] is None:
            return None
        for_each_frame = all(value.shape[1] == count for value, (_, count) in zip(values, runs, strict=True))
        return torch.cat(values, 1) if for_each_frame else values[0]

    joint: dict[str, Any] = {name: joined(name) for name in ("pose", "shift", "control_maps", "shut")}
    return replace(parts[0], **joint)


def consecutive(frames: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Split frames into runs that follow each other: (first frame, frames) of each."""
    first = 0
    for i in range(1, len(frames) + 1):
        if i == len(frames) or frames[i] != frames[i - 1] + 1:
            yield frames[first], i - first
            first = i


def movement_source(reference: Reference, amount: float) -> PoseSource:
    """Make a source for speech alone: a body movement map (section 3.3) of `amount`, 0 still .. 1 lively."""
    canvas = reference.canvas
    box = BodyMovementMap.fixed(reference.keypoints, amount, canvas.width / canvas.height)
    pose = to_maps(box.render(canvas.size), reference.control_maps)[:, None]
    condition = PoseCondition(pose, None, reference.control_maps[:, None], undriven=True)
    return lambda first, frames: condition


def face_source(reference: Reference) -> PoseSource:
    """Make a source for models that are told where the picture's face is, and no pose (`pose_maps` "face")."""
    pose = to_maps(face_map(reference.keypoints, reference.canvas.size), reference.control_maps)[:, None]
    condition = PoseCondition(pose, None, reference.control_maps[:, None], undriven=True)
    return lambda first, frames: condition


@dataclass(frozen=True)
class DrivenArms:
    """Arms that are laid over the frames (`codecs.arm_layers`) where key points have them."""

    layers: ArmLayers
    points: Callable[[int, int], np.ndarray]
    """(first frame, frames) -> float32 (frames, 2, 23, 3): x and y in 0..1 of the canvas, and score (`arm_points`)."""


def hands_source(
    preset: Preset,
    reference: Reference,
    make: Callable[[int, int], PoseSequence],
    layers: ArmLayers | None,
    body: PoseSource,
) -> tuple[PoseSource, DrivenArms | None]:
    """Make the source for hands whose key points are known when their clip is: make(first frame, frames).

    layers: see `cut_arms`; the arms that are laid are those of the last two clips. body: the source where all hands are
    laid, so that the network is told of none.
    """
    known: deque[tuple[int, np.ndarray]] = deque(maxlen=2)

    def source(first: int, frames: int) -> PoseCondition:
        hands = make(first, frames)
        known.append((first, np.stack([arm_points(reference.on_canvas(k)) for k in hands])))
        if all_laid(layers, hands):
            return body(first, frames)
        return skeleton_source(preset, reference, hands, ("hands",), layers)(0, frames)

    def points(first: int, frames: int) -> np.ndarray:
        begin, track = next(clip for clip in reversed(known) if clip[0] <= first)
        return track[np.arange(first - begin, first - begin + frames).clip(0, len(track) - 1)]

    return source, None if layers is None else DrivenArms(layers, points)


def cut_arms(preset: Preset, reference: Reference, moved: tuple[bool, bool] = (True, True)) -> ArmLayers | None:
    """Cut the arms that key points move out of the picture; those that touch nothing are laid over the frames.

    What a hand holds or hides would be torn. None for models that do not move the picture's own pixels, and where the
    picture shows none of these hands. moved: whether the left and the right hand are.
    """
    from cyberhost_model.driving.speech_gesture import free_hands

    if not preset.traits.relative:
        return None
    (w, h), found = reference.canvas.picture_size, reference.keypoints.hands_score.max(1) >= SURE
    free = free_hands(reference.picture_keypoints, w / h, SURE)
    shown = bool(moved[0] and found[0]), bool(moved[1] and found[1])
    return make_arm_layers(reference.large, reference.keypoints, shown, free)


def lays(layers: ArmLayers | None) -> bool:
    """Tell whether an arm of the picture is laid over the frames."""
    return any(_sides(layers))


def moved_hands(poses: PoseSequence) -> tuple[bool, bool]:
    """Tell whether key points show the left and the right hand in any frame."""
    left, right = (poses.hands_score.min(2) > VISIBLE).any(0)
    return bool(left), bool(right)


def driven_arms(reference: Reference, poses: PoseSequence, layers: ArmLayers | None) -> DrivenArms | None:
    """Lay arms (`cut_arms`) where key points in 0..1 of the picture have them; None where there are none.

    In frames that do not show a hand it is between those that do. After the end of `poses` its last frame is repeated.
    """
    from cyberhost_model.driving.sequence import fill_gaps

    if layers is None:
        return None
    track = np.stack([arm_points(reference.on_canvas(k)) for k in poses])
    for side in (0, 1):
        seen = track[:, side, :, 2] > VISIBLE
        seen[:, :ELBOW] = seen[:, :ELBOW].all(1, keepdims=True)
        track[:, side, :, :2], track[:, side, :, 2] = fill_gaps(track[:, side, :, :2], seen), seen.any(0)
    return DrivenArms(layers, lambda first, frames: track[np.arange(first, first + frames).clip(0, len(track) - 1)])


def all_laid(layers: ArmLayers | None, hands: PoseSequence) -> bool:
    """Tell whether key points show hands, and all of them are laid over the frames."""
    return lays(layers) and all(
        laid or not moved for laid, moved in zip(_sides(layers), moved_hands(hands), strict=True)
    )


def _sides(layers: ArmLayers | None) -> tuple[bool, bool]:
    return (False, False) if layers is None else layers.sides


def without_arms(keypoints: Keypoints, layers: ArmLayers | None) -> Keypoints:
    """Hide the hands and the wrists of arms that are laid over the frames."""
    hands, body = keypoints.hands_score.copy(), keypoints.body_score.copy()
    for side in (0, 1):
        if _sides(layers)[side]:
            hands[side], body[WRISTS[side]] = 0, 0
    return replace(keypoints, hands_score=hands, body_score=body)


def skeleton_source(
    preset: Preset,
    reference: Reference,
    poses: PoseSequence,
    parts: tuple[str, ...] = PARTS,
    layers: ArmLayers | None = None,
) -> PoseSource:
    """Make a source of key points in 0..1 of the picture: skeleton maps as the preset draws them (section 4.2).

    parts: those of the body that key points drive; layers: arms that are laid are not the network's. After the end of
    `poses` its last frame is repeated.
    """
    like = reference.control_maps  # not the network, which may be offloaded to the CPU while the codec computes
    shut = blinks_of(poses.face * np.array(reference.canvas.picture_size, np.float32), poses.face_score)
    draw, latent_size = POSE_MAPS[preset.pose_maps], tuple(reference.latent.shape[-2:])

    def source(first: int, frames: int) -> PoseCondition:
        places = (min(i, len(poses) - 1) for i in range(first, first + frames))
        points = [without_arms(reference.on_canvas(poses.frame(i)), layers) for i in places]
        maps = np.stack([draw(k, reference.canvas.size, parts=parts) for k in points])
        shift = None
        if preset.pose_shift:
            shift = to_maps(pose_shift(reference.keypoints, points, latent_size, parts), like)
        control_maps, lids = like[:, None], None
        if "face" in parts:
            moved = to_maps(np.stack([face_control_maps(k, latent_size) for k in points]), like)
            control_maps = torch.where(moved.amax((2, 3, 4), keepdim=True) > 0, moved, control_maps)
            lids = to_maps(shut[np.arange(first, first + frames).clip(0, len(shut) - 1)], like)
        return PoseCondition(to_maps(maps, like), shift, control_maps, parts == ("hands",), lids)

    return source

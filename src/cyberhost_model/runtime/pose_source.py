"""Pose conditions clip by clip: a fixed body movement map, or skeleton maps of key points over time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cyberhost_model.codecs.arm_layers import ELBOW, ArmLayers, arm_points
from cyberhost_model.codecs.cut_arms import make_arm_layers
from cyberhost_model.conditions.blink import blinks_of
from cyberhost_model.conditions.face_region import face_map
from cyberhost_model.conditions.movement import BodyMovementMap
from cyberhost_model.conditions.pose_maps import PARTS, POSE_MAPS
from cyberhost_model.conditions.pose_shift import pose_shift
from cyberhost_model.config import Preset
from cyberhost_model.perception.face_controls import face_control_maps
from cyberhost_model.perception.hands import WRISTS
from cyberhost_model.perception.keypoints import SURE, VISIBLE, Keypoints
from cyberhost_model.perception.matte import load_matte_net, person_matte
from cyberhost_model.runtime.prepare import Reference, to_maps, to_pixels

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


_TURN = 0.4  # radians that hands that are laid as one turn at most

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

    layers: see `cut_arms`; the arms that are laid are those of the last two clips. body: the source for models that are
    told of no hands, because these are laid.
    """
    known: deque[tuple[int, np.ndarray]] = deque(maxlen=2)

    def source(first: int, frames: int) -> PoseCondition:
        hands = make(first, frames)
        known.append((first, np.stack([arm_points(reference.on_canvas(k)) for k in hands])))
        if preset.traits.relative:
            return body(first, frames)
        return skeleton_source(preset, reference, hands, ("hands",))(0, frames)

    def points(first: int, frames: int) -> np.ndarray:
        begin, track = next(clip for clip in reversed(known) if clip[0] <= first)
        return track[np.arange(first - begin, first - begin + frames).clip(0, len(track) - 1)]

    return source, None if layers is None else DrivenArms(layers, points)


def cut_arms(preset: Preset, reference: Reference, moved: tuple[bool, bool] = (True, True)) -> ArmLayers | None:
    """Cut the arms that key points move out of the picture, to be laid over the frames.

    Of hands that are not surely there, or touch the face or an arm, nothing whole could be cut: they stay. Hands that
    touch each other alone are laid as one, if both are moved. None where nothing is laid, and for models that do not
    move the picture's own pixels. moved: whether the left and the right hand are.
    """
    from cyberhost_model.driving.speech_gesture import free_hands, joined_hands

    if not preset.traits.relative:
        return None
    (w, h), points = reference.canvas.picture_size, reference.picture_keypoints
    joined = all(moved) and joined_hands(points, w / h, SURE)
    left, right = (True, True) if joined else free_hands(points, w / h, SURE)
    laid = moved[0] and left, moved[1] and right
    if not any(laid):
        return None
    person = person_matte(load_matte_net(), to_pixels(reference.large)[0], reference.keypoints)
    return make_arm_layers(reference.large, reference.keypoints, laid, person)


def keep_hands(
    preset: Preset, reference: Reference, poses: PoseSequence, layers: ArmLayers | None
) -> tuple[PoseSequence, list[str]]:
    """Hide the hands and wrists of poses that the picture shows and that are not laid over the frames: they stay.

    Returns the poses and lines that say so. It is for models that move the picture's own pixels.
    """
    from cyberhost_model.driving.sequence import HANDS

    if not preset.traits.relative:
        return poses, []
    scores, stay = poses.scores().copy(), []
    for side, (laid, moved) in enumerate(zip(_sides(layers), moved_hands(poses), strict=True)):
        if not laid:
            scores[:, HANDS[side]] = 0
            scores[:, WRISTS[side]] = 0
            if moved and reference.keypoints.hands_score[side].min() > VISIBLE:
                stay.append(("left", "right")[side])
    lines = [f"the picture's {side} hand stays: it is not seen whole, or touches something" for side in stay]
    return poses.with_points(poses.points(), scores), lines


def moved_hands(poses: PoseSequence) -> tuple[bool, bool]:
    """Tell whether key points show the left and the right hand in any frame."""
    left, right = (poses.hands_score.min(2) > VISIBLE).any(0)
    return bool(left), bool(right)


def driven_arms(reference: Reference, poses: PoseSequence, layers: ArmLayers | None) -> DrivenArms | None:
    """Lay arms (`cut_arms`) where key points in 0..1 of the picture have them; None where there are none.

    In frames that do not show a hand it is between those that do. After the end of `poses` its last frame is repeated.
    """
    from cyberhost_model.driving.sequence import fill_gaps
    from cyberhost_model.driving.speech_gesture import joined_hands

    if layers is None:
        return None
    track = np.stack([arm_points(reference.on_canvas(k)) for k in poses])
    for side in (0, 1):
        seen = track[:, side, :, 2] > VISIBLE
        seen[:, :ELBOW] = seen[:, :ELBOW].all(1, keepdims=True)
        track[:, side, :, :2], track[:, side, :, 2] = fill_gaps(track[:, side, :, :2], seen), seen.any(0)
    (w, h), points = reference.canvas.picture_size, reference.picture_keypoints
    if all(layers.sides) and joined_hands(points, w / h, SURE):
        own = arm_points(reference.keypoints)[:, :ELBOW, :2]
        track[:, :, :ELBOW, :2] = _as_one(
            own, track[:, :, :ELBOW, :2], reference.canvas.width / reference.canvas.height
        )
    return DrivenArms(layers, lambda first, frames: track[np.arange(first, first + frames).clip(0, len(track) - 1)])


def _as_one(own: np.ndarray, asked: np.ndarray, aspect: float) -> np.ndarray:
    """Move both hands (2, 21, 2) of a picture as one thing to where those of frames (F, 2, 21, 2) are.

    It goes as far as their middle does, and turns a little. aspect: width over height.
    """
    hand, frames = (points[..., 0] * aspect + 1j * points[..., 1] for points in (own, asked))
    middle, middles = hand.mean(), frames.mean((1, 2))[:, None, None]
    turn = np.angle(((hand - middle).conj() * (frames - middles)).sum((1, 2)))
    moved = middles + (hand - middle) * np.exp(1j * np.clip(turn, -_TURN, _TURN))[:, None, None]
    return np.stack([moved.real / aspect, moved.imag], -1)


def _sides(layers: ArmLayers | None) -> tuple[bool, bool]:
    return (False, False) if layers is None else layers.sides


def without_arms(keypoints: Keypoints, sides: tuple[bool, bool]) -> Keypoints:
    """Hide the hand and the wrist of the left and of the right arm."""
    hands, body = keypoints.hands_score.copy(), keypoints.body_score.copy()
    for side in (0, 1):
        if sides[side]:
            hands[side], body[WRISTS[side]] = 0, 0
    return replace(keypoints, hands_score=hands, body_score=body)


def skeleton_source(
    preset: Preset,
    reference: Reference,
    poses: PoseSequence,
    parts: tuple[str, ...] = PARTS,
) -> PoseSource:
    """Make a source of key points in 0..1 of the picture: skeleton maps as the preset draws them (section 4.2).

    parts: those of the body that key points drive. Models that move the picture's own pixels are told of no hands: they
    are laid over the frames, or stay. After the end of `poses` its last frame is repeated.
    """
    like = reference.control_maps  # not the network, which may be offloaded to the CPU while the codec computes
    shut = blinks_of(poses.face * np.array(reference.canvas.picture_size, np.float32), poses.face_score)
    draw, latent_size = POSE_MAPS[preset.pose_maps], tuple(reference.latent.shape[-2:])

    def source(first: int, frames: int) -> PoseCondition:
        places = (min(i, len(poses) - 1) for i in range(first, first + frames))
        points = [reference.on_canvas(poses.frame(i)) for i in places]
        if preset.traits.relative:
            points = [without_arms(k, (True, True)) for k in points]
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

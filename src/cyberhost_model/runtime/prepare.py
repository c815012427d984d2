"""The reference picture as every clip of a video needs it: fitted, coded, described. Made once a video."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cyberhost_model.codecs.close_up import FACES, SIDE, CloseUp, enlarge
from cyberhost_model.conditions.pose_maps import skeleton_map
from cyberhost_model.media.image import Canvas, fit_canvas, place
from cyberhost_model.model.condition_encoders import ARCFACE_DIM
from cyberhost_model.model.conditions import Conditions, ReferenceInputs
from cyberhost_model.perception.crops import HEAD_FACES, face_crop, hand_crops
from cyberhost_model.perception.detector import measure_lip_gap
from cyberhost_model.perception.face_controls import MOUTH, face_control_maps
from cyberhost_model.perception.geometry import face_height
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints, without_hands
from cyberhost_model.runtime.loading import Model

LARGEST = 512  # default side of the video's square of equal area; smaller pictures are not enlarged
HEAD_ONLY = 0.4  # a face from this share of the picture's height on, without shoulders and hands, is a head alone


@dataclass
class Reference:
    """canvas: where the picture lies in the network's input; scale: how much larger the video is; keypoints: in 0..1
    of the canvas, those of `picture_keypoints` in 0..1 of the picture. small, large: (1, 3, H, W) in -1..1; latent (1,
    C, h, w); control_maps (1, controls, h, w). lip_gap: how far the lips are apart, in face heights, see
    `measure_lip_gap`.
    """

    canvas: Canvas
    scale: int
    picture_keypoints: Keypoints
    keypoints: Keypoints
    small: Tensor
    large: Tensor
    latent: Tensor
    control_maps: Tensor
    close_up: CloseUp | None
    conditions: Conditions
    lip_gap: float = 0.0

    @property
    def video_size(self) -> tuple[int, int]:
        """(W, H) of the video in pixels."""
        w, h = self.canvas.picture_size
        return w * self.scale, h * self.scale

    @property
    def large_canvas(self) -> Canvas:
        """The canvas at the video's size."""
        return enlarged(self.canvas, self.scale)

    def on_canvas(self, keypoints: Keypoints) -> Keypoints:
        """Key points in 0..1 of the picture -> in 0..1 of the canvas."""
        return on_canvas(keypoints, self.canvas)


@torch.inference_mode()
def prepare_reference(
    model: Model, picture_u8: np.ndarray, keypoints: Keypoints, size: int | None, head: bool
) -> Reference:
    """Fit the picture and say everything about it that does not change.

    `size`: side in pixels of a square of the video's area (default: the picture's own, at most 512). `head`: hands are
    left out (A2V-H, section 4.2: no hand codebook attention).
    """
    preset = model.network.preset
    h, w = picture_u8.shape[:2]
    canvas = fit_canvas((w, h), area=preset.size[0] * preset.size[1])
    wanted = min(LARGEST, round((w * h) ** 0.5)) if size is None else size
    scale = max(1, round(wanted / (canvas.picture_width * canvas.picture_height) ** 0.5))
    placed, moved = place(picture_u8, canvas), on_canvas(keypoints, canvas)
    like = model.network
    small, large = to_input(placed, like), to_input(place(picture_u8, enlarged(canvas, scale)), like)
    factor = preset.latent_factor
    control_maps = to_maps(face_control_maps(moved, (canvas.height // factor, canvas.width // factor)), like)
    latent = model.codec.encode_reference(small, control_maps)
    inputs = ReferenceInputs(
        latent,
        to_maps(skeleton_map(moved, canvas.size), like),
        to_maps(_face(model, placed, moved), like),
        to_maps(hand_crops(placed, moved), like),
        None if model.image is None else model.image(small).to(like.dtype),
    )
    conditions = model.network.reference_conditions(inputs)
    if head:
        conditions = replace(conditions, regions=("face",))
    close_up = close_up_of(large, moved, factor) if preset.control_channels and control_maps.any() else None
    lip_gap = measure_lip_gap(model.detector, keypoints, (w, h))
    return Reference(canvas, scale, keypoints, moved, small, large, latent, control_maps, close_up, conditions, lip_gap)


def close_up_of(picture: Tensor, keypoints: Keypoints, factor: int) -> CloseUp:
    """The mouth of `picture` (1, 3, H, W), whose key points are in 0..1, as a codec with latents of 1 / `factor` reads
    it.
    """
    size = np.array(picture.shape[:-3:-1], np.float32)  # W, H
    face = keypoints.face * size
    side = max(1, round(FACES * face_height(face)))
    corner = np.round(face[MOUTH].mean(0) - side / 2)
    within = keypoints.map(lambda p: ((p * size - corner) / side).astype(np.float32))
    control_maps = to_maps(face_control_maps(within, (SIDE // factor, SIDE // factor)), picture)
    return enlarge(picture, (int(corner[0]), int(corner[1])), side, control_maps)


def _face(model: Model, placed: np.ndarray, keypoints: Keypoints) -> np.ndarray:
    """What describes the face: its crop, or ArcFace's numbers, zeros where they cannot be had."""
    if not model.network.preset.takes_arcface:
        return face_crop(placed, keypoints)
    return np.zeros(ARCFACE_DIM, np.float32) if model.face is None else model.face(placed)


def to_input(picture_u8: np.ndarray, like: torch.nn.Module) -> Tensor:
    """uint8 (H, W, 3) -> (1, 3, H, W) in -1..1, where and as `like` computes."""
    tensor = torch.from_numpy(np.ascontiguousarray(picture_u8)).permute(2, 0, 1)[None]
    return tensor.to(like.device, like.dtype) / 127.5 - 1


def to_maps(array: np.ndarray, like: torch.nn.Module | Tensor) -> Tensor:
    """An array with a batch axis in front, where and as `like` computes or is."""
    return torch.from_numpy(np.ascontiguousarray(array))[None].to(like.device, like.dtype)


def on_canvas(keypoints: Keypoints, canvas: Canvas) -> Keypoints:
    """Key points in 0..1 of the picture -> in 0..1 of the canvas it lies on."""
    share = np.array([canvas.picture_width / canvas.width, canvas.picture_height / canvas.height], np.float32)
    corner = np.array([canvas.left / canvas.width, canvas.top / canvas.height], np.float32)
    return keypoints.map(lambda p: (p * share + corner).astype(np.float32))


def enlarged(canvas: Canvas, scale: int) -> Canvas:
    """The same placement, `scale` times as large."""
    sides = ("width", "height", "left", "top", "picture_width", "picture_height")
    return replace(canvas, **{s: getattr(canvas, s) * scale for s in sides}, scale=canvas.scale * scale)


def shows_only_a_head(keypoints: Keypoints) -> bool:
    """Whether there is nothing but a head to animate: no hand, no pair of shoulders, a face of 0.4 of the picture's
    height or more (brows to chin).
    """
    low, high = keypoints.face.min(0), keypoints.face.max(0)
    shoulders = (
        min(keypoints.body_score[2], keypoints.body_score[5]) > VISIBLE and keypoints.body[[2, 5], 1].max() < 1.0
    )
    return bool(keypoints.hands_score.max() < VISIBLE and not shoulders and high[1] - low[1] >= HEAD_ONLY)


def head_crop(picture_u8: np.ndarray, keypoints: Keypoints) -> tuple[np.ndarray, Keypoints]:
    """The head with some shoulder (A2V-H, section 4.2): a square of 2.64 face heights, as far as the picture reaches.

    Hands are left out.
    """
    h, w = picture_u8.shape[:2]
    face = keypoints.face * [w, h]
    low, high = face.min(0), face.max(0)
    side = min(HEAD_FACES * float(high[1] - low[1]), w, h)
    x0, y0 = np.clip((low + high) / 2 - [side / 2, side * 0.52], 0, [w - side, h - side]).round().astype(int)
    side = int(side)
    scale, shift = np.array([w / side, h / side], np.float32), np.array([x0 / side, y0 / side], np.float32)
    return picture_u8[y0 : y0 + side, x0 : x0 + side], without_hands(
        keypoints.map(lambda p: (p * scale - shift).astype(np.float32))
    )

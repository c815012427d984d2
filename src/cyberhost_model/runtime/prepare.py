"""Preparation of the reference picture, once a video: it is fitted to the network's input, encoded and described."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from cyberhost_model.codecs.close_up import EYES, MOUTH, SIDE, CloseUp, Part, make_close_up
from cyberhost_model.conditions.face_region import audio_masks
from cyberhost_model.conditions.pose_maps import skeleton_map
from cyberhost_model.config import Preset
from cyberhost_model.media.colour import is_grey
from cyberhost_model.media.image import Canvas, fit_canvas, place
from cyberhost_model.model.condition_encoders import ARCFACE_DIM
from cyberhost_model.model.conditions import Conditions, ReferenceInputs, level_sizes
from cyberhost_model.perception.crops import HEAD_FACES, face_crop, half_body_box, hand_crops
from cyberhost_model.perception.detector import measure_lip_gap
from cyberhost_model.perception.face_controls import face_control_maps
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints, without_hands
from cyberhost_model.runtime.loading import Model

DEFAULT_SIDE = 768
"""Largest default side, in pixels, of a square of the video's area."""
HEAD_ONLY_SHARE = 0.4
"""Share of the picture's height from which on a face, without shoulders and hands, is a head alone."""

PORTRAIT_SHARE = 0.3
"""The same share below which a picture is cropped for models of heads; `head_crop` makes it 0.38."""

HALF_BODY_SHARE = 0.8
"""Share of the picture's area up to which its half body is cropped for models that were trained on half bodies."""


@dataclass(frozen=True)
class HalfBody:
    """What of a picture lies in the square about a half body (`perception.crops.half_body_box`)."""

    picture: np.ndarray
    """uint8 (h, w, 3): as high as the square, and no wider."""
    keypoints: Keypoints
    """In 0..1 of it."""
    square: tuple[float, float]
    """Left edge and width of the square in 0..1 of its width."""


@dataclass
class Reference:
    """A picture as every clip of a video needs it."""

    canvas: Canvas
    """Position of the picture in the network's input."""
    scale: float
    """Factor from the network's input to the video, in quarters."""
    picture_keypoints: Keypoints
    """In 0..1 of the picture."""
    keypoints: Keypoints
    """The same in 0..1 of the canvas."""
    small: Tensor
    """(1, 3, H, W) in -1..1: the canvas at the network's size."""
    large: Tensor
    """(1, 3, H * scale, W * scale) in -1..1, float32: the canvas at the video's size."""
    latent: Tensor
    """(1, C, h, w)."""
    control_maps: Tensor
    """(1, controls, h, w): positions of mouth and eyes (`face_control_maps`)."""
    close_ups: tuple[CloseUp, ...]
    """Mouth and eyes of `large`, for codecs with control channels and pictures with a face."""
    conditions: Conditions
    lip_gap: float = 0.0
    """Gap of the lips in face heights (`measure_lip_gap`)."""
    grey: bool = False
    """The picture has no colour, so no frame has any."""
    square: tuple[float, float] = (0.0, 1.0)
    """Left edge and width, in 0..1 of the picture's, of the square that EchoMimicV2's poses lie in (`HalfBody`)."""

    @property
    def video_size(self) -> tuple[int, int]:
        """(W, H) of the video in pixels."""
        return self.large_canvas.picture_size

    @property
    def large_canvas(self) -> Canvas:
        """Canvas at the video's size."""
        return scale_canvas(self.canvas, self.scale)

    def on_canvas(self, keypoints: Keypoints) -> Keypoints:
        """Convert key points from 0..1 of the picture to 0..1 of the canvas."""
        return on_canvas(keypoints, self.canvas)


@torch.inference_mode()
def prepare_reference(
    model: Model, picture_u8: np.ndarray, keypoints: Keypoints, size: int | None, head: bool, alone: bool = False
) -> Reference:
    """Fit a picture to the network's input, encode it and compute its conditions.

    picture_u8: uint8 (H, W, 3); keypoints: in 0..1 of it. size: side in pixels of a square of the video's area, by
    default the picture's own, at most 768, and twice the working size where the picture is a little less than that.
    head: leave the hands out (A2V-H, section 4.2: no hand codebook attention). alone: describe the face of `keypoints`
    though larger ones may be in the picture.
    """
    preset, network = model.network.preset, model.network
    h, w = picture_u8.shape[:2]
    canvas = fit_canvas((w, h), area=preset.size[0] * preset.size[1])
    working = (canvas.picture_width * canvas.picture_height) ** 0.5
    if size is None:
        quarters = int(4 * min(DEFAULT_SIDE, (w * h) ** 0.5) / working + 0.02)
        if preset.traits.relative and 4 < quarters < 8:  # a picture that is moved on few pixels gets soft
            quarters = 8
    else:
        quarters = round(4 * size / working)
    scale = max(4, quarters) / 4

    placed, placed_keypoints = place(picture_u8, canvas), on_canvas(keypoints, canvas)
    small = to_input(placed, network, network.dtype)
    large = to_input(place(picture_u8, scale_canvas(canvas, scale)), network, torch.float32)
    factor = preset.latent_factor
    latent_size = (canvas.height // factor, canvas.width // factor)
    control_maps = to_maps(face_control_maps(placed_keypoints, latent_size), network)
    latent = model.codec.encode_reference(small, control_maps)
    lip_gap = measure_lip_gap(model.detector, keypoints, (w, h))
    inputs = ReferenceInputs(
        reference_latent=latent,
        reference_pose=to_maps(skeleton_map(placed_keypoints, canvas.size), network),
        face=to_maps(
            _describe_face(model, picture_u8, placed, placed_keypoints, keypoints if alone else None), network
        ),
        hands=to_maps(hand_crops(placed, placed_keypoints), network),
        lip_gap=torch.tensor([lip_gap], device=network.device, dtype=network.dtype) if preset.face_state else None,
        image=None if model.image is None else model.image(small).to(network.dtype),
        audio_masks=_draw_audio_masks(preset, placed_keypoints, canvas, latent_size, network),
    )
    conditions = network.reference_conditions(inputs)
    if head:
        conditions = replace(conditions, regions=("face",))

    return Reference(
        canvas=canvas,
        scale=scale,
        picture_keypoints=keypoints,
        keypoints=placed_keypoints,
        small=small,
        large=large,
        latent=latent,
        control_maps=control_maps,
        close_ups=face_close_ups(large, placed_keypoints, factor) if preset.control_channels else (),
        conditions=conditions,
        lip_gap=lip_gap,
        grey=is_grey(picture_u8),
    )


def face_close_ups(picture: Tensor, keypoints: Keypoints, factor: int) -> tuple[CloseUp, ...]:
    """Crop and enlarge mouth and eyes of `picture`, see `face_close_up`; none where no face is seen."""
    parts = (MOUTH, EYES) if keypoints.face_score.max() > VISIBLE else ()
    return tuple(face_close_up(picture, part, keypoints, factor) for part in parts)


def face_close_up(picture: Tensor, part: Part, keypoints: Keypoints, factor: int) -> CloseUp:
    """Crop and enlarge a part of the face of `picture` (1, 3, H, W), whose key points are in 0..1.

    factor: pixels of the codec's latent cell, along one side.
    """
    size = np.array(picture.shape[:-3:-1], np.float32)  # W, H
    corner, side = part.square(keypoints.face * size)
    corner, side = np.round(corner), max(1, round(side))
    in_square = keypoints.map(lambda points: ((points * size - corner) / side).astype(np.float32))
    control_maps = to_maps(face_control_maps(in_square, (SIDE // factor, SIDE // factor)), picture)
    return make_close_up(picture, part, (int(corner[0]), int(corner[1])), side, control_maps)


def _describe_face(
    model: Model, picture_u8: np.ndarray, placed: np.ndarray, keypoints: Keypoints, chosen: Keypoints | None
) -> np.ndarray:
    """Describe the face by its crop, or by ArcFace where the preset takes it; zeros where ArcFace is not available.

    Hallo (`portrait`) describes the picture as it was given. ArcFace takes the largest face it finds; with `chosen`,
    key points in 0..1 of the picture, it sees their head alone.
    """
    preset = model.network.preset
    if not preset.takes_arcface:
        return face_crop(placed, keypoints)
    if model.face is None:
        return np.zeros(ARCFACE_DIM, np.float32)
    if chosen is not None:
        return model.face.describe(head_crop(picture_u8, chosen)[0])
    return model.face.describe(placed if preset.portrait is None else picture_u8)


def _draw_audio_masks(
    preset: Preset, keypoints: Keypoints, canvas: Canvas, latent_size: tuple[int, int], like: torch.nn.Module
) -> Tensor | None:
    """Draw the masks of the audio attentions, for presets with `portrait`."""
    if preset.portrait is None:
        return None
    return to_maps(audio_masks(keypoints, canvas.size, level_sizes(preset, latent_size)), like)


def to_input(picture_u8: np.ndarray, like: torch.nn.Module, dtype: torch.dtype) -> Tensor:
    """Convert uint8 (H, W, 3) to (1, 3, H, W) in -1..1, on the device of `like`."""
    tensor = torch.from_numpy(np.ascontiguousarray(picture_u8)).permute(2, 0, 1)[None]
    return tensor.to(like.device, dtype) / 127.5 - 1


def to_pixels(frames: Tensor) -> np.ndarray:
    """Convert frames (N, 3, H, W) in -1..1 to uint8 (N, H, W, 3)."""
    colours = frames.float().permute(0, 2, 3, 1).cpu().contiguous().numpy()
    pixels = cv2.addWeighted(colours.reshape(1, -1), 127.5, colours.reshape(1, -1), 0, 127.5, dtype=cv2.CV_8U)
    return pixels.reshape(colours.shape)  # OpenCV rounds and limits in the same pass


def to_maps(array: np.ndarray, like: torch.nn.Module | Tensor) -> Tensor:
    """Add a batch axis in front of an array, on the device and in the precision of `like`."""
    return torch.from_numpy(np.ascontiguousarray(array))[None].to(like.device, like.dtype)


def on_canvas(keypoints: Keypoints, canvas: Canvas) -> Keypoints:
    """Convert key points from 0..1 of the picture to 0..1 of the canvas it is placed on."""
    share = np.array([canvas.picture_width / canvas.width, canvas.picture_height / canvas.height], np.float32)
    corner = np.array([canvas.left / canvas.width, canvas.top / canvas.height], np.float32)
    return keypoints.map(lambda points: (points * share + corner).astype(np.float32))


def scale_canvas(canvas: Canvas, factor: float) -> Canvas:
    """Multiply a canvas and the picture on it by a whole number of quarters; the picture's sides stay even."""
    width, height = round(canvas.width * factor), round(canvas.height * factor)
    picture_width, picture_height = (2 * round(side * factor / 2) for side in canvas.picture_size)
    left, top = (width - picture_width) // 2, (height - picture_height) // 2
    return Canvas(width, height, left, top, picture_width, picture_height, canvas.scale * factor)


def shows_only_a_head(keypoints: Keypoints) -> bool:
    """Return whether a picture shows a head alone, for A2V-H.

    No hand, not both shoulders, and a face (brows to chin) of at least 0.4 of the picture's height.
    """
    low, high = keypoints.face.min(0), keypoints.face.max(0)
    shoulders = (
        min(keypoints.body_score[2], keypoints.body_score[5]) > VISIBLE and keypoints.body[[2, 5], 1].max() < 1.0
    )
    return bool(keypoints.hands_score.max() < VISIBLE and not shoulders and high[1] - low[1] >= HEAD_ONLY_SHARE)


def shows_more_than_a_head(picture_u8: np.ndarray, keypoints: Keypoints) -> bool:
    """Return whether a face (brows to chin) is too small for models of heads: below 0.3 of the picture's shorter side.

    uint8 (H, W, 3); key points in 0..1 of it.
    """
    h, w = picture_u8.shape[:2]
    return bool(np.ptp(keypoints.face[:, 1]) * h < PORTRAIT_SHARE * min(h, w))


def half_body_crop(picture_u8: np.ndarray, keypoints: Keypoints) -> HalfBody | None:
    """Crop the half body as EchoMimicV2's notebook does; None without a face and shoulders.

    Where the square reaches outside the picture, its notebook fills it with black; this ends with the picture.
    """
    h, w = picture_u8.shape[:2]
    if (box := half_body_box(keypoints, (w, h))) is None:
        return None
    x0, y0, x1, y1 = (round(side) for side in box)
    left, right = max(x0, 0), min(x1, w)
    if y1 - y0 < 2 or right - left < 2:
        return None
    size, corner = np.array([right - left, y1 - y0]), np.array([left, y0])
    moved = keypoints.map(lambda points: ((points * [w, h] - corner) / size).astype(np.float32))
    square = ((x0 - left) / (right - left), (x1 - x0) / (right - left))
    return HalfBody(picture_u8[y0:y1, left:right], moved, square)


def head_crop(picture_u8: np.ndarray, keypoints: Keypoints) -> tuple[np.ndarray, Keypoints]:
    """Crop the head with some shoulder (A2V-H, section 4.2): a square of 2.64 face heights, within the picture.

    Returns uint8 (side, side, 3) and its key points, without hands.
    """
    h, w = picture_u8.shape[:2]
    face = keypoints.face * [w, h]
    low, high = face.min(0), face.max(0)
    side = min(HEAD_FACES * float(high[1] - low[1]), w, h)
    x0, y0 = np.clip((low + high) / 2 - [side / 2, side * 0.52], 0, [w - side, h - side]).round().astype(int)
    side = int(side)
    scale, shift = np.array([w / side, h / side], np.float32), np.array([x0 / side, y0 / side], np.float32)
    cropped = keypoints.map(lambda points: (points * scale - shift).astype(np.float32))
    return picture_u8[y0 : y0 + side, x0 : x0 + side], without_hands(cropped)

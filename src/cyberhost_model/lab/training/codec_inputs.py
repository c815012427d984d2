"""What a codec takes: pictures as tensors, flow and visibility at half size, face controls and close-ups of a clip."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from cyberhost_model.codecs.base import Codec
from cyberhost_model.codecs.close_up import CloseUp
from cyberhost_model.config import codec_traits
from cyberhost_model.lab.synthetic.clips import Clip
from cyberhost_model.perception.face_controls import face_controls
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.runtime.prepare import face_close_ups

CELL = 16  # pixels of a cell of the face controls, along one side


def to_signed(pictures_u8: np.ndarray | Tensor) -> Tensor:
    """Convert pictures uint8 (..., H, W, 3) to float32 (..., 3, H, W) in -1..1."""
    if isinstance(pictures_u8, np.ndarray):
        pictures_u8 = torch.from_numpy(np.ascontiguousarray(pictures_u8))
    return pictures_u8.movedim(-1, -3).float() / 127.5 - 1


def half_size(field: np.ndarray) -> np.ndarray:
    """Average a map (H, W) or (H, W, 2) down to half its size, at which the codec takes flow and visibility."""
    return cv2.resize(field, (field.shape[1] // 2, field.shape[0] // 2), interpolation=cv2.INTER_AREA)


def codec_close_ups(codec: Codec, reference: Tensor, points: Keypoints) -> tuple[CloseUp, ...]:
    """Crop the close-ups of a reference (1, 3, H, W) that decoding a clip with `codec` takes."""
    if not codec_traits(codec.kind).control_channels:
        return ()
    return face_close_ups(reference, points, CELL)


@torch.inference_mode()
def encode_frames(clip: Clip, codec: Codec) -> Tensor:
    """Encode the frames of a clip to latents (T, C, h, w) float16 on the CPU.

    Codecs whose latents stand by themselves get the pictures alone, a few at a time; flow is for the others.
    """
    device, traits = next(codec.parameters()).device, codec_traits(codec.kind)
    if not traits.relative:
        none = torch.zeros(0, device=device)
        parts = [clip.frames[i : i + codec.frames_at_once] for i in range(0, len(clip.frames), codec.frames_at_once)]
        pictures = (to_signed(np.stack([f.picture_u8 for f in part])).to(device) for part in parts)
        return torch.cat([codec.encode(some[None], none, none, none, none)[0].half().cpu() for some in pictures])
    frames = to_signed(np.stack([f.picture_u8 for f in clip.frames])).to(device)
    flow = torch.from_numpy(np.stack([half_size(f.flow) for f in clip.frames])).movedim(-1, -3).to(device)
    seen = torch.from_numpy(np.stack([half_size(f.seen) for f in clip.frames]))[:, None].to(device)
    points, cells = clip.reference.keypoints, (frames.shape[-2] // CELL, frames.shape[-1] // CELL)
    controls = torch.from_numpy(face_controls(points, clip.keypoints(), cells)).to(device)
    reference = to_signed(clip.reference.picture_u8)[None].to(device)
    close_ups = codec_close_ups(codec, reference, points)
    return codec.encode(frames[None], flow[None], seen[None], controls[None], reference, close_ups)[0].half().cpu()

"""Backdrop: what is behind the hands and forearms of a picture, as far as what is around them tells.

A latent says well where a hand has been that is elsewhere now, and hardly what is seen there. That is taken from the
picture with its hands filled in.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from cyberhost_model.perception.hands import ELBOWS, WRISTS
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

_RIM = 0.35  # of a hand's mask beyond its points, in palms: half-transparent outlines do not stay
_FOREARM = 0.8  # palms, the width of a forearm
_PALM = [0, 9]  # of a hand's 21 points: wrist and middle knuckle
_SOFT = 2.5  # pixels, deviation of the mask's edge


@dataclass(frozen=True)
class Backdrop:
    """The picture without its hands, and where they are."""

    colour: Tensor
    """(1, 3, H, W) in -1..1."""
    share: Tensor
    """(1, 1, H, W) in 0..1: 1 on hands and forearms."""


def make_backdrop(picture: Tensor, keypoints: Keypoints) -> Backdrop | None:
    """Fill in the hands and forearms of a picture (1, 3, H, W) in -1..1; None where it shows no hand.

    keypoints: in 0..1 of it.
    """
    h, w = picture.shape[-2:]
    hole = _hands_mask(keypoints, (w, h))
    if not hole.any():
        return None
    pixels = ((picture[0].float().permute(1, 2, 0).cpu().numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    colour = torch.from_numpy(fill_hole(pixels, hole)).permute(2, 0, 1)[None].to(picture) / 127.5 - 1
    share = torch.from_numpy(cv2.GaussianBlur(hole, (0, 0), _SOFT))[None, None].to(picture)
    return Backdrop(colour, share)


def _hands_mask(keypoints: Keypoints, size: tuple[int, int]) -> np.ndarray:
    """Mark hands and forearms in a picture of `size` (W, H), float32 (H, W)."""
    mask = np.zeros(size[::-1], np.float32)
    body, visible = keypoints.body * size, keypoints.body_score > VISIBLE
    for hand, score, elbow, wrist in zip(keypoints.hands * size, keypoints.hands_score, ELBOWS, WRISTS, strict=True):
        if score[_PALM].min() <= VISIBLE:
            continue
        shown = hand[score > VISIBLE].round().astype(np.int32)
        palm = float(np.linalg.norm(np.subtract(*hand[_PALM])))
        part = np.zeros_like(mask)
        cv2.fillConvexPoly(part, cv2.convexHull(shown), 1.0)
        rim = max(1, round(_RIM * palm))
        mask = np.maximum(mask, cv2.dilate(part, np.ones((2 * rim + 1, 2 * rim + 1))))
        if visible[elbow] and visible[wrist]:
            start, end = body[[elbow, wrist]].round().astype(int).tolist()
            cv2.line(mask, start, end, 1.0, max(1, round(_FOREARM * palm)))
    return mask


def fill_hole(picture_u8: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Inpaint the hole (float mask) of a picture, at a quarter of the size: it is mostly hidden."""
    h, w = hole.shape
    small = cv2.resize(picture_u8, (w // 4, h // 4), interpolation=cv2.INTER_AREA)
    mask = (cv2.resize(cv2.dilate(hole, np.ones((7, 7))), (w // 4, h // 4)) > 0.05).astype(np.uint8)
    if mask.all():
        return picture_u8
    filled = cv2.resize(cv2.inpaint(small, mask, 3, cv2.INPAINT_TELEA), (w, h), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(cv2.dilate(hole, np.ones((7, 7))), (0, 0), 1.5)[..., None]
    return np.clip(picture_u8 * (1 - soft) + filled * soft, 0, 255).astype(np.uint8)

"""Face controls: how far lips and lids are from where the reference has them, as low maps on the latent's grid.

A mouth in a half-body picture is a latent cell wide. Speech determines one or two numbers of it, so the reference codec
carries those numbers beside its flow: the denoiser predicts "this far open, about here", and the decoder, which sees
the reference in full, parts the lips there.
"""

from __future__ import annotations

import numpy as np

from cyberhost_model.perception.geometry import down_direction, face_height
from cyberhost_model.perception.keypoints import INNER_LIPS, LIDS, VISIBLE, Keypoints

CONTROLS = ("lips' gap", "mouth's width", "lids' gap")
MOUTH = slice(60, 68)
"""The inner lips among the 68 points."""
_SIGMA = 0.2  # of a control's Gaussian in face heights; at least a cell, so that no place between cells is lost


def face_controls(reference: Keypoints, frames: list[Keypoints], hw: tuple[int, int]) -> np.ndarray:
    """Draw the controls of each frame: float32 (T, 3, h, w).

    Lips' gap and mouth's width are drawn at the mouth, the lids' gap at both eyes. They are Gaussians whose heights
    are the change against `reference` in shares of its face's height, signed. A frame like the reference is all zero,
    and so is one without a face. `hw` is the latent's size; its cells are square.
    """
    h, w = hw
    out = np.zeros((len(frames), len(CONTROLS), h, w), np.float32)
    if reference.face_score.max() <= VISIBLE:
        return out
    rest = reference.face.astype(np.float32) * [w, h]
    height, own = face_height(rest), _measures(rest)
    for control, k in zip(out, frames, strict=True):
        if k.face_score.max() > VISIBLE:
            face = k.face.astype(np.float32) * [w, h]
            gap, width, left, right = (_measures(face) - own) / height
            mouth, *eyes = _gaussians(face, height, hw)
            control[0], control[1], control[2] = gap * mouth, width * mouth, left * eyes[0] + right * eyes[1]
    return out


def face_control_maps(keypoints: Keypoints, hw: tuple[int, int]) -> np.ndarray:
    """Draw where a picture's controls would stand, as Gaussians of height one: float32 (3, h, w); zero without a face.

    With it the denoiser need not look for lips.
    """
    out = np.zeros((len(CONTROLS), *hw), np.float32)
    if keypoints.face_score.max() > VISIBLE:
        face = keypoints.face.astype(np.float32) * [hw[1], hw[0]]
        mouth, left, right = _gaussians(face, face_height(face), hw)
        out[0] = out[1] = mouth
        out[2] = np.maximum(left, right)
    return out


def _gaussians(face: np.ndarray, height: float, hw: tuple[int, int]) -> list[np.ndarray]:
    """Gaussians of height one at the mouth, the left and the right eye of 68 points in cells."""
    y, x = np.mgrid[: hw[0], : hw[1]].astype(np.float32) + 0.5

    def gaussian(points: np.ndarray, sigma: float) -> np.ndarray:
        cx, cy = points.mean(0)
        return np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * max(1.0, sigma * height) ** 2)).astype(np.float32)

    return [gaussian(face[MOUTH], _SIGMA), gaussian(face[36:42], _SIGMA / 2), gaussian(face[42:48], _SIGMA / 2)]


def lips_gap(face: np.ndarray) -> float:
    """Measure the gap between the inner lips of 68 points (68, 2), in heights of their face.

    It is about 0 where they meet, and a little below where they cross.
    """
    return float(_measures(face)[0]) / face_height(face)


def mouth_width(face: np.ndarray) -> float:
    """Measure the mouth's width between its outer corners of 68 points (68, 2), in heights of their face."""
    return float(_measures(face)[1]) / face_height(face)


def lids_gap(face: np.ndarray) -> float:
    """Measure the mean gap between the lids of 68 points (68, 2), in heights of their face."""
    return float(_measures(face)[2:].mean()) / face_height(face)


def _measures(face: np.ndarray) -> np.ndarray:
    """Lips' gap, mouth's width and both lids' gaps of 68 points, along the direction from the brows to the chin."""
    down = down_direction(face)

    def gap(pairs: tuple[tuple[int, int], ...]) -> float:
        return float(np.mean([(face[low] - face[high]) @ down for high, low in pairs]))

    return np.array([gap(INNER_LIPS), np.linalg.norm(face[54] - face[48]), *(gap(p) for p in LIDS)], np.float32)

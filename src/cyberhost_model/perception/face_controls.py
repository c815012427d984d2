"""Face controls: how far lips and lids are from where the reference has them, as low maps on the latent's grid.

A mouth in a half-body picture is a latent cell wide. What speech says of it is a number or two, so the reference codec
carries those numbers beside its flow: the denoiser has only to say "this far open, about here", and the decoder, which
sees the reference in full, parts the lips where they are.
"""

from __future__ import annotations

import numpy as np

from cyberhost_model.perception.geometry import face_height, upright
from cyberhost_model.perception.keypoints import VISIBLE, Keypoints

CONTROLS = ("lips' gap", "mouth's width", "lids' gap")
_INNER_LIPS = ((61, 67), (62, 66), (63, 65))
_LIDS = (((37, 41), (38, 40)), ((43, 47), (44, 46)))
MOUTH = slice(60, 68)
"""The inner lips among the 68 points."""
_SPREAD = 0.2  # deviation of a control's bell in face heights; at least a cell, so that no place between cells is lost


def face_controls(reference: Keypoints, frames: list[Keypoints], hw: tuple[int, int]) -> np.ndarray:
    """float32 (T, 3, h, w): bells at the mouth (lips' gap, mouth's width) and at both eyes (lids' gap) of each frame.

    Their heights are the change against `reference` in shares of its face's height, signed; a frame like the reference
    is all zero, and so is one without a face (scores up to 0.3). `hw` is the latent's size; its cells are square.
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
            mouth, *eyes = _bells(face, height, hw)
            control[0], control[1], control[2] = gap * mouth, width * mouth, left * eyes[0] + right * eyes[1]
    return out


def face_control_maps(keypoints: Keypoints, hw: tuple[int, int]) -> np.ndarray:
    """float32 (3, h, w): where a picture's controls would stand, bells of height one; zero without a face.

    With it the denoiser need not look for lips.
    """
    out = np.zeros((len(CONTROLS), *hw), np.float32)
    if keypoints.face_score.max() > VISIBLE:
        face = keypoints.face.astype(np.float32) * [hw[1], hw[0]]
        mouth, left, right = _bells(face, face_height(face), hw)
        out[0] = out[1] = mouth
        out[2] = np.maximum(left, right)
    return out


def _bells(face: np.ndarray, height: float, hw: tuple[int, int]) -> list[np.ndarray]:
    """Bells of height one at the mouth, the left and the right eye of 68 points in cells."""
    y, x = np.mgrid[: hw[0], : hw[1]].astype(np.float32) + 0.5

    def bell(points: np.ndarray, spread: float) -> np.ndarray:
        cx, cy = points.mean(0)
        return np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * max(1.0, spread * height) ** 2)).astype(np.float32)

    return [bell(face[MOUTH], _SPREAD), bell(face[36:42], _SPREAD / 2), bell(face[42:48], _SPREAD / 2)]


def lips_gap(face: np.ndarray) -> float:
    """How far the inner lips of 68 points (68, 2) are apart, in heights of their face; about 0 where they meet, and a
    little below where they cross.
    """
    return float(_measures(face)[0]) / face_height(face)


def _measures(face: np.ndarray) -> np.ndarray:
    """Lips' gap, mouth's width and both lids' gaps of 68 points, along the face's own upright."""
    down = upright(face)
    gap = lambda pairs: float(np.mean([(face[b] - face[a]) @ down for a, b in pairs]))  # noqa: E731
    return np.array([gap(_INNER_LIPS), np.linalg.norm(face[54] - face[48]), *(gap(p) for p in _LIDS)], np.float32)

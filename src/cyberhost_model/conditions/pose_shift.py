"""Pose shift: how far a frame's key points are from the reference's, as maps twice as fine as the latent's grid.

A drawn skeleton shows where a body is; to move a picture by it, a network has to find the same limb in the reference
and take the difference, to less than a pixel. A small network does not learn that; the key points are known on both
sides, so the difference is given. Beside it is said where in the reference what moves comes from: something else is
seen there now.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from cyberhost_model.conditions.pose_maps import LIMBS, PARTS
from cyberhost_model.perception.face_controls import CONTROLS, face_control_maps, face_controls
from cyberhost_model.perception.keypoints import LIPS, VISIBLE, Keypoints

FINE = 2
"""Places of a map in a latent cell, along one side: fingers are finer than a cell."""
MAPS = 3 + len(CONTROLS) + 1 + 3
"""Shift in x and in y, how near a key point is; the face controls; where these are known; shift in x and in y, and how
near a key point is, where the reference has it.
"""
_SIGMA = 0.8  # of a point's Gaussian, in cells of the maps
_UNIT = 4.0  # units from place to place, so that a motion of a few pixels is of the size of one
_ALONG = np.linspace(0, 1, 5, dtype=np.float32)[:, None]  # where on a limb


def pose_shift(
    reference: Keypoints, frames: list[Keypoints], hw: tuple[int, int], parts: Collection[str] = PARTS
) -> np.ndarray:
    """Draw what takes each frame's key points back to the reference's: float32 (T, 10, 2h, 2w).

    x and y in eighths of a latent cell, weighted by Gaussians about the points near; the Gaussians' largest, 0..1;
    then the face controls (`face_controls`) and, as Gaussians, where they are known: nowhere if the frame's lips are
    hidden; then the same shift and Gaussians about the reference's points. `hw` is the latent's size, its cells
    square; `parts` as in `skeleton_map`.
    """
    h, w = hw = FINE * hw[0], FINE * hw[1]
    grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).reshape(-1, 2).astype(np.float32) + 0.5
    out = np.zeros((len(frames), MAPS, h, w), np.float32)
    rest, rest_visible = _points(reference, parts, (w, h))
    about_rest = _gaussians(grid, rest)
    for maps, k in zip(out, frames, strict=True):
        here, visible = _points(k, parts, (w, h))
        both = visible & rest_visible
        if both.any():
            shift = rest[both] - here[both]
            maps[:3] = _spread(_gaussians(grid, here[both]), shift, (h, w))
            maps[-3:] = _spread(about_rest[:, both], shift, (h, w))
        if "face" in parts and k.face_score[LIPS].min() > VISIBLE and reference.face_score.max() > VISIBLE:
            # lips part by a tenth of a face's height
            maps[3 : 3 + len(CONTROLS)] = 10 * face_controls(reference, [k], hw)[0]
            maps[3 + len(CONTROLS)] = face_control_maps(k, hw)[0]
    return out


def _gaussians(grid: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Compute the Gaussian about each of the points (n, 2) at each place of a grid (m, 2): (m, n)."""
    return np.exp(-((grid[:, None] - points) ** 2).sum(-1) / (2 * _SIGMA**2))


def _spread(gaussians: np.ndarray, shift: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Spread the shift (n, 2) of points by their Gaussians (h w, n), and add the largest of these: (3, h, w)."""
    near = gaussians.max(1)
    mean = gaussians @ shift / (gaussians.sum(1, keepdims=True) + 1e-6) * near[:, None]
    return np.stack([*(_UNIT * mean.T), near]).reshape(3, *hw)


def _points(k: Keypoints, parts: Collection[str], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Places on limbs, hands and face (n, 2) in cells, and which of them are visible."""
    points, visible = [], []
    if "body" in parts:
        a, b = np.array(LIMBS).T
        points.append((k.body[a][:, None] * (1 - _ALONG) + k.body[b][:, None] * _ALONG).reshape(-1, 2))
        visible.append(np.repeat(np.minimum(k.body_score[a], k.body_score[b]) > VISIBLE, len(_ALONG)))
    for part, place, score in (("hands", k.hands, k.hands_score), ("face", k.face, k.face_score)):
        if part in parts:
            points.append(place.reshape(-1, 2))
            visible.append(score.reshape(-1) > VISIBLE)
    return np.concatenate(points).astype(np.float32) * np.asarray(size, np.float32), np.concatenate(visible)

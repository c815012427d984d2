"""Boxes (x0, y0, x1, y1) in pixels: how much they overlap, and which of many overlapping ones stay."""

from __future__ import annotations

import numpy as np

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1)."""


def intersection_over_union(box: np.ndarray, others: np.ndarray, pixel: float = 0.0) -> np.ndarray:
    """Intersection over union of `box` (4,) with each of `others` (n, 4).

    `pixel` 1: a box includes its last pixel, as older detectors count.
    """
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:4], others[:, 2:4])
    shared = np.maximum(high - low + pixel, 0).prod(1)
    area, areas = (box[2:4] - box[:2] + pixel).prod(), (others[:, 2:4] - others[:, :2] + pixel).prod(1)
    return shared / np.maximum(area + areas - shared, 1e-9)


def best_boxes(boxes: np.ndarray, scores: np.ndarray, most_overlap: float, pixel: float = 0.0) -> np.ndarray:
    """Indices of the boxes that stay, the highest score first: each overlaps no better one by more than `most_overlap`
    (non-maximum suppression).
    """
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        order = order[intersection_over_union(boxes[first], boxes[order], pixel) <= most_overlap]
    return np.array(kept, np.int64)


def intersection_over_smaller(a: Box, b: Box) -> float:
    """Compute the intersection of two boxes over the smaller area: a box inside another has 1."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    least = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(w, 0.0) * max(h, 0.0) / max(least, 1e-6)


def by_area(boxes: np.ndarray) -> np.ndarray:
    """Indices of the boxes (n, 4), the largest first."""
    return np.argsort(-(boxes[:, 2:4] - boxes[:, :2]).prod(1), kind="stable")


def face_height(face: np.ndarray) -> float:
    """From the chin to the brows of 68 points, in their units."""
    return float(np.linalg.norm(face[8] - face[[19, 24]].mean(0))) + 1e-6


def upright(face: np.ndarray) -> np.ndarray:
    """The direction (2,) from the brows to the chin of 68 points, of length one."""
    down = face[8] - face[[19, 24]].mean(0)
    return down / (np.linalg.norm(down) + 1e-6)
